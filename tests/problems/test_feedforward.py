"""Sequential computations against automatic differentiation, plain loops, and the order that masks promise."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np

from attractor.linalg import parallel_evaluation
from attractor.problems import feedforward
from attractor.problems.digits import digits


def in_sequence(step, weights, shape):
    return parallel_evaluation(lambda t, s: step(weights, t, s), jnp.zeros(shape), block=shape[0]).states


def test_adjoints_are_those_of_automatic_differentiation():
    random = np.random.default_rng(3)
    matrix = np.linalg.qr(random.standard_normal((32, 32)))[0]
    into, out = random.standard_normal((2, 32))

    def loss(pushes):
        h = jnp.zeros(32)
        for pixel, push in zip(digits()[0][0][3], pushes, strict=True):
            h = jnp.tanh(matrix @ h + into * pixel) + push
        return out @ h

    found = in_sequence(feedforward.adjoint_step, feedforward.rnn_adjoints(3), (64, 32))
    np.testing.assert_allclose(found[::-1], jax.grad(loss)(jnp.zeros((64, 32))), rtol=1e-3, atol=1e-5)


def test_a_dense_layer_sees_the_layers_before_it_only():
    weights = feedforward.dense_net(2)
    states = jr.normal(jr.key(0), (32, 8))
    moved = states.at[7:].add(1.0)
    for t, same in ((7, True), (8, False)):
        one, other = (feedforward.dense_step(weights, jnp.asarray(t), s) for s in (states, moved))
        assert bool(jnp.allclose(one, other)) == same
    variance = (weights["layers"][9, :, :9] ** 2).mean()
    np.testing.assert_allclose(variance, 2 / (64 + 72), rtol=0.2)


def test_a_pixel_sees_the_pixels_before_it_only_and_training_helps():
    weights, nats = feedforward.masked_autoencoder(jr.key(0), steps=30)
    assert nats > -10  # it starts at -20
    image, t = jr.normal(jr.key(1), (64,)), 20
    slopes = jax.jacobian(lambda x: feedforward._logits(weights, x))(image)
    assert not np.triu(slopes).any()
    assert np.count_nonzero(slopes[t, :t]) == t
    logit = feedforward._logits(weights, image)[t]
    for noise, pixel in ((-logit + 1e-3, 1.0), (-logit - 1e-3, 0.0)):
        found = feedforward.pixel_step(weights | {"noise": jnp.full(64, noise)}, jnp.asarray(t), image)
        assert float(found) == pixel
