"""Losses steeper than smooth: gradient descent divided by a power of the gradient's norm does not mind.

```python
import jax.numpy as jnp
import optax
from attractor import Minimization, run
from attractor.optim import normalized_gd

problem = Minimization(lambda x: jnp.sum(jnp.cosh(x)), jnp.array([20.0, -15.0, 3.0]))
for method in (normalized_gd(0.05), optax.sgd(1e-8)):  # 1e-7 diverges
    print(run(problem, method, steps=1_000).last("loss").values)
```
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from attractor.engine import run
from attractor.optim.normalized import normalized_gd
from attractor.papers import Evidence, claim
from attractor.problem import Minimization, norm

SLUG = "generalized-smooth-normalized-gd"
SOLUTION = np.random.default_rng(0).standard_normal(20)
NORM = np.linalg.norm(SOLUTION)


@functools.cache
def _phase_retrieval():
    """Find w from (a_i · w)²: a quartic, whose curvature grows as the gradient to the power 2/3."""
    rng = np.random.default_rng(1)
    a, start = rng.standard_normal((100, 20)), 10 * rng.standard_normal(20)
    rows, squares = jnp.asarray(a), jnp.asarray((a @ SOLUTION) ** 2)
    return Minimization(lambda w: jnp.mean(((rows @ w) ** 2 - squares) ** 2) / 4, jnp.asarray(start))


@functools.cache
def _cosh():
    """The curvature grows as the gradient; 20 from the minimum both are above 1e8."""
    return Minimization(lambda x: jnp.sum(jnp.cosh(x)), jnp.linspace(-20.0, 15.0, 20))


@functools.cache
def _sizes(problem, beta, rates, steps):
    """Norm of the gradient at every tenth step, (rates, records)."""
    problem = problem()
    probes = {"size": lambda problem, w, key: norm(jax.grad(problem.loss)(w, None))}
    sweep = {"learning_rate": list(rates)}
    size = run(problem, functools.partial(normalized_gd, beta=beta), sweep=sweep, steps=steps, every=10, probes=probes)
    return np.nan_to_num(size["size"].values[:, 0], nan=np.inf)


def _first(size, target):
    """Steps until the gradient is below the target, or infinite."""
    below = size <= target
    return 10.0 * below.argmax() if below.any() else np.inf


@claim(
    SLUG,
    "phase retrieval from ten times the solution's norm: steps of size ε^β / 2L, L the curvature at the solution, "
    "bring the gradient from above 1e5 to ε = 1 … 1e-3 in a number of steps that grows at most as ε^-2.1",
    broken={"one step size for all": {"shrinks": False}, "no normalization": {"beta": 0.0}},
)
def reaches_any_accuracy(beta=2 / 3, shrinks=True, *, scale):
    targets = np.geomspace(1, 1e-3, 7)
    curvature = float(jnp.linalg.eigvalsh(jax.hessian(lambda w: _phase_retrieval().loss(w, None))(SOLUTION))[-1])
    rates = tuple((targets if shrinks else np.ones(7)) ** (2 / 3) / (2 * curvature))
    sizes = _sizes(_phase_retrieval, beta, rates, 100_000)
    steps = [_first(size, target) for size, target in zip(sizes, targets, strict=True)]
    note = f"steps {', '.join(f'{s:.0f}' for s in steps)}"
    slope = -np.polyfit(np.log(targets), np.log(steps), 1)[0] if np.isfinite(steps).all() else np.inf
    return Evidence(float(slope), at_most=2.1, note=note)


def _saving(problem, beta):
    """How many gradients of norm down to 0.01 gradient descent takes for one of ours, both with their best step."""
    rates = tuple(np.geomspace(1e-9, 1e-1, 33))
    ours, plain = (min(_first(size, 0.01) for size in _sizes(problem, b, rates, 30_000)) for b in (beta, 0.0))
    return plain / ours, f"{ours:.0f} against {plain:.0f}"


@claim(
    SLUG,
    "sum of cosh from 20 away, to a gradient of norm 0.01: gradient descent with its best step needs at least 5 times "
    "as many gradients",
    broken={"no normalization": {"beta": 0.0}},
)
def needs_fewer_gradients_on_cosh(beta=1.0, *, scale):
    ratio, note = _saving(_cosh, beta)
    return Evidence(ratio, at_least=5.0, note=note)


@claim(
    SLUG,
    "phase retrieval from ten times the solution's norm: the same",
    broken={"no normalization": {"beta": 0.0}},
    reason="4 times as many; the gain grows with the distance of the start",
)
def needs_fewer_gradients_on_quartics(beta=2 / 3, *, scale):
    ratio, note = _saving(_phase_retrieval, beta)
    return Evidence(ratio, at_least=5.0, note=note)


@claim(
    SLUG,
    "10,000 pairs of points up to 100 times the solution's norm away: the gradient's change is at most (L0 + L1 m^α) "
    "times the distance, α = 2/3, m the largest gradient between them, L0 and L1 fitted within 10 times the norm plus "
    "25 % (share of violations)",
    broken={"ordinary smoothness": {"alpha": 0.0}, "α = 1/3": {"alpha": 1 / 3}},
)
def is_generalized_smooth(alpha=2 / 3, *, scale):
    gradient = jax.grad(lambda w: _phase_retrieval().loss(w, None))
    rng = np.random.default_rng(1)

    @jax.jit
    @jax.vmap
    def measure(w, v):
        between = jax.vmap(lambda t: norm(gradient(w + t * (v - w))))(jnp.linspace(0, 1, 11))
        return norm(gradient(v) - gradient(w)) / norm(v - w), jnp.max(between)

    def pairs(radius):
        ends = rng.standard_normal((2, 10_000, 20))
        ends *= NORM * rng.uniform(0, radius, (2, 10_000, 1)) / np.linalg.norm(ends, axis=-1, keepdims=True)
        return map(np.asarray, measure(*jnp.asarray(ends)))

    (inner, _), (slope, largest), (far_slope, far_largest) = pairs(1.0), pairs(10.0), pairs(100.0)
    l0 = inner.max()
    l1 = np.max((slope - l0) / largest**alpha)
    return Evidence(float(np.mean(far_slope > 1.25 * (l0 + l1 * far_largest**alpha))), at_most=0.0)
