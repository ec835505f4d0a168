"""Where a loss has kinks, gradient descent is another method: a larger L1 weight can enlarge the weights.

```python
import jax.numpy as jnp
import jax.random as jr
from attractor import Minimization, run
from attractor.optim import proximal_gradient

a = jr.normal(jr.key(0), (50, 200))
problem = Minimization(lambda w: 0.5 * jnp.mean((a @ w - a[:, 0]) ** 2), jnp.zeros(200))
trace = run(problem, proximal_gradient(learning_rate=0.05, l1=0.05), steps=500)
print((trace.final[0, 0] != 0).sum(), "of 200 weights are not zero")
```
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax

from attractor.engine import run
from attractor.optim.proximal import proximal_gradient
from attractor.papers import Evidence, claim
from attractor.problem import Minimization

SLUG = "ngdm-vs-gd"
WEIGHTS = np.geomspace(0.1, 100, 13)


def _subgradient(learning_rate, l1):
    """Gradient descent on the penalized loss, with the derivative of |w| that automatic differentiation gives."""
    return optax.chain(
        optax.stateless(lambda g, w: g + l1 * jnp.sign(w)),  # pyright: ignore[reportOperatorIssue, reportArgumentType]
        optax.sgd(learning_rate),
    )


@functools.cache
def _lasso(method, scale):
    """Weights after 5,000 steps of size 1/L, one row per L1 weight: 500 features, 100 examples, 10 true features."""
    rng = np.random.default_rng(0)
    a, truth = rng.standard_normal((100, 500)), np.where(np.arange(500) < 10, 1.0, 0.0)
    b = a @ truth + 0.1 * rng.standard_normal(100)
    rate = 1 / np.linalg.norm(a, 2) ** 2
    problem = Minimization(
        lambda w, data: 0.5 * jnp.sum((data[0] @ w - data[1]) ** 2), jnp.zeros(500), (jnp.asarray(a), jnp.asarray(b))
    )
    steps = 5_000 if scale == "quick" else 50_000
    trace = run(problem, lambda l1: method(rate, l1), sweep={"l1": WEIGHTS.tolist()}, steps=steps, every=steps)
    return np.stack(trace.final[:, 0])


@claim(
    SLUG,
    "sparse regression, fixed step 1/L, L1 weight from 0.1 to 100: under subgradient steps the L1 norm of the result "
    "rises to at least twice its smallest value",
    broken={"proximal steps": {"method": proximal_gradient}},
)
def a_larger_penalty_enlarges_the_weights(method=_subgradient, *, scale):
    size = np.abs(_lasso(method, scale)).sum(1)
    return Evidence(size[-1] / size.min(), at_least=2.0, note=f"smallest at weight {WEIGHTS[size.argmin()]:.2g}")


@claim(
    SLUG,
    "the same: proximal steps shrink the L1 norm with every larger weight, and make more than half of the weights "
    "exactly zero from weight 1 on; subgradient steps make none (the smallest share, 0 if any of this is not so)",
    broken={"subgradient steps": {"method": _subgradient}},
)
def proximal_steps_prune(method=proximal_gradient, *, scale):
    w = _lasso(method, scale)
    falls = (np.diff(np.abs(w).sum(1)) <= 1e-5).all()
    zeros = (w[WEIGHTS >= 1] == 0).mean(1).min()
    return Evidence(float(zeros * falls * (_lasso(_subgradient, scale) != 0).all()), at_least=0.5)


@claim(
    SLUG,
    "f = |x|: the distance that fixed subgradient steps never undercut grows as the step (exponent within 0.1 of 1)",
    broken={"a smooth bowl": {"loss": lambda x: 0.5 * x**2}},
)
def the_floor_is_the_step(loss=jnp.abs, *, scale):
    rates = np.geomspace(1e-4, 1e-1, 13)
    problem = Minimization(loss, jnp.asarray(1.2345))
    probes = {"x": lambda problem, x, key: x}
    x = run(problem, optax.sgd, sweep={"learning_rate": rates.tolist()}, steps=20_000, every=1, probes=probes)["x"]
    floor = np.abs(x.values[:, 0, -100:]).max(1)
    slope = np.polyfit(np.log(rates), np.log(np.maximum(floor, 1e-30)), 1)[0]
    return Evidence(float(abs(slope - 1)), at_most=0.1)


def _huber(x):
    return optax.losses.huber_loss(x)


@claim(
    SLUG,
    "Huber's loss (L = 1) with step 3: the iterates settle on a bounded cycle of two where the curvature is 0, not "
    "2/3 (curvature times step over 2, to be at most 0.5; infinite without such a cycle)",
    broken={"step below 2": {"rate": 1.5}, "a quadratic": {"loss": lambda x: 0.5 * x**2}},
)
def no_edge_of_stability(loss=_huber, rate=3.0, *, scale):
    probes = {"x": lambda problem, x, key: x, "curvature": lambda problem, x, key: jax.grad(jax.grad(loss))(x)}
    trace = run(Minimization(loss, jnp.asarray(5.3)), optax.sgd(rate), steps=1_000, every=1, probes=probes)
    x, curvature = trace["x"].values[0, 0], trace["curvature"].values[0, 0]
    cycles = np.isfinite(x[-1]) and abs(x[-1] - x[-3]) < 1e-5
    return Evidence(float(curvature[-2:].max() * rate / 2) if cycles else np.inf, at_most=0.5)
