"""Training by projections: copies of all variables are made to meet what every operation demands; no derivatives.

```python
from attractor import run
from attractor.credit import ProjectionTraining, margin_digits
problem = margin_digits(hidden=(16,), units="step", batch_size=16)
print(run(problem, ProjectionTraining(rate=0.3), steps=100, every=100).last("test_accuracy").values)
```
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
from scipy.optimize import minimize

from attractor import LogUniform, Minimization
from attractor.credit import ProjectionTraining, feasibility, margin_digits
from attractor.papers.words import Evidence, cached, claim, graded, paired_difference, tune
from attractor.problems.digits import cross_entropy_of


def _linearized(w, x, b, y):
    """One step to the demand as it looks from the point."""
    m = ((w * x).sum(-1) + b - y) / ((w * w + x * x).sum(-1) + 2)
    return w - m[..., None] * x, x - m[..., None] * w, b - m, y + m


def _raised(scores, labels, margin=1.0):
    """The label's score alone moves."""
    own = jnp.arange(scores.shape[1]) == labels[:, None]
    return jnp.where(own, jnp.maximum(scores, jnp.where(own, -jnp.inf, scores).max(1, keepdims=True) + margin), scores)


def _excess(project, kind, demand, size):
    """The most by which a demand is missed, or a search finds a nearer point, at 8 points with 8 searches each."""
    rng, worst = np.random.default_rng(0), 0.0
    for point in rng.standard_normal((8, size)):
        with jax.enable_x64(True):
            ours = np.hstack(project(jnp.asarray(point)))
        given, starts = {"type": kind, "fun": demand}, point + rng.standard_normal((8, size))
        found = [minimize(lambda z, p=point: np.sum((z - p) ** 2), s, constraints=given) for s in starts]
        nearer = np.sum((ours - point) ** 2) - min(f.fun for f in found if f.success)
        worst = max(worst, nearer, -demand(ours).min() if kind == "ineq" else np.abs(demand(ours)))
    return float(worst)


@claim("products, and margins of scores: projections meet the demand, and none of 8 searches is nearer, to 1e-5",
       source="ours", deterministic=True,
       broken={"product linearized": {"product": _linearized}, "label alone": {"margin": _raised}})  # fmt: skip
def projections_are_nearest(product=feasibility.project_product, margin=feasibility.project_margin):
    multiply = partial(_excess, lambda z: product(z[:3], z[3:6], z[6], z[7]), "eq")
    separate = partial(_excess, lambda z: (margin(z[None], jnp.asarray([2]))[0],), "ineq")
    return Evidence.of_cases({"product": multiply(lambda z: z[:3] @ z[3:6] + z[6] - z[7], 8),
                              "margin": separate(lambda z: z[2] - np.delete(z, 2) - 1.0, 5)}, at_most=1e-5)  # fmt: skip


def _nothing(y, h):
    """Units demand nothing of their inputs and outputs."""
    return y, h


def _by_input(y, h):
    """A step's side is that of its input, whatever its copies say."""
    on = y > 0
    return jnp.where(on, jnp.maximum(y, 0.1), jnp.minimum(y, -0.1)), jnp.broadcast_to(on.astype(h.dtype), h.shape)


SETTINGS = {"relu": (1.0, 10, 200), "step": (4.0, 40, 120)}  # margin, projections per batch, batches of 16


@cached
def _projected(units, project_units):
    """Test accuracies, tuned. A step turns over only when many projections, or a large margin, ask for it."""
    margin, iterations, steps = SETTINGS[units]
    p = margin_digits((16,), units, 16, margin=margin, project_units=project_units)
    pair = partial(ProjectionTraining, iterations=iterations), {"rate": LogUniform(0.03, 1.0)}
    return tune(p, pair, steps=steps, every=steps, budget=4, seeds=8, **graded(p, "accuracy")).final


@cached
def _adam(units):
    """The same, of 600 batches and the cross-entropy."""
    p = margin_digits((16,), units, 16)
    loss = partial(_cross_entropy, feasibility.UNITS[units][0])
    p = Minimization(loss, p.init, p.full, batch_size=16, probes={k: v for k, v in p.probes.items() if k != "loss"})
    pair = optax.adam, {"learning_rate": LogUniform(1e-3, 3e-2)}
    return tune(p, pair, steps=600, every=600, budget=4, seeds=8, **graded(p, "accuracy")).final


def _cross_entropy(units, params, batch):
    return cross_entropy_of(feasibility.scores(units, params, batch[0]), batch)


def _against_adam(units, project_units, **threshold):
    ours, adam = _projected(units, project_units), _adam(units)
    note, given = f"{ours.mean():.3f}, {adam.mean():.3f}", {"Adam learns": adam.mean() > 0.5}
    return Evidence(paired_difference(ours, adam), given=given, note=note, **threshold)


@claim("digits, 16 rectified units, both tuned: test accuracy within 3 points of Adam's on the cross-entropy",
       source="ours", broken={"units demand nothing": {"project_units": _nothing}})  # fmt: skip
def is_as_accurate_as_adam(project_units=None):
    return _against_adam("relu", project_units, within=(-0.03, 0.03))


@claim("digits, 16 step units, both tuned: 3 points of test accuracy more than Adam, which trains the last layer only",
       source="ours", broken={"the side of the input alone": {"project_units": _by_input}})  # fmt: skip
def trains_through_steps(project_units=None):
    return _against_adam("step", project_units, at_least=0.03)
