"""Powers of the norm against NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from attractor.optim import change_of_gradient, normalized_gd, scale_by_norm_power


@pytest.mark.parametrize("beta", [0.0, 0.5, 1.0])
def test_agrees_with_numpy(beta):
    g = {"a": np.array([3.0, 0.0]), "b": np.array(4.0)}
    piece = scale_by_norm_power(beta)
    out, _ = piece.update({k: jnp.asarray(v) for k, v in g.items()}, optax.EmptyState())
    for k in g:
        np.testing.assert_allclose(out[k], g[k] / 5**beta, rtol=1e-6)


def test_ten_steps_along_a_line():
    x, optimizer = jnp.asarray([10.0]), normalized_gd(0.5, 1.0)
    state = optimizer.init(x)
    for _ in range(10):
        updates, state = optimizer.update(jnp.sinh(x), state)
        x = optax.apply_updates(x, updates)
    np.testing.assert_allclose(x, [5.0], rtol=1e-6)


def test_the_change_of_a_gradient_and_its_longest_on_the_way():
    def gradient(x):  # longest in the middle: 4 x (1 - x) along the first axis
        return jnp.stack([4 * x[0] * (1 - x[0]), 3 * x[1]])

    with jax.enable_x64(True):
        w, v = jnp.array([0.0, 0.0]), jnp.array([1.0, 0.2])
        change, longest = change_of_gradient(gradient, w, v, between=21)
        at = np.linspace(0, 1, 21)
    np.testing.assert_allclose(change, 0.6 / np.hypot(1, 0.2), rtol=1e-12)
    np.testing.assert_allclose(longest, np.hypot(4 * at * (1 - at), 0.6 * at).max(), rtol=1e-12)
    with pytest.raises(ValueError, match="between"):
        change_of_gradient(gradient, w, v, between=1)
