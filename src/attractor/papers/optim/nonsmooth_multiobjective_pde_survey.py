"""Multiobjective control with kinks: common descent, scalarizations and reduced models trace the same Pareto front.

```python
import jax.numpy as jnp
from attractor.optim import common_descent

losses = lambda x: 10 * jnp.abs(x[0]) + jnp.stack([x[1] ** 2, (x[1] - 1) ** 2])
print(common_descent(losses, jnp.array([0.5, 3.0])).x)  # on the Pareto set: 0, and something between 0 and 1
```
"""

import jax
import jax.numpy as jnp
import numpy as np

from attractor.optim.common_descent import common_descent, largest_front_gap, scalarized
from attractor.optim.stationarity import min_norm_in_hull
from attractor.papers.words import Evidence, cached, claim, seconds, seed, sizes
from attractor.problems import semilinear as lib
from attractor.problems.kinks import kinked_parabolas

SCALES = np.array([1.0, 1e-3])  # of tracking and cost, which brings their gradients to one size
TRADES = np.geomspace(1e-4, 3e-2, 14)  # weights of the cost, the tracking's being 1
ELEMENTS = (100, 400)
ALONG = tuple(range(14))
THERE_AND_BACK = tuple(i // 2 if i % 2 == 0 else 13 - i // 2 for i in range(14))
STARTS = ((0.5, 3.0), (-0.3, 2.0), (1.0, -1.5), (-2.0, -3.0))


@claim("two losses with a common kink: common descent comes to within 1e-3 of the Pareto set from 4 starts",
       source="ours", broken={"no gradients from beyond the kink": {"hull": 2}}, deterministic=True)  # fmt: skip
def descends_through_kinks(hull=8):
    distances = {}
    with jax.enable_x64(True):
        for start in STARTS:
            x = np.asarray(common_descent(kinked_parabolas, jnp.array(start), hull=hull, steps=200).x)
            distances[f"from {start}"] = float(np.hypot(x[0], x[1] - np.clip(x[1], 0, 1)))
    return Evidence.of_cases(distances, at_most=1e-3)


@cached
def _losses(elements, modes=None, kinked_adjoint=True):
    """Tracking and cost, of the full model or of one with some modes of the full one's solutions."""
    basis = None if modes is None else jnp.asarray(_modes(elements)[:, :modes])
    model = lib.semilinear_control(elements, basis, banded=modes is None)
    return jax.jit((lambda x: jnp.asarray(model.losses(x, None))) if kinked_adjoint else lib.losses_without_kink)


@cached
def _weighted_sums(elements, modes=None, kinked_adjoint=True, order=None):
    """One after the other from zero, or in some order from the last one."""
    losses, trades = _losses(elements, modes, kinked_adjoint), TRADES if order is None else TRADES[list(order)]
    weighted = lambda x, trade: losses(x) @ jnp.stack([jnp.ones(()), trade])  # noqa: E731
    return scalarized(weighted, np.zeros(elements - 1), trades, order is not None)  # pyright: ignore[reportArgumentType]


@cached
def _reference_points(elements):
    """The nearest attainable losses to targets that lie 0.02 below the front, in scaled losses."""
    losses = _losses(elements)
    targets = [np.asarray(losses(x)) * SCALES - 0.02 for x in _weighted_sums(elements)[0][4:-4:3]]
    return scalarized(lambda x, t: jnp.sum((losses(x) * SCALES - t) ** 2), np.zeros(elements - 1), targets)[0]  # pyright: ignore[reportArgumentType]


@cached
def _common_descents(elements, steps=60):
    losses, s = _losses(elements), np.arange(1, elements) / elements
    one, two, three = (np.sin(turns * np.pi * s) for turns in (1, 2, 3))
    starts = (2 * two, two + 0.3 * one, 3 * two + 0.5 * three)
    scaled = jax.jit(lambda x: losses(x) * SCALES)
    return np.stack([common_descent(scaled, jnp.asarray(x), tolerance=2e-5, steps=steps).x for x in starts])


@cached
def _modes(elements) -> np.ndarray:
    """Principal directions of the states and controls at 5 points of the front."""
    return lib.snapshot_modes(_weighted_sums(elements)[0][::3])


def _off_the_front(elements, points):
    """Largest relative difference between a point's tracking and the front's, at the same cost."""
    front, found = (np.array([_losses(elements)(x) for x in xs]) for xs in (_weighted_sums(elements)[0], points))
    return largest_front_gap(front, found)


@claim(
    "-y'' + max(0, y) = u: where the 3 solvers end, the shortest convex combination of the gradients is at most 1e-4",
    source="ours", broken={"adjoint without the kink": {"kinked_adjoint": False}}, deterministic=True)  # fmt: skip
def points_are_pareto_critical(kinked_adjoint=True, *, scale):
    elements = sizes(scale, elements=ELEMENTS)["elements"]
    with jax.enable_x64(True):
        found = {"weighted sums": _weighted_sums(elements, kinked_adjoint=kinked_adjoint)[0],
                 "reference points": _reference_points(elements),
                 "common descent": _common_descents(elements)}  # fmt: skip
        length = jax.jit(lambda x: jnp.linalg.norm(min_norm_in_hull(jax.jacrev(_losses(elements))(x))))
        longest = {name: float(max(map(length, points))) for name, points in found.items()}
    return Evidence.of_cases(longest, at_most=1e-4)


@claim(
    "-y'' + max(0, y) = u: reference points and common descent meet the weighted sums' front, to 1 % of the tracking",
    source="ours", broken={"common descent stopped after a step": {"steps": 1}}, deterministic=True)  # fmt: skip
def the_fronts_agree(steps=60, *, scale):
    elements = sizes(scale, elements=ELEMENTS)["elements"]
    with jax.enable_x64(True):
        found = {"reference points": _reference_points(elements), "common descent": _common_descents(elements, steps)}
        off = {name: _off_the_front(elements, points) for name, points in found.items()}
    return Evidence.of_cases(off, at_most=0.01)


@claim(
    "-y'' + max(0, y) = u: continued from the last point, 13 weighted sums take at most half the gradients from zero",
    source="ours", broken={"from end to end and back": {"order": THERE_AND_BACK}}, deterministic=True,
    reason="0.81: started at the last point L-BFGS takes nearly as many gradients to the same tolerance")  # fmt: skip
def continuation_is_cheaper(order=ALONG, *, scale):
    elements = sizes(scale, elements=ELEMENTS)["elements"]
    with jax.enable_x64(True):
        cold, warm = _weighted_sums(elements), _weighted_sums(elements, order=order)
        off = _off_the_front(elements, warm[0][[0 < i < 13 for i in order]])
    return Evidence(warm[1][1:].sum() / cold[1][list(order)][1:].sum(), at_most=0.5, given={"on the front": off < 0.01})


@claim(
    "-y'' + max(0, y) = u: the weighted sums of a model reduced to 10 modes lie on the front, to 1 % of the tracking",
    source="ours", broken={"one mode": {"modes": 1}}, deterministic=True)  # fmt: skip
def a_reduced_model_suffices(modes=10, *, scale):
    elements = sizes(scale, elements=ELEMENTS)["elements"]
    with jax.enable_x64(True):
        return Evidence(_off_the_front(elements, _weighted_sums(elements, modes)[0][1:-1]), at_most=0.01)


@claim(
    "random controls, 1, 3, 7 modes: the residual's dual norm is 1 to 1 + 1/pi^2 times the error's energy norm (1e-3)",
    source="ours", broken={"no root": {"estimate": lambda *how: lib.residual_estimate(*how) ** 2}})  # fmt: skip
def the_error_is_estimated(estimate=lib.residual_estimate, *, scale):
    n, draws = sizes(scale, elements=ELEMENTS, draws=(20, 200)).values()
    rng, waves = np.random.default_rng(seed()), np.sin(np.pi * np.outer(np.arange(1, n) / n, np.arange(1, 9)))
    with jax.enable_x64(True):
        matrix, basis = lib.negative_laplacian(n), np.linalg.qr(waves)[0][:, :7]

        def ratio(used, right):
            """Of the model with the modes in use; the others have a stiffness of their own and no share."""
            modes = basis * used
            stiffness = modes.T @ matrix @ modes + jnp.diag(1 - used)
            reduced = modes @ lib.semismooth_newton(stiffness, modes, modes.T @ right)
            error = lib.banded_newton(right) - reduced
            return estimate(reduced, right) / (error @ matrix @ error) ** 0.5

        used = jnp.asarray(np.arange(7) < np.array([[1], [3], [7]]), float)
        rights = jnp.asarray(20 * rng.standard_normal((draws, 8)) @ waves.T)
        ratios = np.asarray(jax.jit(jax.vmap(jax.vmap(ratio, (None, 0)), (0, None)))(used, rights))
    return Evidence.of_cases({"least": ratios.min(), "most": ratios.max()}, within=(0.999, 1.001 + np.pi**-2))


@claim("-y'' + max(0, y) = u: losses and gradients of a model with 10 modes take at most 0.8 of the full model's time",
       source="ours", broken={"as many modes as nodes": {"modes": None}}, deterministic=True)  # fmt: skip
def the_reduced_model_is_cheaper(modes=10, *, scale):
    return _time(modes, sizes(scale, elements=ELEMENTS)["elements"], banded=False)


@claim(
    "-y'' + max(0, y) = u: the model with 10 modes is faster than the full one with tridiagonal systems (at most 0.8)",
    source="ours", broken={"as many modes as nodes": {"modes": None}}, deterministic=True, reason="1.1 to 1.6: in one "
    "dimension a tridiagonal system of 99 is no more work than a dense one of 10")  # fmt: skip
def the_reduced_model_is_cheaper_than_a_band(modes=10, *, scale):
    return _time(modes, sizes(scale, elements=ELEMENTS)["elements"], banded=True)


def _time(modes, elements, banded):
    with jax.enable_x64(True):
        basis = jnp.eye(elements - 1) if modes is None else jnp.asarray(_modes(elements)[:, :modes])
        points = jnp.asarray(_weighted_sums(elements)[0])
        models = lib.semilinear_control(elements, basis), lib.semilinear_control(elements, banded=banded)
        derivatives = [jax.jit(jax.vmap(jax.jacrev(lambda x, m=m: jnp.asarray(m.losses(x, None))))) for m in models]
        reduced, full = seconds(*(lambda f=f: f(points) for f in derivatives), rounds=7)
    return Evidence(reduced.min() / full.min(), at_most=0.8)
