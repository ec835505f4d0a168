"""The residual network on digits."""

import equinox as eqx
import jax
import jax.random as jr
import numpy as np
import optax
import pytest

from attractor.problems import digits_resnet
from attractor.problems.vision import ResNet


def test_network_is_that_of_another_framework():
    torch = pytest.importorskip("torch", reason="an extra")
    from torch.nn.functional import conv2d, group_norm, relu

    model = ResNet(4, 2, key=jr.key(0))
    keys = iter(jr.split(jr.key(1), 100))  # scales and offsets that are not one and zero
    model = jax.tree.map(lambda a: a + 0.1 * jr.normal(next(keys), a.shape) if eqx.is_array(a) else a, model)
    pixels = jr.uniform(jr.key(2), (3, 64))

    def tensor(a):
        return torch.tensor(np.asarray(a))

    def normed(norm, x):
        return relu(group_norm(x, 4, tensor(norm.weight), tensor(norm.bias)))

    def through(blocks, x):
        for block in blocks:
            y = conv2d(normed(block.norms[0], x), tensor(block.convolutions[0].weight), padding=1)
            x = x + conv2d(normed(block.norms[1], y), tensor(block.convolutions[1].weight), padding=1)
        return x

    x = through(model.blocks, conv2d(tensor(pixels).reshape(3, 1, 8, 8), tensor(model.first.weight), padding=1))
    x = through(model.later, conv2d(x, tensor(model.narrow.weight), padding=1, stride=2))
    assert x.shape == (3, 8, 4, 4)
    expected = normed(model.norm, x).mean((2, 3)) @ tensor(model.head.weight).T + tensor(model.head.bias)
    np.testing.assert_allclose(jax.vmap(model)(pixels), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("options", "parameters"), [({}, 7_282), ({"channels": 64, "depth": 3}, 1_184_074)])
def test_sizes_are_those_of_the_docstring(options, parameters):
    shapes = jax.tree.leaves(eqx.filter_eval_shape(digits_resnet(**options).init, jr.key(0)))
    assert sum(s.size for s in shapes) == parameters


def test_residual_network_learns():
    problem, adam = digits_resnet(), optax.adam(3e-3)
    x = problem.init(jr.key(0))
    state = adam.init(x)

    @jax.jit
    def step(x, state, key):
        updates, state = adam.update(jax.grad(problem.loss)(x, problem.sample(key)), state)
        return optax.apply_updates(x, updates), state

    for key in jr.split(jr.key(1), 80):
        x, state = step(x, state, key)
    measures = {"validation_loss", "test_loss", "validation_accuracy", "test_accuracy"}
    assert set(problem.probes) == measures
    assert float(problem.probes["test_accuracy"](problem, x, jr.key(0))) > 0.5


@pytest.mark.parametrize("options", [{"channels": 6}, {"channels": 0}, {"depth": 0}])
def test_bad_arguments_are_named(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        digits_resnet(**options)
