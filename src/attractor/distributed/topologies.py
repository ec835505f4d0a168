"""Who talks to whom without a server: graphs as adjacency matrices, and the weights by which neighbors are averaged."""

from collections.abc import Callable

import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Bool, Float
from scipy.sparse.csgraph import connected_components

from attractor.checks import in_range

Adjacency = Bool[np.ndarray, "n n"]
Mixing = Float[np.ndarray, "n n"] | Float[Array, "n n"]


def _shifts(n: int, steps: list[int]) -> Adjacency:
    """Node i hears i + s for every s of ``steps``."""
    in_range("n", n, 1)
    adjacency = np.zeros((n, n), bool)
    for step in steps:
        adjacency[np.arange(n), (np.arange(n) + step) % n] = True
    np.fill_diagonal(adjacency, False)
    return adjacency


def ring(n: int) -> Adjacency:
    r"""A ring: each node and its two neighbors. Gap of its mixing matrix, n ≥ 3: $\frac23 (1 - \cos\frac{2\pi}n)$.

    Arguments:
        n: Nodes, at least 1.

    Raises:
        ValueError: for n below 1.
    """
    return _shifts(n, [1, -1])


def torus(rows: int, columns: int) -> Adjacency:
    r"""A grid whose edges meet. Gap, both sides ≥ 3 and m the longer one: $\frac25 (1 - \cos\frac{2\pi}m)$.

    Arguments:
        rows: At least 1.
        columns: At least 1.

    Raises:
        ValueError: for an argument below 1.
    """
    in_range("rows", rows, 1)
    in_range("columns", columns, 1)
    within, across = np.eye(rows, dtype=bool), np.eye(columns, dtype=bool)
    return np.kron(ring(rows), across) | np.kron(within, ring(columns))


def complete(n: int) -> Adjacency:
    """Everybody hears everybody: one round averages exactly, the gap is 1.

    Arguments:
        n: Nodes, at least 1.

    Raises:
        ValueError: for n below 1.
    """
    return _shifts(n, list(range(n)))


def exponential(n: int) -> Adjacency:
    r"""Node i hears i + 1, i + 2, i + 4 …: directed. Gap for n a power of 2: $2 / (1 + \log_2 n)$.

    Arguments:
        n: Nodes, at least 1.

    Raises:
        ValueError: for n below 1.
    """
    in_range("n", n, 1)
    return _shifts(n, [2**k for k in range((n - 1).bit_length())])


def erdos_renyi(n: int, probability: float, seed: int = 0) -> Adjacency:
    """A random graph: every pair of nodes is linked with one probability, on its own.

    Arguments:
        n: Nodes, at least 1.
        probability: Of a link, in [0, 1]; above ln(n)/n it is likely connected.
        seed: Of the draw.

    Raises:
        ValueError: for an argument out of its range. A graph that is not connected is refused by `mixing_matrix`.
    """
    in_range("n", n, 1)
    in_range("probability", probability, 0.0, 1.0)
    upper = np.triu(np.random.default_rng(seed).random((n, n)) < probability, 1)
    return upper | upper.T


def mixing_matrix(adjacency: Bool[np.ndarray, "n m"]) -> Float[np.ndarray, "n n"]:
    r"""Metropolis weights: $W_{ij} = 1 / (1 + \max(d_i, d_j))$ for neighbors with d neighbors, the rest at home.

    Rows and columns sum to 1, so that averaging with W keeps the mean and shrinks what differs, by 1 - `spectral_gap`.

    Arguments:
        adjacency: Whether i hears j, (n, n): symmetric, or directed where all hear, and are heard by, equally many.

    Raises:
        ValueError: for a graph that is not connected, not square, or directed and not regular.
    """
    graph = np.asarray(adjacency, bool)
    if graph.ndim != 2 or graph.shape[0] != graph.shape[1]:
        raise ValueError(f"adjacency: expected a square matrix (n, n), got shape {graph.shape}")
    graph = graph & ~np.eye(len(graph), dtype=bool)
    parts, _ = connected_components(graph, directed=True, connection="strong")
    if parts != 1:
        raise ValueError(f"adjacency: expected a connected graph, got {parts} parts; add links, or draw another graph")
    degree = graph.sum(1)
    if (graph != graph.T).any() and len({*degree, *graph.sum(0)}) > 1:
        raise ValueError("adjacency: expected a symmetric or regular graph, got a directed one with unequal degrees")
    weights = graph / (1.0 + np.maximum(degree[:, None], degree))
    return weights + np.diag(1 - weights.sum(1))


def spectral_gap(mixing: Mixing) -> float:
    """One minus the second largest absolute eigenvalue: 1 averages in a round, near 0 hardly ever.

    Arguments:
        mixing: Doubly stochastic weights, (n, n).
    """
    sizes = np.sort(np.abs(np.linalg.eigvals(mixing)))
    return float(1 - sizes[-2]) if len(sizes) > 1 else 1.0


def ring_mixing(n: int) -> Float[np.ndarray, "n n"]:
    """`mixing_matrix` of a `ring`: a third of each neighbor and of oneself."""
    return mixing_matrix(ring(n))


def check_mixing(mixing: Mixing) -> None:
    """Raise a `ValueError` unless rows and columns of the weights sum to 1; traced ones pass."""
    if isinstance(mixing, Tracer):
        return
    if mixing.shape[0] != mixing.shape[1] or not np.allclose([mixing.sum(0), mixing.sum(1)], 1.0, atol=1e-5):
        raise ValueError(
            f"mixing: expected square weights whose rows and columns sum to 1, got shape {mixing.shape}, sums from "
            f"{mixing.sum(0).min():.3g} to {mixing.sum(0).max():.3g}; mixing_matrix(ring(n)) makes such"
        )


def mixing_for(mixing: Mixing | Callable[[int], Mixing], n: int) -> Mixing:
    """The weights of n clients, given as they are or as a function of n.

    Raises:
        ValueError: unless they are (n, n).
    """
    weights = mixing(n) if callable(mixing) else mixing
    if weights.shape != (n, n):
        raise ValueError(f"mixing: expected ({n}, {n}) weights for {n} clients, got shape {weights.shape}")
    return weights
