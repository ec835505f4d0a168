"""Curvature without the Hessian: products with vectors, stochastic estimates of the diagonal, block averages."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import jax.random as jr
import optax
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from attractor.checks import in_range

MatVec = Callable[[PyTree], PyTree]


def hvp(loss: Callable[[PyTree], Float[Array, ""]], x: PyTree) -> MatVec:
    r"""Products with the Hessian of ``loss`` at ``x``: a function $v \mapsto \nabla^2 f(x)\, v$.

    The gradient is linearized once; every product then costs about two gradients, whatever the dimension. It has the
    form of the ``hvp`` argument that `attractor.run` offers to transformations.

    Arguments:
        loss: A scalar function of ``x``.
        x: Pytree of floating-point arrays.
    """
    return jax.linearize(jax.grad(loss), x)[1]


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

    Paper: ADAHESSIAN: An Adaptive Second Order Optimizer for Machine Learning.
    """
    in_range("probes", probes, 1.0)

    def estimate(key: PRNGKeyArray) -> PyTree:
        z = rademacher_like(key, x)
        return jax.tree.map(jnp.multiply, z, matvec(z))

    if probes == 1:
        return estimate(key)
    estimates = jax.vmap(estimate)(jr.split(key, probes))
    return jax.tree.map(lambda d: d.mean(0), estimates)


def block_average(values: Float[Array, "..."], block_size: int) -> Float[Array, "..."]:
    """Replace each run of ``block_size`` entries, in row-major order, by its mean; the last run may be shorter.

    Arguments:
        values: Any shape.
        block_size: Entries per block, at least 1.

    Raises:
        ValueError: if ``block_size < 1``.
    """
    in_range("block_size", block_size, 1.0)
    size = values.size
    blocks = jnp.pad(values.ravel(), (0, -size % block_size)).reshape(-1, block_size)
    filled = jnp.minimum(size - block_size * jnp.arange(len(blocks)), block_size)
    means = blocks.sum(1) / filled.astype(values.dtype)
    return jnp.repeat(means, block_size)[:size].reshape(values.shape)
