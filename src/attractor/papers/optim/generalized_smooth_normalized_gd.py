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

from attractor.optim.normalized import normalized_gd
from attractor.papers.words import Evidence, cached, claim, first_step, log_slopes, run, seed
from attractor.problem import Minimization
from attractor.trees import norm

TARGETS = np.geomspace(1, 1e-3, 7)


@cached
def _solution():
    return np.random.default_rng(seed()).standard_normal(20)


@cached
def _phase_retrieval():
    """Find w from (a_i · w)²: a quartic, whose curvature grows as the gradient to the power 2/3."""
    rng = np.random.default_rng(seed(1))
    a, start = rng.standard_normal((100, 20)), 10 * rng.standard_normal(20)
    rows, squares = jnp.asarray(a), jnp.asarray((a @ _solution()) ** 2)
    return Minimization(lambda w: jnp.mean(((rows @ w) ** 2 - squares) ** 2) / 4, jnp.asarray(start))


@cached
def _cosh():
    """The curvature grows as the gradient; 20 from the minimum both are above 1e8."""
    return Minimization(lambda x: jnp.sum(jnp.cosh(x)), jnp.linspace(-20.0, 15.0, 20))


@cached
def _lengths(problem, beta, rates, steps):
    """Norm of the gradient at every tenth step, (rates, records)."""
    probes = {"length": lambda problem, w, key: norm(jax.grad(problem.loss)(w, None))}
    method, sweep = functools.partial(normalized_gd, beta=beta), {"learning_rate": list(rates)}
    trace = run(problem(), method, sweep=sweep, steps=steps, every=10, probes=probes)
    return np.nan_to_num(trace["length"].values[:, 0], nan=np.inf)


@claim(
    "phase retrieval, steps ε^(2/3) / 2L: the gradient falls from > 1e5 to ε = 1 … 1e-3 in steps growing <= ε^-2.1",
    source="scaled",
    broken={"one step size for all": {"shrinks": False}, "no normalization": {"beta": 0.0}},
)
def reaches_any_accuracy(beta=2 / 3, shrinks=True):
    """L is the curvature at the solution; the start is at ten times the solution's norm."""
    problem = _phase_retrieval()
    curvature = float(jnp.linalg.eigvalsh(jax.hessian(lambda w: problem.loss(w, None))(_solution()))[-1])
    rates = tuple((TARGETS if shrinks else np.ones(7)) ** (2 / 3) / (2 * curvature))
    lengths = _lengths(_phase_retrieval, beta, rates, 100_000)
    steps = 10 * first_step(lengths, TARGETS)
    slope = -log_slopes(TARGETS, steps)[0] if np.isfinite(steps).all() else np.inf
    far = {"the gradient starts above 1e5": lengths[0, 0] > 1e5}
    return Evidence(float(slope), at_most=2.1, given=far, note=f"steps {', '.join(f'{s:.0f}' for s in steps)}")


def _saving(problem, beta):
    """How many gradients of norm down to 0.01 gradient descent takes for one of ours, both with their best step."""
    rates = tuple(np.geomspace(1e-9, 1e-1, 33))
    ours, plain = (10 * float(first_step(_lengths(problem, b, rates, 30_000), 0.01).min()) for b in (beta, 0.0))
    return Evidence(plain / ours, at_least=5.0, note=f"{ours:.0f} against {plain:.0f}")


@claim(
    "sum of cosh from 20 away: to a gradient of 0.01, descent at its best step takes at least 5 times our gradients",
    source="ours",
    broken={"no normalization": {"beta": 0.0}},
    deterministic=True,
)
def needs_fewer_gradients_on_cosh(beta=1.0):
    return _saving(_cosh, beta)


@claim(
    "phase retrieval from far: to a gradient of 0.01, descent at its best step takes at least 5 times our gradients",
    source="ours",
    broken={"no normalization": {"beta": 0.0}},
    reason="4 times as many; the gain grows with the distance of the start",
)
def needs_fewer_gradients_on_quartics(beta=2 / 3):
    return _saving(_phase_retrieval, beta)


@claim(
    "10,000 far pairs, none violates |change of gradient| <= 1.25 (L0 + L1 m^α) distance; L0, L1 fitted on near ones",
    source="scaled",
    broken={"ordinary smoothness": {"alpha": 0.0}, "α = 1/3": {"alpha": 1 / 3}},
)
def is_generalized_smooth(alpha=2 / 3):
    """Near: within 10 times the solution's norm; far: 100 times; m is the largest gradient on the way, α = 2/3."""
    problem, rng = _phase_retrieval(), np.random.default_rng(seed(1))
    gradient, size = jax.grad(lambda w: problem.loss(w, None)), np.linalg.norm(_solution())

    @jax.jit
    @jax.vmap
    def measure(w, v):
        between = jax.vmap(lambda t: norm(gradient(w + t * (v - w))))(jnp.linspace(0, 1, 11))
        return norm(gradient(v) - gradient(w)) / norm(v - w), jnp.max(between)

    def pairs(radius):
        ends = rng.standard_normal((2, 10_000, 20))
        ends *= size * rng.uniform(0, radius, (2, 10_000, 1)) / np.linalg.norm(ends, axis=-1, keepdims=True)
        return map(np.asarray, measure(*jnp.asarray(ends)))

    (inner, _), (slope, largest), (far_slope, far_largest) = pairs(1.0), pairs(10.0), pairs(100.0)
    l0 = inner.max()
    l1 = np.max((slope - l0) / largest**alpha)
    return Evidence(float(np.mean(far_slope > 1.25 * (l0 + l1 * far_largest**alpha))), at_most=0.0)
