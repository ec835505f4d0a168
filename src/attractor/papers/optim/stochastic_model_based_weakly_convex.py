"""Model-based minimization: subgradient, prox-linear and proximal point steps, one analysis for all three.

```python
import jax
import jax.numpy as jnp
from attractor import Composite, run
from attractor.optim import ModelBased

rows = jax.random.normal(jax.random.key(0), (60, 10))  # measurements of a signal without their signs
intensities = (rows @ jnp.ones(10)) ** 2
problem = Composite(
    lambda x, batch: (batch[0] @ x) ** 2 - batch[1],
    lambda errors: jnp.mean(jnp.abs(errors)),
    init=lambda key: 1.0 + 0.5 * jax.random.normal(key, (10,)),
    data=(rows, intensities), batch_size=1,
)
trace = run(problem, ModelBased(1.0, model="prox_linear"), steps=1_000, seeds=8)
print(trace.last("loss"))  # 0: the signal, up to its sign
```
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from attractor.objectives import Composite
from attractor.optim.model_based import ModelBased
from attractor.optim.stationarity import moreau_gradient
from attractor.papers.words import Evidence, cached, claim, key, log_slopes, mean, run, seed, seeds, sizes

MODELS = ("subgradient", "prox_linear", "prox_point")
DIM, SAMPLES = 10, 60


def _errors(x, batch):
    return (batch[0] @ x) ** 2 - batch[1]


def _size(errors):
    return jnp.mean(jnp.abs(errors))


def _phase_retrieval(outliers, init):
    """Robust phase retrieval, some of its intensities replaced by noise."""
    rng = np.random.default_rng(seed(0))
    rows, signal = rng.standard_normal((SAMPLES, DIM)), np.ones(DIM) / DIM**0.5
    intensities = (rows @ signal) ** 2
    wrong = rng.permutation(SAMPLES)[: round(outliers * SAMPLES)]
    intensities[wrong] = rng.exponential(4.0, len(wrong))
    start = functools.partial(_start, jnp.asarray(signal, dtype=float), init)
    return Composite(_errors, _size, start, (rows, intensities), batch_size=1)


def _start(signal, spread, drawn):
    return signal + spread * jax.random.normal(drawn, (DIM,))


class _ExplicitOuter(ModelBased):
    """The outer function's slope taken at the start of the step, not at its end."""

    def _minimize(self, problem, unravel, x, batch, rate):
        return x - rate * jax.grad(lambda x: problem.loss(x, batch))(x)


class _Uphill(ModelBased):
    """Steps the wrong way."""

    def _minimize(self, problem, unravel, x, batch, rate):
        return x + rate * jax.grad(lambda x: problem.loss(x, batch))(x)


EXPLICIT = {"slope at the start of the step": {"method": _ExplicitOuter}}


@claim(
    "phase retrieval: proximal steps minimize their model plus proximal term to 1e-8, against a fine line search",
    source="ours",
    broken=EXPLICIT,
)
def solves_its_subproblems(method=ModelBased, *, scale):
    rate, n = 0.01, sizes(scale, n=(100, 10_000))["n"]
    rng, excess = np.random.default_rng(seed(0)), {}
    rows, xs, bs = rng.standard_normal((n, DIM)), rng.standard_normal((n, DIM)), rng.exponential(2.0, n)
    with jax.enable_x64(True):
        for model in ("prox_linear", "prox_point"):
            solver = method(rate, model, power=0.0, inner_steps=60)

            def gap(row, b, x, solver=solver, model=model):
                problem = Composite(_errors, _size, x, (row[None], b[None]))
                moved, _ = solver.step(problem, x, jnp.zeros([], jnp.int32), key(0))

                def value(y):
                    plain = (row @ y) ** 2 - b
                    linear = (row @ x) ** 2 - b + 2 * (row @ x) * (row @ (y - x))
                    return jnp.abs(linear if model == "prox_linear" else plain) + jnp.sum((y - x) ** 2) / (2 * rate)

                # Both minimizers lie on the line through x along the row, no farther than the largest slope lets them.
                reach = 4 * rate * jnp.abs(row @ x) + 1e-12
                line = jnp.linspace(-reach, reach, 4_001)
                values = jax.vmap(lambda t: value(x + t * row))(line)
                return value(moved) - values.min()

            gaps = jax.jit(jax.vmap(gap))(jnp.asarray(rows), jnp.asarray(bs), jnp.asarray(xs))
            excess[model] = float(gaps.max())
    return Evidence.of_cases(excess, at_most=1e-8)


def _iterate(problem, x, key):
    return x


@cached
def _flattening(method, model, scale):
    """Horizons, and per seed and horizon the envelope's gradient, averaged over iterates spread over the horizon."""
    problem = _phase_retrieval(0.2, 1.0)
    horizons = sizes(scale, all=((100, 1_000, 10_000), (100, 1_000, 10_000, 100_000)))["all"]
    trace = run(
        problem, functools.partial(method, model=model, power=0.0), steps=horizons[-1], every=20, seeds=seeds(16),
        sweep={"learning_rate": [k**-0.5 for k in horizons]}, probes={"x": _iterate},
    )  # fmt: skip
    iterates = trace["x"].values  # (horizon, seed, step, dim)

    @jax.jit
    @jax.vmap
    def size(x):
        return jnp.linalg.norm(moreau_gradient(lambda y: problem.loss(y, problem.full), x, 1 / 8, steps=4_000))

    found = []
    for of_seeds, horizon in zip(iterates, horizons, strict=True):
        picked = np.linspace(0, horizon // 20, 6).astype(int)[1:]
        found.append(np.asarray(size(of_seeds[:, picked].reshape(-1, DIM))).reshape(len(of_seeds), -1).mean(1))
    return horizons, np.stack(found, 1)


@claim(
    "phase retrieval, outliers, step K^-1/2: the Moreau gradient falls with horizon K, log-log slope at most -0.2",
    source="ours",
    broken={"wrong sign": {"method": _Uphill}},
    reason="steep enough on average, but 16 seeds do not decide the proximal point method's: -0.21 [-0.25, -0.18]",
)
def the_envelope_flattens(method=ModelBased, *, scale):
    """The theory's exponent is -1/4, for all three models."""
    found = {model: _flattening(method, model, scale) for model in MODELS}
    slopes = {model: mean(log_slopes(*measured)) for model, measured in found.items()}
    note = "; ".join(f"{m}: sizes {np.array2string(s.mean(0), precision=3)}" for m, (_, s) in found.items())
    return Evidence.of_cases(slopes, at_most=-0.2, note=note)


@cached
def _tolerance(method, model, scale):
    """Largest over smallest step, of those that solve the problem."""
    rates = np.geomspace(1e-3, 1e3, 25)
    trace = run(
        _phase_retrieval(0.0, 0.3), functools.partial(method, model=model), steps=1_000, every=1_000,
        seeds=seeds(**sizes(scale, n=(5, 50))), sweep={"learning_rate": rates.tolist()},
    )  # fmt: skip
    losses = np.nan_to_num(trace.last("loss").values, nan=np.inf)
    good = rates[np.median(losses, 1) <= 1e-3]
    return good.max() / good.min() if good.size else 0.0


@claim(
    "phase retrieval: prox-linear and proximal point reach 1e-3 over a range of steps 5 times wider than subgradients",
    source="ours",
    broken=EXPLICIT,
    reason="subgradient steps reach a loss of 1e-3 at no step size, so that there is no range to compare with",
)
def proximal_models_tolerate_the_step(method=ModelBased, *, scale):
    ranges = {model: _tolerance(method, model, scale) for model in MODELS}
    note = ", ".join(f"{model}: factor {width:.3g}" for model, width in ranges.items())
    wider = {model: ranges[model] / max(ranges["subgradient"], 1.0) for model in MODELS[1:]}
    solved = {"subgradient steps reach it at some step size": ranges["subgradient"] > 0}
    return Evidence.of_cases(wider, at_least=5.0, given=solved, note=note)
