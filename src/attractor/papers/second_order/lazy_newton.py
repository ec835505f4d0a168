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

from attractor.papers.words import Evidence, cached, claim, first_step, run, seeds, sizes
from attractor.problem import Minimization
from attractor.problems.digits import digits
from attractor.second_order.newton import LazyNewton
from attractor.trees import norm

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


@cached
def _steps_taken(method, every, ridge, steps):
    """Steps until the gradient's norm is 1e-8; infinite if more than ``steps``. The path of norms, too."""
    with jax.enable_x64(True):
        trace = run(_even_or_odd(ridge), method(1.0, every), steps=steps, every=1, probes={"gradient": _gradient_norm})
    path = trace["gradient"].values[0, 0]
    return float(first_step(path, 1e-8)), path


@claim(
    "logistic regression, d = 64: a gradient norm of 1e-8 is reached with one Hessian per 1, 5, d and 5d steps",
    source="ours",
    broken={"constant regularization": {"method": Unshrinking}},
    deterministic=True,
)
def converges_however_lazy(method=LazyNewton):
    counts = [_steps_taken(method, every, 1e-4, 1_200)[0] for every in (1, 5, DIM, 5 * DIM)]
    return Evidence(float(np.isfinite(counts).sum()), at_least=4.0, note=f"steps: {counts}")


@claim(
    "logistic regression, a Hessian priced at d = 64 gradients: one per d steps costs at most half of one per step",
    source="ours",
    broken={"renewed at every step all the same": {"lazy": 1}},
    deterministic=True,
)
def costs_less(lazy=DIM):
    def cost(every):
        steps = _steps_taken(LazyNewton, every, 1e-4, 1_200)[0]
        return steps + DIM * np.ceil(steps / every)

    given = {"it converges with a Hessian in every step": bool(np.isfinite(cost(1)))}
    note = f"{cost(lazy):g} against {cost(1):g} gradients"
    return Evidence(float(cost(lazy) / cost(1)), at_most=0.5, given=given, note=note)


@claim(
    "logistic regression, ridge 0.1, one Hessian per m = 1 or 5 steps: the last m steps shrink the gradient to 0.01",
    source="ours",
    broken={"a Hessian that is never renewed": {"method": NeverRenewed}},
    deterministic=True,
)
def ends_superlinearly(method=LazyNewton):
    ratios = {}
    for every in (1, 5):
        count, path = _steps_taken(method, every, 0.1, 200)
        last = int(min(count, 200))
        ratios[f"m = {every}"] = path[last] / path[max(last - every, 0)]
    return Evidence.of_cases(ratios, at_most=1e-2)


def _double_wells(x, batch=None):
    """Minima where all |x_i| are 1, saddles where some vanish."""
    return jnp.sum(0.25 * x**4 - 0.5 * x**2) + 0.05 * jnp.sum(x[1:] * x[:-1])


CUBIC = functools.partial(LazyNewton, 10.0, 5, True)


@claim(
    "cubic steps, nonconvex function, m = 5, started near saddles: the lowest eigenvalue ends at no less than -1e-3",
    source="ours",
    broken={"Newton's steps": {"method": functools.partial(LazyNewton, 1e-9, 5, False)}},
)
def cubic_steps_end_in_minima(method=CUBIC, *, scale):
    fresh = seeds(**sizes(scale, n=(20, 500)))
    problem = Minimization(_double_wells, lambda key: 1e-2 * jr.normal(key, (10,)))
    lowest = lambda p, x, key: jnp.linalg.eigvalsh(jax.hessian(lambda z: p.loss(z, None))(x))[0]  # noqa: E731
    trace = run(problem, method(), steps=100, every=100, seeds=fresh, probes={"lowest": lowest})
    start, end = trace["lowest"].values[0, :, 0], trace.last("lowest").values
    return Evidence(float(end.min()), at_least=-1e-3, given={"it starts near saddles": bool((start < -1e-3).all())})
