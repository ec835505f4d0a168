"""Networks of any width, and what the maximal-update parametrization keeps level."""

from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import pytest

from attractor.problems import coordinate_check, digits_mlp, digits_wide_mlp, text_transformer
from attractor.problems.widths import Dense, WideMLP


@pytest.mark.parametrize(
    ("kind", "deviation", "multiplier"), [("input", 1, 1), ("hidden", 4, 1 / 4), ("output", 2, 1 / 4)]
)
def test_weights_are_drawn_and_multiplied_as_the_table_says(kind, deviation, multiplier):
    layer = Dense(300, 200, kind, 4.0, key=jr.key(0))
    assert layer.weight.shape == (200, 300)
    assert float(layer.weight.std()) == pytest.approx(deviation / 300**0.5, rel=0.02)
    assert float(layer.weight.mean()) == pytest.approx(0, abs=0.01)
    assert not layer.bias.any()
    x = jnp.arange(300.0)
    np.testing.assert_allclose(layer(x), multiplier * (layer.weight @ x), rtol=1e-5)
    assert Dense(3, 2, kind, 4.0, use_bias=False, key=jr.key(0)).bias is None


@pytest.mark.parametrize("make", [digits_wide_mlp, partial(text_transformer, context=8, held_out_length=9)])
def test_parametrizations_agree_at_the_base_width_only(make):
    def loss(width, parametrization):
        problem = make(width=width, base_width=32, parametrization=parametrization)
        return float(problem.loss(problem.init(jr.key(0)), problem.sample(jr.key(1))))

    assert loss(32, "mup") == loss(32, "standard")
    assert loss(64, "mup") != loss(64, "standard")


@pytest.mark.parametrize("depth", [1, 2])
def test_at_equal_weights_it_is_the_network_of_digits_mlp(depth):
    wide, other = digits_wide_mlp(width=12, depth=depth), digits_mlp(width=12, depth=depth)
    x, y = wide.init(jr.key(0)), other.init(jr.key(1))
    pairs = [(layer.weight, jr.normal(jr.key(i), layer.bias.shape)) for i, layer in enumerate(x.layers)]
    for i, (weight, bias) in enumerate(pairs):
        x = eqx.tree_at(lambda m, i=i: m.layers[i].bias, x, bias)
        y = eqx.tree_at(lambda m, i=i: (m.layers[i].weight, m.layers[i].bias), y, (weight, bias))
    for problem in (wide, other):  # the same samples at the same key
        assert jax.tree.structure(problem.full) == jax.tree.structure(wide.full)
        np.testing.assert_array_equal(problem.sample(jr.key(3))[0], wide.sample(jr.key(3))[0])
    logits = plain(pairs, jnp.asarray(wide.full[0]))
    expected = optax.softmax_cross_entropy_with_integer_labels(logits, jnp.asarray(wide.full[1])).mean()
    for problem, at in ((wide, x), (other, y)):
        np.testing.assert_allclose(problem.loss(at, problem.full), expected, rtol=1e-5)


def plain(weights, pixels):
    """A ReLU network of matrices and biases, with no multipliers."""
    *body, (last, bias) = weights
    for w, b in body:
        pixels = jax.nn.relu(pixels @ w.T + b)
    return pixels @ last.T + bias


def test_one_rate_moves_every_layer_as_rates_per_layer_would():
    growth, rate, tiny = 3.0, 3e-3, 1e-30  # Adam's epsilon is not scaled with the gradients
    model = WideMLP(96, 2, growth, key=jr.key(0))
    images, labels = jr.uniform(jr.key(1), (20, 64)), jnp.arange(20) % 10
    ours = [(layer.weight, layer.bias) for layer in model.layers]
    theirs = [(a * w, b) for a, (w, b) in zip((1, 1 / growth, 1 / growth), ours, strict=True)]
    labeled = [("whole", "whole"), ("slow", "whole"), ("slow", "whole")]

    def outputs(weights):
        scaled = [(layer.multiplier * w, b) for layer, (w, b) in zip(model.layers, weights, strict=True)]
        return plain(scaled, images)

    def train(weights, outputs, optimizer):
        def loss(weights):
            return optax.softmax_cross_entropy_with_integer_labels(outputs(weights), labels).mean()

        @jax.jit
        def step(weights, state):
            updates, state = optimizer.update(jax.grad(loss)(weights), state)
            return optax.apply_updates(weights, updates), state, loss(weights)

        state, losses = optimizer.init(weights), []
        for _ in range(10):
            weights, state, value = step(weights, state)
            losses.append(float(value))
        return losses

    np.testing.assert_allclose(outputs(ours), jax.vmap(model)(images), atol=1e-5)
    slow = optax.multi_transform(
        {"whole": optax.adam(rate, eps=tiny), "slow": optax.adam(rate / growth, eps=tiny)}, labeled
    )
    reference = train(theirs, lambda weights: plain(weights, images), slow)
    np.testing.assert_allclose(train(ours, outputs, optax.adam(rate, eps=tiny)), reference, rtol=1e-4)
    assert reference[-1] < reference[0] - 0.1


def exponents(make, parametrization, widths):
    """How each activation's change grows with the width, as a power of it."""
    moved = coordinate_check(partial(make, parametrization=parametrization), optax.adam(1e-2), widths)
    assert moved.shape[0] == len(widths)
    assert (moved > 1e-3).all()
    return np.polyfit(np.log(widths), np.log(moved), 1)[0]


def test_coordinates_of_the_network_move_alike_at_every_width():
    assert np.abs(exponents(digits_wide_mlp, "mup", (64, 512))).max() < 0.15
    first, hidden, logits = exponents(digits_wide_mlp, "standard", (64, 512))
    assert abs(first) < 0.15
    assert min(hidden, logits) > 0.3


def test_coordinates_of_the_network_of_digits_mlp_move_alike_at_every_width():
    first, logits = exponents(partial(digits_wide_mlp, depth=1), "mup", (64, 512))
    assert max(abs(first), abs(logits)) < 0.15
    first, logits = exponents(partial(digits_wide_mlp, depth=1), "standard", (64, 512))
    assert abs(first) < 0.15
    assert logits > 0.3


def test_coordinates_of_the_transformer_move_alike_at_every_width():
    make = partial(text_transformer, context=8, base_width=64, held_out_length=9)
    embedded, attention, block, logits = exponents(make, "mup", (64, 512))
    assert max(abs(embedded), abs(block), abs(logits)) < 0.15
    assert -0.5 < attention < 0.15  # what queries and keys have in common by chance falls as the root of the width
    embedded, attention, block, logits = exponents(make, "standard", (64, 512))
    assert abs(embedded) < 0.15
    assert min(attention, block, logits) > 0.3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"parametrization": "mu"}, "unknown parametrization 'mu', did you mean 'mup'"),
        ({"width": 0}, "width"),
        ({"base_width": 0}, "base_width"),
        ({"depth": 0}, "depth"),
    ],
)
def test_bad_arguments_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        digits_wide_mlp(**options)


@pytest.mark.parametrize(
    ("options", "message"),
    [({"kind": "middle"}, "kind"), ({"growth": 0.0}, "growth"), ({"inputs": 0}, "inputs"), ({"outputs": 0}, "outputs")],
)
def test_bad_layers_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        Dense(**({"inputs": 2, "outputs": 3} | options), key=jr.key(0))


def test_a_check_takes_steps_and_samples():
    with pytest.raises(ValueError, match="steps"):
        coordinate_check(digits_wide_mlp, optax.adam(1e-2), (8,), steps=0)
    with pytest.raises(ValueError, match="samples"):
        coordinate_check(digits_wide_mlp, optax.adam(1e-2), (8,), samples=0)
