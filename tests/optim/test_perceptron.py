"""The perceptron loss and gradients normalized in output space."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from attractor import run
from attractor.objectives import Composite
from attractor.optim.perceptron import OutputNormalized, logistic_loss, margins, perceptron_loss

RNG = np.random.default_rng(0)
X, Y = RNG.standard_normal((30, 4)), RNG.choice([-1.0, 1.0], 30)


def problem(outer):
    return Composite(margins, outer, jnp.zeros(4), (X, Y))


def test_ten_steps_by_hand():
    with jax.enable_x64(True):
        trace = run(problem(logistic_loss), OutputNormalized(0.7), steps=10)
        w = np.zeros(4)
        for _ in range(10):
            wrong = 1 / (1 + np.exp(Y * (X @ w)))
            w += 0.7 * ((wrong * Y) @ X) / wrong.sum()
        np.testing.assert_allclose(np.asarray(trace.final)[0, 0], w, rtol=1e-6)


def test_perceptron_gradient_halves_ties():
    x, y = jnp.eye(3), jnp.array([1.0, 1.0, -1.0])
    gradient = jax.grad(lambda w: perceptron_loss(margins(w, (x, y))))(jnp.array([0.0, -2.0, -2.0]))
    np.testing.assert_allclose(gradient, [-0.5 / 3, -1 / 3, 0], atol=1e-7)


def test_stays_where_nothing_arrives():
    flat = Composite(lambda x: x, lambda z: jnp.sum(z * 0), jnp.ones(3))
    assert np.asarray(run(flat, OutputNormalized(1.0), steps=3).final).tolist() == [[[1.0, 1.0, 1.0]]]


def test_refuses_a_bad_rate_by_name():
    with pytest.raises(ValueError, match="learning_rate"):
        OutputNormalized(0.0)
