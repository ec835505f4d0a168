"""Diagonal and trace of an operator that is known by its products: stochastic estimates, and averages over blocks."""

import jax
import jax.numpy as jnp
import jax.random as jr
import optax
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree

from attractor.checks import in_range
from attractor.gradients import refuse_complex
from attractor.linalg.curvature import MatVec
from attractor.trees import as_vector


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


def hutchinson_trace(
    matvec: MatVec, x: PyTree, key: PRNGKeyArray, probes: int = 1
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    r"""Unbiased estimate of the trace of an operator from products with random signs, and its standard error.

    $$ t = \frac1n \sum_{i=1}^n z_i^\top H z_i, \qquad z_i \in \{-1, 1\}^d $$

    Arguments:
        matvec: ``v -> Hv``, on pytrees like ``x``.
        x: Pytree whose shapes and dtypes the probes take.
        key: Of the probes.
        probes: The number n of products, at least 1; one after the other, so that memory does not grow with it.

    Returns:
        Estimate and standard error; the error of one probe is not known, and NaN.

    Raises:
        ValueError: if ``probes < 1``.
        TypeError: for complex parameters.
    """
    in_range("probes", probes, 1.0)
    refuse_complex("the trace by random signs", x)

    def estimate(key: PRNGKeyArray) -> Array:
        z = rademacher_like(key, x)
        return jnp.asarray(optax.tree.vdot(z, matvec(z)))

    values = jax.lax.map(estimate, jr.split(key, probes))
    return values.mean(), jnp.std(values) / jnp.sqrt(jnp.asarray(probes - 1.0))


def hutchpp_trace(matvec: MatVec, x: PyTree, key: PRNGKeyArray, products: int = 30) -> Float[Array, ""]:
    r"""Trace of a symmetric operator: exact on the range of a sketch, and by random signs on the rest (Hutch++).

    $$ t = \operatorname{tr}(Q^\top H Q) + \tfrac1k \operatorname{tr}\bigl(G^\top (I - QQ^\top) H (I - QQ^\top) G\bigr),
    \qquad Q = \operatorname{orth}(H S) $$

    with random signs S and G of k = products / 3 columns. Where few eigenvalues carry the trace, as in a network's
    Hessian, the error falls like 1 / products instead of its root (Meyer, Musco, Musco, Woodruff 2021, 2010.09649).
    k vectors of the size of ``x`` are kept.

    Arguments:
        matvec: ``v -> Hv``, on pytrees like ``x``; H symmetric.
        x: Pytree whose shapes and dtypes the probes take.
        key: Of the sketch and the signs.
        products: How many products with H, at least 3.

    Raises:
        ValueError: if ``products < 3``.
        TypeError: for complex parameters.
    """
    in_range("products", products, 3.0)
    refuse_complex("the trace by random signs", x)
    flat, restore = as_vector(x)
    k, (for_sketch, for_signs) = products // 3, jr.split(key)

    def times(rows: Array) -> Array:
        return jax.lax.map(lambda v: as_vector(matvec(restore(v)))[0], rows)

    k = min(k, flat.size)
    basis = jnp.linalg.qr(times(jr.rademacher(for_sketch, (k, flat.size), flat.dtype)).T)[0].T
    signs = jr.rademacher(for_signs, (k, flat.size), flat.dtype)
    rest = signs - (signs @ basis.T) @ basis
    return jnp.sum(basis * times(basis)) + jnp.sum(rest * times(rest)) / k


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
