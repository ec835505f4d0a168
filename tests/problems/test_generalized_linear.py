"""Losses of sigmoid models against NumPy, and the laws of their data."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from attractor.optim import quasar_convexity
from attractor.problems import imitated_neuron, sigmoid_classification

RNG = np.random.default_rng(0)


def test_the_sigmoid_loss_and_its_constants():
    problem, x = sigmoid_classification(200, dim=5, decay=1.5, margin=3.0, penalty=0.2, seed=1), RNG.standard_normal(5)
    rows, labels = (np.asarray(a, float) for a in problem.full)
    loss = np.mean(1 / (1 + np.exp(labels * (rows @ x)))) + 0.1 * x @ x
    assert float(problem.loss(jnp.asarray(x), problem.full)) == pytest.approx(loss, rel=1e-5)
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, rtol=1e-5)
    deviations = rows.std(0)
    assert (np.diff(deviations) < 0).all()
    assert np.mean(labels == np.sign(rows.sum(1))) > 0.75  # a label is what the truth says, mostly

    def one(x, y):  # the loss of a sample, along its own row of length 1
        return float(jax.grad(lambda t: 1 / (1 + jnp.exp(y * t)))(x))

    slopes = np.array([one(t, 1.0) for t in np.linspace(-4, 4, 161)])
    assert np.abs(slopes).max() == pytest.approx(problem.constants["L0"], rel=1e-3)
    assert np.abs(np.diff(slopes) / 0.05).max() == pytest.approx(problem.constants["L1"], rel=1e-2)


def test_the_neuron_imitates():
    problem = imitated_neuron(300, dim=4, spread=100.0, batch_size=7, seed=2)
    inputs, outputs = (np.asarray(a, float) for a in problem.full)
    truth, w = np.asarray(problem.solution, float), RNG.standard_normal(4)

    def sigmoid(t):
        return 1 / (1 + np.exp(-t))

    np.testing.assert_allclose(outputs, sigmoid(inputs @ truth), rtol=1e-5)
    loss = np.mean((sigmoid(inputs @ w) - outputs) ** 2) / 2
    assert float(problem.loss(jnp.asarray(w), problem.full)) == pytest.approx(loss, rel=1e-4)
    assert float(problem.loss(problem.solution, problem.full)) == pytest.approx(0, abs=1e-10)
    assert inputs[:, 0].std() / inputs[:, -1].std() == pytest.approx(10, rel=0.2)
    assert problem.sample(jr.key(0))[0].shape == (7, 4)
    points = problem.solution + jr.normal(jr.key(1), (500, 4))
    assert 0 < float(quasar_convexity(lambda w: problem.loss(w, problem.full), problem.solution, points)) < 2


@pytest.mark.parametrize("name", ["samples", "dim", "decay", "margin", "penalty"])
def test_classification_rejects(name):
    with pytest.raises(ValueError, match=name):
        sigmoid_classification(**{name: -1})


def test_neuron_rejects():
    with pytest.raises(ValueError, match="spread"):
        imitated_neuron(spread=0.5)
