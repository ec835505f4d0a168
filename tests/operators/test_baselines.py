"""Networks an operator is compared with: their sizes, and that they are what they say."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np

from attractor.operators import FNO, convolutional_network, dense_network, pointwise_network
from attractor.operators.baselines import LocalConv

MODEL = FNO(1, 1, 4, width=6, depth=3, hidden=10, key=jr.key(0))
SMOOTH = jnp.sin(2 * jnp.pi * jnp.arange(16) / 16)[None]


def size(model):
    return sum(leaf.size for leaf in jax.tree.leaves(eqx.filter(model, eqx.is_inexact_array)))


def test_local_convolution_is_a_sum_over_neighbors():
    layer, v = LocalConv(3, 2, 4, key=jr.key(1)), np.asarray(jr.normal(jr.key(2), (3, 9)))
    expected = sum(np.asarray(layer.weight)[..., j] @ np.roll(v, j, 1) for j in range(4))
    np.testing.assert_allclose(layer(jnp.asarray(v)), expected, atol=1e-5)


def test_sizes_agree():
    conv = convolutional_network(MODEL, key=jr.key(1))
    assert size(conv) == size(MODEL)
    assert conv(SMOOTH).shape == (1, 16)
    first, second, _ = conv.layers.kernel.weight
    assert jnp.abs(first - second).max() > 1e-3  # every layer draws its own
    dense = dense_network(MODEL, 16, key=jr.key(1))
    assert abs(size(dense) / size(MODEL) - 1) < 0.1
    assert dense(SMOOTH).shape == (1, 16)


def test_a_pointwise_network_does_not_see_its_neighbors():
    model = pointwise_network(MODEL)
    moved = model(SMOOTH.at[0, 5].add(1.0)) - model(SMOOTH)
    assert jnp.abs(moved[0, 5]) > 1e-4
    np.testing.assert_allclose(jnp.delete(moved[0], 5), 0.0, atol=1e-6)
