"""Graphs: of data, whose neighbors are weighted by how near they are, and the ways through a grid, late or in time."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray
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


class Deadline(NamedTuple):
    """Edges that take independent normal times, and when to be there: one instance, or more along the first axis."""

    means: Float[Array, "*n edges"]
    variances: Float[Array, "*n edges"]
    deadline: Float[Array, "*n"]

    def late(self, x: Float[Array, " edges"]) -> Float[Array, ""]:
        """The chance that the edges of a way, 0 and 1, take longer; of one instance. Not linear in x."""
        return jax.scipy.stats.norm.cdf((x @ self.means - self.deadline) / jnp.sqrt(x @ self.variances))


def random_deadlines(paths: Float[np.ndarray, "paths edges"], n: int, key: PRNGKeyArray) -> Deadline:
    """Edges that are quicker on average vary more; the deadline is 1.2 times what the quickest way takes on average.

    Means are uniform in [0.9, 1.1], variances $(5.5 - 5 m)^2$ times a number in [0.1, 1] for a mean m.

    Arguments:
        paths: All ways, such as those of `grid_paths`.
        n: Instances, at least 1.
        key: Which.

    Raises:
        ValueError: if ``n`` is out of range.
    """
    in_range("n", n, 1)
    for_means, for_spread = jr.split(key)
    means = jr.uniform(for_means, (n, paths.shape[1]), minval=0.9, maxval=1.1)
    variances = (5.5 - 5 * means) ** 2 * jr.uniform(for_spread, (n, paths.shape[1]), minval=0.1, maxval=1.0)
    return Deadline(means, variances, 1.2 * (means @ paths.T).min(1))
