"""Digits as a graph and data sets as bits, against their definitions."""

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.neighbors import NearestNeighbors

from attractor.problems import binary_digits, binary_iris, digits_graph


def test_the_graph_joins_nearest_neighbors():
    labels, weights = digits_graph((3, 8), neighbors=4)
    x, y = load_digits(return_X_y=True)
    x, y = x[np.isin(y, (3, 8))], y[np.isin(y, (3, 8))]
    np.testing.assert_array_equal(labels, np.where(y == 8, 1, -1))
    np.testing.assert_array_equal(weights, weights.T)
    distance, index = NearestNeighbors(n_neighbors=5).fit(x).kneighbors(x)  # itself first
    expected = np.exp(-((distance[0, 1:] / distance[:, 1:].mean()) ** 2))
    np.testing.assert_allclose(weights[0, index[0, 1:]], expected, rtol=1e-10)
    assert ((weights > 0).sum(1) >= 4).all()
    with pytest.raises(ValueError, match="neighbors"):
        digits_graph(neighbors=0)


def test_iris_and_digits_as_bits():
    inputs, held_out, labels, truths = binary_iris(seed=1)
    assert (inputs.shape, held_out.shape, labels.shape) == ((75, 4), (75, 4), (75, 3))
    np.testing.assert_array_equal(truths.sum(0), 25)
    setosa = np.concatenate([inputs[labels[:, 0]], held_out[truths[:, 0]]])
    assert not setosa[:, 2:].any()  # its petals are small
    assert np.concatenate([inputs[labels[:, 2]], held_out[truths[:, 2]]])[:, 2:].mean() > 0.9
    inputs, held_out, labels, truths = binary_digits(seed=2, bits=7)
    assert inputs.shape[1] == held_out.shape[1] == 7
    assert (len(inputs) + len(held_out), labels.shape[1]) == (1_797, 10)
    np.testing.assert_array_equal(labels.sum(1), 1)
    rates = np.stack([inputs[labels[:, d]].mean(0) for d in range(10)])
    assert np.ptp(rates, axis=0).min() > 0.3  # each of these pixels tells some digit from another
    with pytest.raises(ValueError, match="bits"):
        binary_digits(bits=0)
