import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import TypeCheckError

from attractor.rl import gae

GAMMA, LAM = 0.9, 0.8


def by_hand(rewards, values, next_values, terminated, truncated):
    """The sum of (gamma lam)^l residuals, written out over each episode."""
    advantages = np.zeros_like(rewards)
    for t in range(len(rewards)):
        for later in range(t, len(rewards)):
            future = 0.0 if terminated[later] else next_values[later]
            residual = rewards[later] + GAMMA * future - values[later]
            advantages[t] += (GAMMA * LAM) ** (later - t) * residual
            if terminated[later] or truncated[later]:
                break
    return advantages


def data(shape, seed=0):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((3, *shape)), rng.random((2, *shape)) < 0.15


def test_is_the_weighted_sum_of_residuals_within_each_episode():
    numbers, ends = data((40, 3))
    with jax.enable_x64(True):
        r, v, w = map(jnp.asarray, numbers)
        terminated, truncated = map(jnp.asarray, ends)
        together = gae(r, v, w, GAMMA, LAM, terminated=terminated, truncated=truncated)
        alone = gae(r[:, 1], v[:, 1], w[:, 1], GAMMA, LAM, terminated=terminated[:, 1], truncated=truncated[:, 1])
    for env in range(3):
        expected = by_hand(*numbers[:, :, env], *ends[:, :, env])
        np.testing.assert_allclose(together[:, env], expected, atol=1e-12)
    np.testing.assert_allclose(alone, together[:, 1], atol=1e-12)


def test_values_a_cut_but_not_an_end():
    reward, value, later = jnp.ones(1), jnp.zeros(1), jnp.full(1, 10.0)
    assert gae(reward, value, later, GAMMA, truncated=jnp.ones(1, bool)) == pytest.approx(10.0)
    assert gae(reward, value, later, GAMMA, terminated=jnp.ones(1, bool)) == pytest.approx(1.0)
    assert gae(reward, value, later, GAMMA) == pytest.approx(10.0)  # the end of the arrays is a cut


def test_ignores_the_value_behind_a_termination():
    reward, value = jnp.ones(2), jnp.zeros(2)
    ended = jnp.asarray([True, False])
    assert jnp.isfinite(gae(reward, value, jnp.asarray([jnp.nan, 0.0]), terminated=ended)).all()


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float32])
def test_keeps_the_dtype_and_maps_over_lam(dtype):
    x = jnp.ones((5, 2), dtype)
    swept = jax.vmap(lambda lam: gae(x, x, x, 0.9, lam))(jnp.asarray([0.0, 0.5, 1.0]))
    assert swept.shape == (3, 5, 2)
    assert gae(x, x, x).dtype == dtype
    assert jnp.all(jnp.diff(swept[:, 0], axis=0) > 0)


@pytest.mark.parametrize("bad", [{"gamma": 1.5}, {"gamma": -0.1}, {"lam": 1.01}, {"lam": float("nan")}])
def test_refuses_bad_weights(bad):
    x = jnp.ones(3)
    with pytest.raises(ValueError, match=next(iter(bad))):
        gae(x, x, x, **bad)


def test_refuses_other_shapes():
    with pytest.raises((ValueError, TypeCheckError), match="next_values"):  # in tests the shape checker speaks first
        gae(jnp.ones(3), jnp.ones(3), jnp.ones(4))
