"""Where a loss has kinks, gradient descent is another method: a larger L1 weight can enlarge the weights.

```python
import jax.numpy as jnp, jax.random as jr
from attractor import Minimization, run
from attractor.optim import proximal_gradient

a = jr.normal(jr.key(0), (50, 200))
problem = Minimization(lambda w: 0.5 * jnp.mean((a @ w - a[:, 0]) ** 2), jnp.zeros(200))
trace = run(problem, proximal_gradient(learning_rate=0.05, l1=0.05), steps=500)
print((trace.final[0, 0] != 0).sum(), "of 200 weights are not zero")
```
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from attractor.optim.proximal import proximal_gradient
from attractor.papers.words import Evidence, cached, claim, log_slopes, run, seed, sizes
from attractor.problem import Minimization

WEIGHTS, STEPS = np.geomspace(0.1, 100, 13), (5_000, 50_000)


def _subgradient(learning_rate, l1):
    """Gradient descent on the penalized loss, with the derivative of |w| that automatic differentiation gives."""
    penalized = optax.stateless(lambda g, w: g + l1 * jnp.sign(w))  # pyright: ignore[reportOperatorIssue, reportArgumentType]
    return optax.chain(penalized, optax.sgd(learning_rate))


def _gradient_last(learning_rate, l1):
    """The two half-steps in the wrong order: x' = prox(x) - rate · gradient(x)."""

    def update(g, w):
        return jnp.sign(w) * jnp.maximum(jnp.abs(w) - learning_rate * l1, 0) - learning_rate * g - w

    return optax.stateless(update)  # pyright: ignore[reportArgumentType]


@cached
def _lasso(method, steps):
    """Weights after steps of size 1/L, one row per L1 weight: 500 features, 100 examples, 10 true features."""
    rng = np.random.default_rng(seed())
    a, truth = rng.standard_normal((100, 500)), np.where(np.arange(500) < 10, 1.0, 0.0)
    b = a @ truth + 0.1 * rng.standard_normal(100)
    rate = 1 / np.linalg.norm(a, 2) ** 2
    problem = Minimization(lambda w, data: 0.5 * jnp.sum((data[0] @ w - data[1]) ** 2), jnp.zeros(500),
                           (jnp.asarray(a), jnp.asarray(b)))  # fmt: skip
    trace = run(problem, lambda l1: method(rate, l1), sweep={"l1": WEIGHTS.tolist()}, steps=steps, every=steps)
    return np.stack(trace.final[:, 0])


@claim("sparse regression, step 1/L, L1 weight 0.1 to 100: subgradient steps' L1 norm rises to twice its smallest",
       source="ours", broken={"proximal steps": {"method": proximal_gradient}})  # fmt: skip
def a_larger_penalty_enlarges_the_weights(method=_subgradient, *, scale):
    size = np.abs(_lasso(method, **sizes(scale, steps=STEPS))).sum(1)
    return Evidence(size[-1] / size.min(), at_least=2.0, note=f"smallest at weight {WEIGHTS[size.argmin()]:.2g}")


@claim("sparse regression, larger L1 weight: proximal steps' norm falls, over half are 0 from 1 on; subgradients: none",
       source="ours", broken={"subgradient steps": {"method": _subgradient},
                              "the gradient step after the proximal one": {"method": _gradient_last}})  # fmt: skip
def proximal_steps_prune(method=proximal_gradient, *, scale):
    size = sizes(scale, steps=STEPS)
    w = _lasso(method, **size)
    holds = (np.diff(np.abs(w).sum(1)) <= 1e-5).all() and (_lasso(_subgradient, **size) != 0).all()
    pairs = [(l1, row) for l1, row in zip(WEIGHTS, w, strict=True) if l1 >= 1]
    return Evidence.of_cases({f"weight {l1:.2g}": float(np.mean(x == 0) * holds) for l1, x in pairs}, at_least=0.5)


@claim("|x|: the distance that fixed subgradient steps never undercut grows as a power of the step within 0.1 of 1",
       source="ours", broken={"a smooth bowl": {"loss": lambda x: 0.5 * x**2}}, deterministic=True)  # fmt: skip
def the_floor_is_the_step(loss=jnp.abs):
    rates = np.geomspace(1e-4, 1e-1, 13)
    how = {"sweep": {"learning_rate": rates.tolist()}, "probes": {"x": lambda problem, x, key: x}}
    x = run(Minimization(loss, jnp.asarray(1.2345)), optax.sgd, steps=20_000, every=1, **how)["x"]
    floor = np.abs(x.values[:, 0, -100:]).max(1)
    return Evidence(float(log_slopes(rates, np.maximum(floor, 1e-30))[0]), within=(0.9, 1.1))


@claim("Huber's loss (L = 1), step 3: ends in a bounded cycle of two, with step times curvature / 2 at most 0.5, not 1",
       source="ours", broken={"step below 2": {"rate": 1.5}, "a quadratic": {"loss": lambda x: 0.5 * x**2}},
       deterministic=True)  # fmt: skip
def no_edge_of_stability(loss=optax.losses.huber_loss, rate=3.0):
    probes = {"x": lambda problem, x, key: x, "curvature": lambda problem, x, key: jax.grad(jax.grad(loss))(x)}
    trace = run(Minimization(loss, jnp.asarray(5.3)), optax.sgd(rate), steps=1_000, every=1, probes=probes)
    x, curvature = trace["x"].values[0, 0], trace["curvature"].values[0, 0]
    cycles = np.isfinite(x[-1]) and abs(x[-1] - x[-3]) < 1e-5
    return Evidence(float(curvature[-2:].max() * rate / 2) if cycles else np.inf, at_most=0.5)
