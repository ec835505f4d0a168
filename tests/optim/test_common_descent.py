"""Common descent on losses whose Pareto sets are known, and errors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from attractor.optim import common_descent, largest_front_gap, scalarized
from attractor.optim.common_descent import _refuting


@pytest.fixture(autouse=True)
def double_precision():
    with jax.enable_x64(True):
        yield


def test_smooth_losses_end_between_their_minimizers():
    ends = jnp.array([[0.0, 0.0], [2.0, 2.0]])
    found = common_descent(lambda x: jnp.sum((x - ends) ** 2, axis=1), jnp.array([3.0, -1.0]))
    assert found.norm <= 1e-4
    np.testing.assert_allclose(found.x[0], found.x[1], atol=1e-3)
    assert 0 <= float(found.x[0]) <= 2


def test_steps_of_a_smooth_loss_by_hand():
    curvature, x = np.array([1.0, 3.0]), np.array([3.0, -1.0])
    start, value = x, lambda x: np.sum(curvature * x**2) / 2
    for _ in range(3):
        v = -curvature * x
        t = 0.1 / np.linalg.norm(v)
        while value(x + 2 * t * v) <= value(x) - 0.25 * 2 * t * (v @ v):
            t *= 2
        x, length = x + t * v, np.linalg.norm(v)
    found = common_descent(lambda x: jnp.sum(curvature * x**2)[None] / 2, jnp.asarray(start), radius=0.1, steps=3)
    np.testing.assert_allclose(found.x, x, rtol=1e-8)
    np.testing.assert_allclose(found.norm, length, rtol=1e-8)
    assert found.steps == 3


@pytest.mark.parametrize("bumps", [(1.0, 2.0), (2.0, 2.5)])
def test_a_broken_promise_is_refuted_by_a_gradient_on_the_way(bumps):
    """Slope -0.5, then 2 between the bumps, then -0.2, which is not bad enough: a quarter of -0.25 was promised."""

    def slope(x):
        return 2.0 if bumps[0] < x < bumps[1] else -0.5 if x < bumps[0] else -0.2

    def value(x):
        first, second = min(x, bumps[0]), min(max(x - bumps[0], 0), bumps[1] - bumps[0])
        return -0.5 * first + 2 * second - 0.2 * max(x - bumps[1], 0)

    v, reach = jnp.array([0.5]), 6.0
    lowered = lambda t: np.array([value(t * 0.5) <= -0.25 * t * 0.25])  # noqa: E731
    assert not lowered(reach)
    found = _refuting(lambda x: np.array([[slope(float(x[0]))]]), lowered, jnp.zeros(1), v, 0.5, reach, 0)
    np.testing.assert_allclose(found, [2.0])


def test_no_loss_rises():
    def losses(x):
        return jnp.stack([jnp.abs(x).sum(), jnp.sum((x - 1) ** 2)])

    start = jnp.array([2.0, -1.5, 0.3])
    found = common_descent(losses, start)
    assert bool((losses(found.x) <= losses(start)).all())
    assert found.norm <= 1e-4


def test_one_loss_with_a_kink_is_minimized():
    found = common_descent(lambda x: jnp.max(jnp.abs(x) * jnp.array([1.0, 5.0]))[None], jnp.array([1.0, 0.7]))
    np.testing.assert_allclose(found.x, 0, atol=2e-3)


def test_a_critical_start_is_returned():
    found = common_descent(lambda x: jnp.sum(x**2)[None], jnp.zeros(2))
    assert found.steps == 0
    np.testing.assert_array_equal(found.x, 0)


@pytest.mark.parametrize("bad", [{"radius": 0.0}, {"tolerance": 0.0}, {"steps": 0}, {"hull": 0}])
def test_errors_name_the_argument(bad):
    with pytest.raises(ValueError, match=next(iter(bad))):
        common_descent(lambda x: jnp.sum(x**2)[None], jnp.ones(2), **bad)


def test_scalarizations_end_where_they_should_and_continuing_is_cheaper():
    ends, sizes = jnp.array([[0.0, 1.0, 2.0], [2.0, -1.0, 0.5]]), jnp.array([1.0, 3.0])

    def losses(x):
        return sizes * jnp.sum((x - ends) ** 2, axis=1)

    weights = np.linspace(0.1, 2.0, 12)
    found, counts = scalarized(lambda x, w: losses(x)[0] + w * losses(x)[1], jnp.full(3, 40.0), weights)
    expected = (ends[0] + 3 * weights[:, None] * ends[1]) / (1 + 3 * weights[:, None])
    np.testing.assert_allclose(found, expected, atol=1e-6)
    again, fewer = scalarized(lambda x, w: losses(x)[0] + w * losses(x)[1], jnp.full(3, 40.0), weights, continued=True)
    np.testing.assert_allclose(again, expected, atol=1e-6)
    assert fewer[0] == counts[0]
    assert fewer[1:].sum() < counts[1:].sum()
    with pytest.raises(ValueError, match="steps"):
        scalarized(lambda x, w: losses(x)[0], jnp.zeros(3), [1.0], steps=0)


def test_the_gap_to_a_front_is_relative_and_at_an_equal_second_loss():
    cost = np.geomspace(1e-3, 1.0, 40)[::-1]
    front = np.stack([cost**-0.5, cost], 1)  # a straight line in logarithms, where a monotone cubic is near
    points = np.array([[1.02 * 0.2**-0.5, 0.2], [0.95 * 0.01**-0.5, 0.01]])
    assert largest_front_gap(front, front[3:9]) == pytest.approx(0, abs=1e-12)
    assert largest_front_gap(front, points[:1]) == pytest.approx(0.02, abs=1e-3)
    assert largest_front_gap(front, points) == pytest.approx(0.05, abs=1e-3)
    assert np.isnan(largest_front_gap(front, np.array([[1.0, 2.0]])))
