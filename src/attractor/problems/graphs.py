"""Graphs of data: neighbors, weighted by how near they are."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from sklearn.datasets import load_digits
from sklearn.neighbors import kneighbors_graph

from attractor.checks import in_range


def digits_graph(
    pair: Sequence[int] = (4, 9), neighbors: int = 10
) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, "n n"]]:
    r"""Images of two digits that look alike: labels, and the weights of their nearest-neighbor graph.

    A weight is $e^{-(d / \bar d)^2}$ for the distance d of neighbors, over the mean; the larger one of both ways.

    Arguments:
        pair: The digits; those of the second have the label 1, the others -1.
        neighbors: Of each image, at least 1.

    Raises:
        ValueError: if ``neighbors`` is out of range.
    """
    in_range("neighbors", neighbors, 1)
    x, y = load_digits(return_X_y=True)
    x, y = x[np.isin(y, pair)], y[np.isin(y, pair)]
    distances = kneighbors_graph(x, neighbors, mode="distance").toarray()
    weights = np.where(distances > 0, np.exp(-((distances / distances[distances > 0].mean()) ** 2)), 0)
    return np.where(y == pair[1], 1.0, -1.0), np.maximum(weights, weights.T)
