"""Small data sets: what is averaged, split and measured."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.datasets import load_diabetes

from attractor.problems.diabetes import diabetes_mlp, diabetes_sample
from attractor.problems.digits import averaged_pixels, digits, small_digits, small_digits_mlp


def test_small_digits_are_means_of_2_by_2_pixels():
    (images, labels), _ = digits()
    found, kept = small_digits(3, every=2)
    chosen = np.flatnonzero(labels < 3)[::2]
    np.testing.assert_array_equal(kept, labels[chosen])
    full = images[chosen[5]].reshape(8, 8)
    expected = [[full[2 * i : 2 * i + 2, 2 * j : 2 * j + 2].mean() for j in range(4)] for i in range(4)]
    np.testing.assert_allclose(found[5].reshape(4, 4), expected, rtol=1e-6)


def test_diabetes_network_is_measured_on_patients_it_does_not_train_on():
    problem = diabetes_mlp(width=3, batch_size=None)
    x, y = problem.full
    assert (len(x), set(problem.probes)) == (331, {"loss", "validation_loss", "test_loss"})
    start = problem.init(jax.random.key(0))
    outputs = problem.inner(start, problem.full)
    np.testing.assert_allclose(problem.loss(start, problem.full), 0.5 * jnp.mean((outputs - y) ** 2), rtol=1e-5)
    assert float(problem.probes["test_loss"](problem, start, jax.random.key(1), None)) > 0


def test_a_sample_of_patients_is_standardized_among_themselves():
    with jax.enable_x64(True):
        x, y = map(np.asarray, diabetes_sample((2, 8), count=9, seed=3))
        every = np.asarray(diabetes_sample((2,), count=442)[0])
    assert (x.shape, y.shape) == ((9, 3), (9,))
    np.testing.assert_allclose(x.mean(0), [0, 0, 1], atol=1e-12)
    np.testing.assert_allclose([*x.std(0), y.mean(), y.std()], [1, 1, 0, 0, 1], atol=1e-12)
    mass = load_diabetes().data[:, 2]
    np.testing.assert_allclose(np.sort(every[:, 0]), np.sort((mass - mass.mean()) / mass.std()), rtol=1e-10)
    with pytest.raises(ValueError, match="count"):
        diabetes_sample((2,), count=443)


def test_a_network_on_small_digits_is_as_small_as_it_says():
    problem = small_digits_mlp(3, 6, every=2, count=20)
    x = problem.init(jax.random.key(0))
    assert sum(leaf.size for leaf in jax.tree.leaves(x)) == 16 * 6 + 6 + 6 * 3 + 3
    images, labels = small_digits(3, every=2)
    np.testing.assert_array_equal(problem.full[0], images[:20])
    first, second = x.layers
    logits = np.tanh(images[:20] @ first.weight.T + first.bias) @ second.weight.T + second.bias
    chosen = np.take_along_axis(np.asarray(jax.nn.log_softmax(logits)), labels[:20, None], 1)
    np.testing.assert_allclose(problem.loss(x, problem.full), -chosen.mean(), rtol=1e-5)
    with pytest.raises(ValueError, match="width"):
        small_digits_mlp(3, 0)


@pytest.mark.parametrize("side", [1, 2, 8])
def test_pixels_are_averaged_over_blocks(side):
    images = np.random.default_rng(0).random((3, 64))
    found, wide = averaged_pixels(images, side), 8 // side
    assert found.shape == (3, side**2)
    block = images[1].reshape(8, 8)[:wide, (side - 1) * wide :]
    assert found[1, side - 1] == pytest.approx(block.mean())
    with pytest.raises(ValueError, match="side"):
        averaged_pixels(images, 3)
