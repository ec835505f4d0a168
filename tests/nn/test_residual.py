"""The convolutional networks against torch; weights around a hidden layer; starts and errors."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
import torch

from attractor.nn import BypassNetwork, MultilevelConvNet, ResidualConvNet, net_control


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


def test_several_scales_are_torch_convolutions_pooled_and_repeated():
    network, image = MultilevelConvNet(3, 3, key=jr.key(1)), jr.normal(jr.key(0), (8, 12))
    conv = lambda layer, x: torch.nn.functional.conv2d(x, torch.tensor(np.asarray(layer.weight)), padding=1)  # noqa: E731

    def level(i, x):
        (a, b), (c, d) = network.blocks[i]
        x = x + torch.relu(conv(b, torch.relu(conv(a, x))))
        if i < 2:
            coarse = level(i + 1, torch.nn.functional.avg_pool2d(x, 2))
            x = x + torch.nn.functional.interpolate(coarse, scale_factor=2, mode="nearest")
        return x + torch.relu(conv(d, torch.relu(conv(c, x))))

    expected = conv(network.last, level(0, conv(network.first, torch.tensor(np.asarray(image))[None, None])))[0, 0]
    apply = eqx.filter_jit(network)
    np.testing.assert_allclose(apply(image), expected.numpy(), atol=1e-5)
    np.testing.assert_allclose(apply(3 * image), 3 * expected.numpy(), atol=1e-5)
    with pytest.raises(ValueError, match="image: expected sides that are multiples of 4"):
        network(image[:6])
    for bad in ({"width": 0}, {"levels": 0}):
        with pytest.raises(ValueError, match=next(iter(bad))):
            MultilevelConvNet(**bad, key=jr.key(0))


def test_a_bypass_adds_a_linear_map_of_the_inputs():
    network, x = BypassNetwork(3, 2, 4, key=jr.key(0)), jnp.array([0.3, -1.0, 2.0])
    hidden, output = (
        tuple(np.asarray(a) for a in (layer.weight, layer.bias)) for layer in (network.hidden, network.output)
    )
    units = np.tanh(hidden[0] @ x + hidden[1])
    np.testing.assert_allclose(network(x), output[0][:, :3] @ x + output[0][:, 3:] @ units + output[1], rtol=1e-5)


def test_net_control_sets_mean_and_deviation_of_every_unit_in_the_same_direction():
    layer, inputs = eqx.nn.Linear(3, 4, key=jr.key(0)), 2 + jr.normal(jr.key(1), (50, 3)) * jnp.array([1.0, 30.0, 0.1])
    new = net_control(layer, inputs, 0.5, 2.0)
    seen = inputs @ new.weight.T + new.bias
    np.testing.assert_allclose(seen.mean(0), 0.5, atol=1e-4)
    np.testing.assert_allclose(seen.std(0), 2.0, rtol=1e-4)
    ratios = new.weight / layer.weight
    np.testing.assert_allclose(ratios, jnp.broadcast_to(ratios[:, :1], ratios.shape), rtol=1e-5)
    assert (ratios > 0).all()


@pytest.mark.parametrize("bad", ["inputs", "outputs", "width"])
def test_a_bypass_refuses_sizes_below_one(bad):
    with pytest.raises(ValueError, match=bad):
        BypassNetwork(**({"inputs": 2, "outputs": 1, "width": 3} | {bad: 0}), key=jr.key(0))
    with pytest.raises(ValueError, match="deviation"):
        net_control(eqx.nn.Linear(2, 2, key=jr.key(0)), jnp.ones((3, 2)), deviation=0.0)
    with pytest.raises(ValueError, match="bias"):
        net_control(eqx.nn.Linear(2, 2, use_bias=False, key=jr.key(0)), jnp.ones((3, 2)))


def test_layers_of_a_bypass_network_are_drawn_independently():
    network = BypassNetwork(2, 4, 4, key=jr.key(0))  # biases of one shape, uniform within the root of 1 / inputs
    assert network.output.bias is not None
    assert network.hidden.bias is not None
    unit = network.hidden.bias * 2**0.5, network.output.bias * 6**0.5
    assert np.abs(unit[0] - unit[1]).max() > 0.1
