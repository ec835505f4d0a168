r"""Sparse codes: $\min_x \frac12\|Wx - b\|^2 + \lambda\|x\|_1$, many instances at once."""

from typing import NamedTuple

import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray
from sklearn.datasets import load_digits

from attractor.checks import in_range


class SparseCode(NamedTuple):
    """One instance, or more along the first axis of each."""

    matrix: Float[Array, "rows columns"]
    target: Float[Array, " rows"]
    strength: Float[Array, ""]
    step: Float[Array, ""]  # 1 / L of the smooth part

    def slope(self, x: Float[Array, " columns"]) -> Float[Array, " columns"]:
        """Of the smooth part."""
        return self.matrix.T @ (self.matrix @ x - self.target)

    def value(self, x: Float[Array, " columns"]) -> Float[Array, ""]:
        """Of the whole."""
        return jnp.sum((self.matrix @ x - self.target) ** 2) / 2 + self.strength * jnp.abs(x).sum()


def random_sparse_code(
    key: PRNGKeyArray, rows: int = 12, columns: int = 24, nonzeros: int = 3, strength: float = 0.1
) -> SparseCode:
    """A random matrix with columns of length 1, and a target that a sparse normal vector makes.

    Arguments:
        key: Which.
        rows: At least 1.
        columns: At least 1.
        nonzeros: Entries that are not zero, 1 … columns.
        strength: Of the penalty, in (0, inf).

    Raises:
        ValueError: for an argument out of range.
    """
    in_range("rows", rows, 1)
    in_range("columns", columns, 1)
    in_range("nonzeros", nonzeros, 1, columns)
    in_range("strength", strength, 0, open_low=True)
    for_matrix, for_signal, for_support = jr.split(key, 3)
    matrix = jr.normal(for_matrix, (rows, columns))
    matrix = matrix / jnp.linalg.norm(matrix, axis=0)
    order = jr.uniform(for_support, (columns,))
    signal = jr.normal(for_signal, (columns,)) * (order <= jnp.sort(order)[nonzeros - 1])
    step = 1 / jnp.linalg.eigvalsh(matrix @ matrix.T)[-1]
    return SparseCode(matrix, matrix @ signal, jnp.asarray(strength, float), step)


def digit_codes(n: int, seed: int = 0, atoms: int = 128, strength: float = 0.5) -> SparseCode:
    """Real ones: images of scikit-learn's digits by few of others, every one less its mean, the others of length 1.

    Arguments:
        n: How many are coded, at least 1; with the atoms at most 1,797.
        seed: Which, at least 0.
        atoms: By how many others, 1 … 1,796.
        strength: Of the penalty, in (0, inf).

    Raises:
        ValueError: for an argument out of range.
    """
    in_range("atoms", atoms, 1, 1_796)
    in_range("n", n, 1, 1_797 - atoms)
    in_range("seed", seed, 0)
    in_range("strength", strength, 0, open_low=True)
    images = np.random.default_rng(seed).permutation(np.asarray(load_digits(return_X_y=True)[0]) / 16)[: atoms + n]
    images = images - images.mean(1, keepdims=True)
    matrix = (images[:atoms] / np.linalg.norm(images[:atoms], axis=1, keepdims=True)).T
    parts = np.repeat(matrix[None], n, 0), images[atoms:], np.full(n, strength)
    return SparseCode(*(jnp.asarray(part, float) for part in (*parts, np.full(n, np.linalg.norm(matrix, 2) ** -2.0))))
