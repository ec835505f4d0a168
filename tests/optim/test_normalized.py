"""Powers of the norm against NumPy."""

import jax.numpy as jnp
import numpy as np
import optax
import pytest

from attractor.optim import normalized_gd, scale_by_norm_power


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
