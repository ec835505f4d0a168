"""Common descent on losses whose Pareto sets are known, and errors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from attractor.optim import common_descent, scalarized


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
