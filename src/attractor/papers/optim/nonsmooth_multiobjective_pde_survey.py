"""Multiobjective control with kinks: common descent, scalarizations and reduced models trace the same Pareto front.

```python
import jax.numpy as jnp
from attractor.optim import common_descent

def losses(x):
    kink = 10 * jnp.abs(x[0])
    return jnp.stack([kink + x[1] ** 2, kink + (x[1] - 1) ** 2])

found = common_descent(losses, jnp.array([0.5, 3.0]))
print(found.x)  # on the Pareto set: 0, and something between 0 and 1
```
"""

import jax
import jax.numpy as jnp
import numpy as np
from scipy.interpolate import PchipInterpolator
from scipy.optimize import minimize

from attractor.optim.common_descent import common_descent
from attractor.optim.stationarity import min_norm_in_hull
from attractor.papers.words import Evidence, cached, claim, seconds, sizes
from attractor.problems.semilinear import negative_laplacian, semilinear_control, semismooth_newton

SCALES = np.array([1.0, 1e-3])  # of tracking and cost, which brings their gradients to one size
TRADES = np.geomspace(1e-4, 3e-2, 18)  # weights of the cost, the tracking's being 1
ELEMENTS = (100, 400)
STARTS = ((0.5, 3.0), (-0.3, 2.0), (1.0, -1.5), (-2.0, -3.0))


def _kinked(x):
    """Its Pareto set is 0 x [0, 1]."""
    kink = 10 * jnp.abs(x[0])
    return jnp.stack([kink + x[1] ** 2, kink + (x[1] - 1) ** 2])


@claim(
    "two losses with a common kink: common descent comes to within 1e-3 of the Pareto set from 4 starts",
    source="ours",
    broken={"no gradients from beyond the kink": {"hull": 2}},
    deterministic=True,
)
def descends_through_kinks(hull=8):
    distances = {}
    with jax.enable_x64(True):
        for start in STARTS:
            x = np.asarray(common_descent(_kinked, jnp.array(start), hull=hull, steps=200).x)
            distances[f"from {start}"] = float(np.hypot(x[0], x[1] - np.clip(x[1], 0, 1)))
    return Evidence.of_cases(distances, at_most=1e-3)


@cached
def _losses(elements, modes=None, kinked_adjoint=True):
    """Tracking and cost, of the full model or of one with some modes of the full one's solutions."""
    basis = None if modes is None else jnp.asarray(_modes(elements)[:, :modes])
    model = semilinear_control(elements, basis)
    if kinked_adjoint:
        return jax.jit(lambda x: jnp.asarray(model.losses(x, None)))
    matrix, identity = negative_laplacian(elements), jnp.eye(elements - 1)

    def linearized(x):
        """Right values, but the derivative of the state that of the equation without its kink."""
        right = x * elements**0.5
        linear = jnp.linalg.solve(matrix, right)
        state = jax.lax.stop_gradient(semismooth_newton(matrix, identity, right) - linear) + linear
        wanted = jnp.sin(2 * jnp.pi * jnp.arange(1, elements) / elements)
        return jnp.stack([jnp.sum((state - wanted) ** 2) / elements, jnp.sum(x**2)])

    return jax.jit(linearized)


def _solve(objective, size, parameters):
    """Minimizers of ``objective(x, parameter)`` from 0, one for each parameter."""
    derivatives = jax.jit(jax.value_and_grad(objective))
    how = {"jac": True, "method": "L-BFGS-B", "options": {"gtol": 1e-9, "ftol": 0.0, "maxiter": 60}}

    def one(parameter):
        return minimize(lambda x: [np.asarray(a) for a in derivatives(x, parameter)], np.zeros(size), **how).x

    return np.stack([one(parameter) for parameter in parameters])


@cached
def _weighted_sums(elements, modes=None, kinked_adjoint=True):
    losses = _losses(elements, modes, kinked_adjoint)
    return _solve(lambda x, trade: losses(x) @ jnp.array([1.0, trade]), elements - 1, TRADES)


@cached
def _reference_points(elements):
    """The nearest attainable losses to targets that lie 0.02 below the front, in scaled losses."""
    losses = _losses(elements)
    targets = [np.asarray(losses(x)) * SCALES - 0.02 for x in _weighted_sums(elements)[4:-4:3]]
    return _solve(lambda x, target: jnp.sum((losses(x) * SCALES - target) ** 2), elements - 1, targets)


@cached
def _common_descents(elements, steps=60):
    losses, s = _losses(elements), np.arange(1, elements) / elements
    one, two, three = (np.sin(turns * np.pi * s) for turns in (1, 2, 3))
    scaled = jax.jit(lambda x: losses(x) * SCALES)
    starts = (2 * two, two + 0.3 * one, 3 * two + 0.5 * three)
    return np.stack([common_descent(scaled, jnp.asarray(x), tolerance=2e-5, steps=steps).x for x in starts])


@cached
def _modes(elements) -> np.ndarray:
    """Principal directions of the states and controls along the front."""
    controls = _weighted_sums(elements).T
    matrix, identity = negative_laplacian(elements), jnp.eye(elements - 1)
    state = jax.vmap(lambda x: semismooth_newton(matrix, identity, x * elements**0.5), 1, 1)
    snapshots = [a / np.linalg.norm(a, axis=0) for a in (controls, np.asarray(state(jnp.asarray(controls))))]
    return np.linalg.svd(np.concatenate(snapshots, axis=1), full_matrices=False)[0]


def _off_the_front(elements, points):
    """Largest relative difference between a point's tracking and the front's, at the same cost."""
    tracking, cost = np.asarray(jax.vmap(_losses(elements))(jnp.asarray(_weighted_sums(elements)))).T
    front = PchipInterpolator(np.log(cost[::-1]), tracking[::-1], extrapolate=False)
    ours, theirs = np.asarray(jax.vmap(_losses(elements))(jnp.asarray(points))).T
    return float(np.max(np.abs(ours / front(np.log(theirs)) - 1)))


@claim(
    "-y'' + max(0, y) = u: where the 3 solvers end, the shortest convex combination of the gradients is at most 1e-4",
    source="ours",
    broken={"adjoint without the kink": {"kinked_adjoint": False}},
    deterministic=True,
)
def points_are_pareto_critical(kinked_adjoint=True, *, scale):
    elements = sizes(scale, elements=ELEMENTS)["elements"]
    with jax.enable_x64(True):
        found = {
            "weighted sums": _weighted_sums(elements, kinked_adjoint=kinked_adjoint),
            "reference points": _reference_points(elements),
            "common descent": _common_descents(elements),
        }
        jacobian = jax.jacrev(_losses(elements))
        length = jax.jit(jax.vmap(lambda x: jnp.linalg.norm(min_norm_in_hull(jacobian(x)))))
        longest = {name: float(length(jnp.asarray(points)).max()) for name, points in found.items()}
    return Evidence.of_cases(longest, at_most=1e-4)


@claim(
    "-y'' + max(0, y) = u: reference points and common descent meet the weighted sums' front, to 1 % of the tracking",
    source="ours",
    broken={"common descent stopped after a step": {"steps": 1}},
    deterministic=True,
)
def the_fronts_agree(steps=60, *, scale):
    elements = sizes(scale, elements=ELEMENTS)["elements"]
    with jax.enable_x64(True):
        found = {"reference points": _reference_points(elements), "common descent": _common_descents(elements, steps)}
        off = {name: _off_the_front(elements, points) for name, points in found.items()}
    return Evidence.of_cases(off, at_most=0.01)


@claim(
    "-y'' + max(0, y) = u: the weighted sums of a model reduced to 10 modes lie on the front, to 1 % of the tracking",
    source="ours",
    broken={"one mode": {"modes": 1}},
    deterministic=True,
)
def a_reduced_model_suffices(modes=10, *, scale):
    elements = sizes(scale, elements=ELEMENTS)["elements"]
    with jax.enable_x64(True):
        return Evidence(_off_the_front(elements, _weighted_sums(elements, modes)[1:-1]), at_most=0.01)


@claim(
    "-y'' + max(0, y) = u: losses and gradients of a model with 10 modes take at most 0.8 of the full model's time",
    source="ours",
    broken={"as many modes as nodes": {"modes": None}},
    deterministic=True,
)
def the_reduced_model_is_cheaper(modes=10, *, scale):
    elements = sizes(scale, elements=ELEMENTS)["elements"]
    with jax.enable_x64(True):
        basis = jnp.eye(elements - 1) if modes is None else jnp.asarray(_modes(elements)[:, :modes])
        points = jnp.asarray(_weighted_sums(elements))
        models = semilinear_control(elements, basis), semilinear_control(elements)
        derivatives = [jax.jit(jax.vmap(jax.jacrev(lambda x, m=m: jnp.asarray(m.losses(x, None))))) for m in models]
        reduced, full = seconds(*(lambda f=f: f(points) for f in derivatives), rounds=15)
    return Evidence(reduced.min() / full.min(), at_most=0.8, note="dense solves in both")
