"""Graphs: of data, whose neighbors are weighted by how near they are, and the ways through a grid."""

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


def grid_paths(side: int) -> Float[np.ndarray, "paths edges"]:
    """All ways from one corner of a square grid to the other, right or down, as which edges they take: 0 and 1.

    Arguments:
        side: Nodes per side, 2 to 9; there are as many paths as ways to order the moves, 252 for 6.

    Raises:
        ValueError: if ``side`` is out of range.
    """
    in_range("side", side, 2, 9)
    edges: dict[tuple, int] = {}
    paths: list[list[int]] = []

    def walk(node: tuple[int, int], taken: list[int]) -> None:
        if node == (side - 1, side - 1):
            paths.append(taken)
        for step in ((0, 1), (1, 0)):
            to = node[0] + step[0], node[1] + step[1]
            if max(to) < side:
                walk(to, [*taken, edges.setdefault((node, to), len(edges))])

    walk((0, 0), [])
    table = np.zeros((len(paths), len(edges)))
    for row, taken in zip(table, paths, strict=True):
        row[taken] = 1.0
    return table
