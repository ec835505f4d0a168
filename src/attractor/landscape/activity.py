"""Layers at work: units that are dead or saturated, the rank of representations, the size of updates."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from attractor.checks import Scalar, in_range
from attractor.trees import norm


class UnitActivity(NamedTuple):
    """Shares of a layer's units.

    Attributes:
        dead: Units whose activation is zero on every input.
        constant: Units whose activation does not change over the inputs, the dead ones included.
        saturated: Share of all activations at the ends of a bounded range; NaN where it is not bounded.
    """

    dead: Float[Array, ""]
    constant: Float[Array, ""]
    saturated: Float[Array, ""]


def unit_activity(
    activations: Float[Array, "n d"], *, low: Scalar | None = None, high: Scalar | None = None, margin: Scalar = 0.01
) -> UnitActivity:
    """Dead, constant and saturated units of a layer on a batch.

    Arguments:
        activations: After the nonlinearity, of n inputs.
        low: Least value of the nonlinearity, such as -1 for tanh; default: unbounded.
        high: Largest value, such as 1; default: unbounded.
        margin: What counts as an end, as a share of the range, in (0, 0.5); of one bounded side, of 1.

    Raises:
        ValueError: if ``margin`` is out of range.
    """
    in_range("margin", margin, 0.0, 0.5, open_low=True, open_high=True)
    largest = jnp.abs(activations).max(0)
    unchanged = jnp.ptp(activations, axis=0) <= 10 * jnp.finfo(activations.dtype).eps * largest
    width = margin * (1.0 if low is None or high is None else high - low)
    ends = [activations <= low + width] if low is not None else []
    ends += [activations >= high - width] if high is not None else []
    saturated = jnp.mean(jnp.logical_or(*ends) if len(ends) == 2 else ends[0]) if ends else jnp.asarray(jnp.nan)
    return UnitActivity(jnp.mean(largest == 0), jnp.mean(unchanged), saturated)


class Rank(NamedTuple):
    r"""Soft ranks of a matrix with singular values $\sigma$.

    Attributes:
        effective: $\exp(-\sum_i p_i \log p_i)$ with $p = \sigma / \sum \sigma$ (Roy and Vetterli 2007).
        stable: $\sum \sigma^2 / \max \sigma^2$.
        numerical: How many $\sigma$ exceed rounding.
    """

    effective: Float[Array, ""]
    stable: Float[Array, ""]
    numerical: Float[Array, ""]


def soft_rank(matrix: Float[Array, "n d"], centered: bool = True) -> Rank:
    """Effective, stable and numerical rank, of features or of weights; all 0 for a matrix of zeros.

    Arguments:
        matrix: Features of n inputs, or weights.
        centered: Whether the mean row is removed first; for weights: False.
    """
    rows = matrix - matrix.mean(0) if centered else matrix
    sigma = jnp.linalg.svd(rows, compute_uv=False)
    total, top = sigma.sum(), sigma.max()
    p = sigma / jnp.where(total > 0, total, 1)
    entropy = -jnp.sum(jnp.where(p > 0, p * jnp.log(jnp.where(p > 0, p, 1)), 0))
    limit = max(matrix.shape) * jnp.finfo(matrix.dtype).eps * top
    some = total > 0
    return Rank(
        jnp.where(some, jnp.exp(entropy), 0),
        jnp.where(some, jnp.sum(sigma**2) / jnp.where(some, top, 1) ** 2, 0),
        jnp.sum(sigma > limit).astype(sigma.dtype),
    )


def update_ratios(params: PyTree, updates: PyTree) -> PyTree:
    r"""Per array, $\lVert \Delta w \rVert / \lVert w \rVert$ of one step; about 1e-3 is usual for weights of a network.

    Arrays of zeros, such as fresh biases, give infinity where they move, and 0 where they do not.

    Arguments:
        params: Pytree of floating-point arrays, before the step.
        updates: What is added to it.
    """

    def ratio(w: Array, u: Array) -> Array:
        size, moved = norm(w), norm(u)
        return jnp.where(size > 0, moved / jnp.where(size > 0, size, 1), jnp.where(moved > 0, jnp.inf, 0.0))

    return jax.tree.map(ratio, params, updates)
