"""The diagonal of an operator that is known by its products: stochastic estimates, and averages over blocks."""

import jax
import jax.numpy as jnp
import jax.random as jr
import optax
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree

from attractor.checks import in_range
from attractor.gradients import refuse_complex
from attractor.linalg.curvature import MatVec


def rademacher_like(key: PRNGKeyArray, x: PyTree) -> PyTree:
    """Independent signs, +1 or -1 with equal chance, in the shapes and dtypes of ``x``."""
    return optax.tree.random_like(key, x, sampler=jr.rademacher)


def hutchinson_diagonal(matvec: MatVec, x: PyTree, key: PRNGKeyArray, probes: int = 1) -> PyTree:
    r"""Unbiased estimate of the diagonal of a symmetric operator, such as a Hessian, from products with random signs.

    $$ D = \frac1n \sum_{i=1}^n z_i \odot H z_i, \qquad z_i \in \{-1, 1\}^d $$

    One entry has variance $\sum_{j \ne i} H_{ij}^2 / n$: a diagonal operator is read off exactly by one probe.

    Arguments:
        matvec: ``v -> Hv``, on pytrees like ``x``; see `hvp`.
        x: Pytree whose shapes and dtypes the probes take.
        key: Of the probes.
        probes: The number n of products, at least 1; they are computed side by side.

    Raises:
        ValueError: if ``probes < 1``.
        TypeError: for complex parameters.

    Paper: ADAHESSIAN: An Adaptive Second Order Optimizer for Machine Learning.
    """
    in_range("probes", probes, 1.0)
    refuse_complex("the diagonal by random signs", x)

    def estimate(key: PRNGKeyArray) -> PyTree:
        z = rademacher_like(key, x)
        return jax.tree.map(jnp.multiply, z, matvec(z))

    if probes == 1:
        return estimate(key)
    estimates = jax.vmap(estimate)(jr.split(key, probes))
    return jax.tree.map(lambda d: d.mean(0), estimates)


def block_average(values: Float[Array, "..."], block_size: int | Int[Array, ""]) -> Float[Array, "..."]:
    """Replace each run of ``block_size`` entries, in row-major order, by its mean; the last run may be shorter.

    Arguments:
        values: Any shape.
        block_size: Entries per block, at least 1; faster where it is known when compiling.

    Raises:
        ValueError: if ``block_size < 1``.
    """
    in_range("block_size", block_size, 1.0)
    size = values.size
    if isinstance(block_size, jax.Array):  # such as `optax.inject_hyperparams` makes: the number of blocks is unknown
        block = jnp.arange(size) // block_size
        add = jax.vmap(lambda flat: jax.ops.segment_sum(flat, block, size))
        totals, filled = add(jnp.stack([values.ravel(), jnp.ones(size, values.dtype)]))
        return (totals / jnp.maximum(filled, 1))[block].reshape(values.shape)
    blocks = jnp.pad(values.ravel(), (0, -size % block_size)).reshape(-1, block_size)
    filled = jnp.minimum(size - block_size * jnp.arange(len(blocks)), block_size)
    means = blocks.sum(1) / filled.astype(values.dtype)
    return jnp.repeat(means, block_size)[:size].reshape(values.shape)
