"""Lazy Hessians: one Hessian for many regularized Newton steps, at a fraction of the arithmetic.

```python
from attractor import problems, run
from attractor.second_order import LazyNewton

problem = problems.logistic_regression()
trace = run(problem, LazyNewton(smoothness=1.0, every=31), steps=120)  # 31 parameters: one Hessian per 31 steps
print(trace.last("loss").item() - problem.optimum)
```
"""

import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np

from attractor.engine import run
from attractor.papers import Evidence, claim
from attractor.problem import Minimization, norm
from attractor.problems.digits import digits
from attractor.second_order.newton import LazyNewton

SLUG = "lazy-newton"
DIM = 64


def _logistic(ridge, w, batch):
    images, signs = batch
    return jnp.mean(jax.nn.softplus(-signs * (images @ w))) + 0.5 * ridge * w @ w


def _even_or_odd(ridge):
    """Logistic regression on the 64 pixels of handwritten digits: even against odd."""
    (images, labels), _ = digits()
    data = (images.astype(float), np.where(labels % 2 == 0, 1.0, -1.0))
    return Minimization(eqx.Partial(_logistic, ridge), jnp.zeros(DIM), data)


def _gradient_norm(problem, x, key):
    return norm(jax.grad(problem.loss)(x, problem.full))


class NeverRenewed(LazyNewton):
    """The first Hessian for ever."""

    def step(self, problem, x, state, key):
        method = LazyNewton(self.smoothness, every=10**9)
        return method.step(problem, x, state, key)


class Unshrinking(LazyNewton):
    """Regularization that does not vanish with the gradient."""

    def _step(self, eigenvalues, gradient):
        return -gradient / (eigenvalues + self.smoothness)


@functools.cache
def _steps_taken(method, every, ridge, steps, scale):
    """Steps until the gradient's norm is 1e-8; infinite if more than ``steps``. The path of norms, too."""
    with jax.enable_x64(True):
        trace = run(_even_or_odd(ridge), method(1.0, every), steps=steps, every=1, probes={"gradient": _gradient_norm})
    path = trace["gradient"].values[0, 0]
    hit = np.flatnonzero(path <= 1e-8)
    return (int(hit[0]) if len(hit) else np.inf), path


@claim(
    SLUG,
    "logistic regression, d = 64: a gradient norm of 1e-8 is reached with one Hessian per 1, 5, d and 5d steps",
    broken={"constant regularization": {"method": Unshrinking}},
)
def converges_however_lazy(method=LazyNewton, *, scale):
    counts = [_steps_taken(method, every, 1e-4, 1_200, scale)[0] for every in (1, 5, DIM, 5 * DIM)]
    return Evidence(float(np.isfinite(counts).sum()), at_least=4.0, note=f"steps: {counts}")


@claim(
    SLUG,
    "there, with a Hessian priced at d gradients, m = d costs at most half of what m = 1 does",
    broken={"renewed at every step all the same": {"lazy": 1}},
)
def costs_less(lazy=DIM, *, scale):
    def cost(every):
        steps = _steps_taken(LazyNewton, every, 1e-4, 1_200, scale)[0]
        return steps + DIM * np.ceil(steps / every)

    return Evidence(float(cost(lazy) / cost(1)), at_most=0.5, note=f"{cost(lazy):g} against {cost(1):g} gradients")


@claim(
    SLUG,
    "with ridge 0.1 and m of 1 or 5, the gradient shrinks superlinearly: by more than 100 in the last m steps",
    broken={"a Hessian that is never renewed": {"method": NeverRenewed}},
)
def ends_superlinearly(method=LazyNewton, *, scale):
    ratios = []
    for every in (1, 5):
        count, path = _steps_taken(method, every, 0.1, 200, scale)
        last = int(min(count, 200))
        ratios.append(path[last] / path[max(last - every, 0)])
    return Evidence(float(max(ratios)), at_most=1e-2, note=f"{ratios[0]:.1e}, {ratios[1]:.1e}")


def _double_wells(x, batch=None):
    """Minima where all |x_i| are 1, saddles where some vanish."""
    return jnp.sum(0.25 * x**4 - 0.5 * x**2) + 0.05 * jnp.sum(x[1:] * x[:-1])


CUBIC = functools.partial(LazyNewton, 10.0, 5, True)


@claim(
    SLUG,
    "cubic steps on a nonconvex function, m = 5, started near saddles: the lowest eigenvalue ends above -1e-3",
    broken={"Newton's steps": {"method": functools.partial(LazyNewton, 1e-9, 5, False)}},
)
def cubic_steps_end_in_minima(method=CUBIC, *, scale):
    seeds = 20 if scale == "quick" else 500
    problem = Minimization(_double_wells, lambda key: 1e-2 * jr.normal(key, (10,)))
    lowest = lambda p, x, key: jnp.linalg.eigvalsh(jax.hessian(lambda z: p.loss(z, None))(x))[0]  # noqa: E731
    trace = run(problem, method(), steps=100, every=100, seeds=seeds, probes={"lowest": lowest})
    return Evidence(float(trace.last("lowest").values.min()), at_least=-1e-3)
