"""The residual convolutional network against torch, its start, and errors."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
import torch

from attractor.nn import ResidualConvNet


def test_it_starts_as_the_identity():
    image = jr.normal(jr.key(0), (6, 7))
    np.testing.assert_array_equal(ResidualConvNet(4, 2, key=jr.key(1))(image), image)


def test_it_is_torch_convolutions_plus_the_image():
    network = ResidualConvNet(4, 3, key=jr.key(1))
    last = jax.tree.map(lambda a: a + 0.1, network.convolutions[-1])
    network = eqx.tree_at(lambda n: n.convolutions[-1], network, last)
    image = jr.normal(jr.key(0), (6, 7))
    x = torch.tensor(np.asarray(image))[None, None]
    for i, layer in enumerate(network.convolutions):
        weight, bias = (torch.tensor(np.asarray(a)) for a in (layer.weight, jnp.ravel(jnp.asarray(layer.bias))))
        x = torch.nn.functional.conv2d(torch.relu(x) if i else x, weight, bias, padding=1)
    np.testing.assert_allclose(network(image), image + x[0, 0].numpy(), atol=1e-5)


@pytest.mark.parametrize("bad", [{"width": 0}, {"depth": 1}])
def test_errors_name_the_argument(bad):
    with pytest.raises(ValueError, match=next(iter(bad))):
        ResidualConvNet(**bad, key=jr.key(0))
