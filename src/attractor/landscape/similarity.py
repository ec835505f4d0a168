"""How alike two layers' representations are: centered kernel alignment, and a matching of units."""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int
from scipy.optimize import linear_sum_assignment


def linear_cka(a: Float[Array, "n p"], b: Float[Array, "n q"], unbiased: bool = True) -> Float[Array, ""]:
    r"""Centered kernel alignment of two representations of n inputs, 1 for equal ones up to rotation and scale.

    $$ \frac{\mathrm{HSIC}(AA^\top, BB^\top)}
    {\sqrt{\mathrm{HSIC}(AA^\top, AA^\top)\, \mathrm{HSIC}(BB^\top, BB^\top)}} $$

    The plain estimate of HSIC makes wide, unrelated layers look alike when n is small (Kornblith et al. 2019,
    1905.00414); the unbiased one (Song et al. 2012) does not, and may be slightly negative.

    Arguments:
        a: Activations of one layer.
        b: Activations of the other.
        unbiased: Whether to take the unbiased estimate, which needs n >= 4.

    Raises:
        ValueError: if the numbers of inputs differ, or are too small.
    """
    n, least = len(a), 4 if unbiased else 2
    if len(b) != n or n < least:
        raise ValueError(f"a, b: expected the same number of inputs, at least {least}, got {n} and {len(b)}")
    first, second = a @ a.T, b @ b.T
    if not unbiased:
        centered = [k - k.mean(0) - k.mean(1)[:, None] + k.mean() for k in (first, second)]
        return jnp.sum(centered[0] * centered[1]) / (jnp.linalg.norm(centered[0]) * jnp.linalg.norm(centered[1]))
    first, second = (k.at[jnp.diag_indices(n)].set(0) for k in (first, second))

    def hsic(k: Array, h: Array) -> Array:
        rows = k.sum(0) @ h.sum(0)
        return (jnp.sum(k * h) + k.sum() * h.sum() / ((n - 1) * (n - 2)) - 2 * rows / (n - 2)) / (n * (n - 3))

    return hsic(first, second) / jnp.sqrt(hsic(first, first) * hsic(second, second))


class Matching(NamedTuple):
    """Units of one network paired with those of another.

    Attributes:
        partner: For each unit of the first, the unit of the second.
        correlation: Of each pair.
    """

    partner: Int[np.ndarray, " p"]
    correlation: Float[np.ndarray, " p"]


def match_units(a: Float[Array, "n p"], b: Float[Array, "n q"]) -> Matching:
    """The one-to-one matching of units whose activations correlate most in sum (the assignment problem, exactly).

    Units that never change correlate with nothing. Not for use inside a compiled program.

    Arguments:
        a: Activations of p units on n inputs.
        b: Activations of q >= p units on the same inputs.

    Raises:
        ValueError: if the numbers of inputs differ, or the second has fewer units.
    """
    x, y = np.asarray(a, float), np.asarray(b, float)
    if len(x) != len(y) or x.shape[1] > y.shape[1]:
        raise ValueError(f"a, b: expected the same inputs and no fewer units in b, got {x.shape} and {y.shape}")
    x, y = (z - z.mean(0) for z in (x, y))
    lengths = np.outer(np.linalg.norm(x, axis=0), np.linalg.norm(y, axis=0))
    correlations = np.divide(x.T @ y, lengths, out=np.zeros_like(lengths), where=lengths > 0)
    rows, partner = linear_sum_assignment(-correlations)
    return Matching(partner, correlations[rows, partner])
