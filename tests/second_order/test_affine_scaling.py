"""Affine scalings, and the trust-region method for equations with bounds."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from attractor import run
from attractor.objectives import Composite
from attractor.second_order import (
    MixedScaling,
    ScaledTrustRegion,
    coleman_li,
    hager_mair_zhang,
    heinkenschloss_ulbrich,
    kanzow_klug,
)
from attractor.second_order.affine_scaling import _dogleg


def test_scalings_by_hand():
    x, g = jnp.array([1.0, 1.0, 1.0, 1.0]), jnp.array([2.0, -0.5, 0.0, 3.0])
    lower, upper = jnp.array([0.5, 0.0, 0.5, -jnp.inf]), jnp.array([4.0, 3.0, 2.0, 5.0])
    box = (x, g, lower, upper)
    np.testing.assert_allclose(coleman_li(*box), [0.5, 2.0, 0.5, 1.0])
    # The nearer bounds are at 0.5, 1, 0.5, 4; g^2 = 4, 0.25, 0, 9.
    np.testing.assert_allclose(heinkenschloss_ulbrich(*box), [0.5, 2.0, 0.5, 1.0])
    np.testing.assert_allclose(heinkenschloss_ulbrich(x[:1], jnp.array([0.5]), lower[:1], upper[:1]), [1.0])
    np.testing.assert_allclose(kanzow_klug(*box), [0.5, 1.5, 0.5, 7.0])
    np.testing.assert_allclose(hager_mair_zhang(*box), [0.5 / 2.5, 2 / 2.5, 1.0, 1.0])
    each = [f(*box) for f in (coleman_li, kanzow_klug)]
    mix = MixedScaling((1.0, 3.0), (coleman_li, kanzow_klug))
    np.testing.assert_allclose(mix(*box), 0.25 * each[0] + 0.75 * each[1])


def test_without_bounds_all_are_ones():
    x, free = jnp.array([1.0, -2.0]), jnp.full(2, jnp.inf)
    for scaling in (coleman_li, heinkenschloss_ulbrich, kanzow_klug, hager_mair_zhang, MixedScaling()):
        np.testing.assert_array_equal(scaling(x, jnp.array([0.0, 3.0]), -free, free), np.ones(2))


def test_dogleg():
    cauchy, newton = jnp.array([1.0, 0.0]), jnp.array([1.0, 2.0])
    np.testing.assert_allclose(_dogleg(cauchy, newton, 0.5), [0.5, 0.0], atol=1e-6)
    np.testing.assert_allclose(_dogleg(cauchy, newton, 2.0**0.5), [1.0, 1.0], atol=1e-6)
    np.testing.assert_allclose(_dogleg(cauchy, newton, 9.0), newton, atol=1e-6)
    np.testing.assert_allclose(_dogleg(cauchy, cauchy, 1.5), cauchy, atol=1e-6)
    np.testing.assert_allclose(_dogleg(0 * cauchy, 0 * newton, 1.0), [0, 0])


def _equations(x):
    return jnp.array([x[0] ** 2 + x[1] - 11, x[0] + x[1] ** 2 - 7])


def test_far_from_bounds_it_is_newton():
    x = np.array([2.8, 2.1])
    for _ in range(3):
        value = np.array([x[0] ** 2 + x[1] - 11, x[0] + x[1] ** 2 - 7])
        x = x - np.linalg.solve([[2 * x[0], 1], [1, 2 * x[1]]], value)
    with jax.enable_x64(True):
        problem = Composite.least_squares(_equations, jnp.array([2.8, 2.1]))
        found = run(problem, ScaledTrustRegion(-1e3, 1e3, radius=1e3), steps=3).final[0, 0]
    np.testing.assert_allclose(found, x, rtol=1e-8)


def test_a_cut_step_by_hand():
    """From (0.5, 0.1), Newton's step crosses an upper bound; it is cut to 0.9 of the way."""
    start, upper = np.array([2.0, 1.5]), np.array([2.5, 4.0])
    value, jacobian = np.array([4 + 1.5 - 11, 2 + 2.25 - 7]), np.array([[4, 1], [1, 3.0]])
    step = -np.linalg.solve(jacobian, value)
    reach = ((upper - start) / step).min()
    assert reach < 1
    assert np.linalg.norm(step) > 0.1
    with jax.enable_x64(True):
        problem = Composite.least_squares(_equations, jnp.asarray(start))
        method = ScaledTrustRegion(-jnp.inf, jnp.asarray(upper), radius=1e3, interior=0.9)
        found = run(problem, method, steps=1).final[0, 0]
    np.testing.assert_allclose(found, start + 0.9 * reach * step, rtol=1e-8)


def test_eight_steps_by_hand():
    rng = np.random.default_rng(81)
    rows, shift, bend = rng.standard_normal((3, 3)), rng.standard_normal(3), rng.uniform(0.5, 3, 3)
    lower, upper = -rng.uniform(0.5, 2, 3), rng.uniform(0.5, 2, 3)
    start = x = lower + (upper - lower) * rng.uniform(0.2, 0.8, 3)

    def equations(x):
        return rows @ x + 1.5 * np.sin(bend * x) - shift

    def inside(x, p):
        reach = np.min(np.where(p > 0, upper - x, lower - x) / p)
        return p if reach > 1 else p * max(0.9, 1 - np.linalg.norm(p)) * reach

    radius, path, kinds, ratios = 0.3, [x], [], []
    for _ in range(8):
        value, j = equations(x), rows + np.diag(1.5 * bend * np.cos(bend * x))
        g = j.T @ value
        d = np.minimum(x - lower + np.maximum(-g, 0), upper - x + np.maximum(g, 0))
        decrease = lambda p, value=value, j=j: (value @ value - np.sum((value + j @ p) ** 2)) / 2  # noqa: E731
        cauchy = -d * g * (g @ (d * g)) / np.sum((j @ (d * g)) ** 2)
        c, n = cauchy / np.sqrt(d), -np.linalg.solve(j, value) / np.sqrt(d)
        if np.linalg.norm(c) >= radius:
            kind, p = "steepest", c * radius / np.linalg.norm(c)
        elif np.linalg.norm(n) <= radius:
            kind, p = "Newton", n
        else:
            kind, leg = "between", n - c
            p = c + max(np.roots([leg @ leg, 2 * c @ leg, c @ c - radius**2])) * leg
        p = inside(x, np.sqrt(d) * p)
        cauchy = inside(x, cauchy * min(1, radius / np.linalg.norm(c)))
        if decrease(p) < 0.1 * decrease(cauchy):
            kind, p = "Cauchy", cauchy
        length = np.linalg.norm(p / np.sqrt(d))
        ratios.append((value @ value - np.sum(equations(x + p) ** 2)) / 2 / decrease(p))
        if ratios[-1] >= 0.25:
            x, radius = x + p, max(radius, 2 * length) if ratios[-1] >= 0.75 else radius
        else:
            radius = min(radius / 4, length / 2)
        kinds.append(kind)
        path.append(x)
    assert set(kinds) == {"steepest", "Newton", "between", "Cauchy"}
    assert np.histogram(ratios, [-9, 0.25, 0.75, 9])[0].min() >= 2

    with jax.enable_x64(True):
        problem = Composite.least_squares(lambda x: rows @ x + 1.5 * jnp.sin(bend * x) - shift, jnp.asarray(start))
        method = ScaledTrustRegion(jnp.asarray(lower), jnp.asarray(upper), kanzow_klug, radius=0.3, interior=0.9)
        trace = run(problem, method, steps=8, every=1, probes={"x": lambda p, x, key: x})
    np.testing.assert_allclose(trace["x"].values[0, 0], path, rtol=1e-7)


def test_a_refused_step_shrinks_the_region():
    method, problem = ScaledTrustRegion(radius=100.0), Composite.least_squares(jnp.arctan, jnp.array([10.0]))
    key = jax.random.key(0)
    x, state = method.step(problem, problem.init(key), method.init(problem, jnp.ones(1), key), key)
    assert x == 10.0
    assert state.radius == 25.0
    assert abs(run(problem, method, steps=30).final.item()) < 1e-5


def test_finds_a_root_on_the_bound_from_inside():
    with jax.enable_x64(True):
        problem = Composite.least_squares(lambda x: jnp.array([10 * (x[1] - x[0] ** 2), 1 - x[0]]), -jnp.ones(2) / 2)
        trace = run(problem, ScaledTrustRegion(-3.0, 1.0), steps=60, every=1, probes={"x": lambda p, x, key: x})
    points = trace["x"].values[0, 0]
    assert (points < 1).all()
    np.testing.assert_allclose(points[-1], 1, atol=1e-5)


def test_refuses_bad_hyperparameters():
    with pytest.raises(ValueError, match="interior"):
        ScaledTrustRegion(interior=1.0)
    with pytest.raises(ValueError, match="radius"):
        ScaledTrustRegion(radius=-1.0)
    with pytest.raises(ValueError, match="exponent"):
        heinkenschloss_ulbrich(*(jnp.zeros(1),) * 4, exponent=1.0)
