"""The neural tangent kernel: exact, as products, and sketched; its alignment with labels and its drift in training."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import jax.random as jr
import optax
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from attractor.checks import in_range
from attractor.linalg.curvature import MatVec

Model = Callable[[PyTree, PyTree], Float[Array, " k"]]  # (params, one input) -> outputs


def tangent_kernel(
    model: Model, params: PyTree, inputs: PyTree, others: PyTree | None = None
) -> Float[Array, "n m k k"]:
    r"""The empirical neural tangent kernel, $\Theta(x, x') = J(x)\, J(x')^\top$, J the derivative by parameters.

    The Jacobians of all examples are formed and contracted leaf by leaf: n k p numbers at most.
    `tangent_kernel_product` needs no more than a gradient does.

    Arguments:
        model: ``(params, x) -> outputs`` of one example.
        params: Pytree of floating-point arrays.
        inputs: Batch, n examples along the first axis of every leaf.
        others: Batch of m examples; default: ``inputs``.

    Paper: Neural Tangent Kernel: Convergence and Generalization in Neural Networks.
    """

    def jacobians(batch: PyTree) -> PyTree:
        return jax.vmap(lambda x: jax.jacrev(model)(params, x))(batch)

    left = jacobians(inputs)
    right = left if others is None else jacobians(others)

    def contract(a: Array, b: Array) -> Array:
        a, b = (j.reshape(*j.shape[:2], -1) for j in (a, b))
        return jnp.einsum("nkp,mlp->nmkl", a, b)

    return sum(jax.tree.leaves(jax.tree.map(contract, left, right)), start=jnp.zeros(()))


def tangent_kernel_product(model: Model, params: PyTree, inputs: PyTree) -> MatVec:
    r"""Products with the kernel on a batch, $V \mapsto \Theta V = J (J^\top V)$, at the price of about two gradients.

    Arguments:
        model: ``(params, x) -> outputs`` of one example.
        params: Pytree of floating-point arrays.
        inputs: Batch of n examples.

    Returns:
        A function of arrays ``(n, k)``, linear and symmetric.
    """
    _, push = jax.linearize(lambda p: jax.vmap(lambda x: model(p, x))(inputs), params)
    pull = jax.linear_transpose(push, params)
    return lambda v: push(pull(v)[0])


def sketched_tangent_kernel(
    model: Model, params: PyTree, inputs: PyTree, *, key: PRNGKeyArray, size: int = 256
) -> Float[Array, "n n k k"]:
    r"""An unbiased estimate of the kernel from products with random signs, $\frac1s \sum_i (J z_i)(J z_i)^\top$.

    It needs s forward products and n k s numbers, whatever the number of parameters. An entry's standard deviation is
    at most $\sqrt{2 / s}$ times the root of the product of its diagonal entries.

    Arguments:
        model: ``(params, x) -> outputs`` of one example.
        params: Pytree of floating-point arrays.
        inputs: Batch of n examples.
        key: Of the signs.
        size: s, at least 1.

    Raises:
        ValueError: if ``size < 1``.
    """
    in_range("size", size, 1.0)
    _, push = jax.linearize(lambda p: jax.vmap(lambda x: model(p, x))(inputs), params)

    def image(key: PRNGKeyArray) -> Array:
        return push(optax.tree.random_like(key, params, sampler=jr.rademacher))

    images = jax.lax.map(image, jr.split(key, size))
    return jnp.einsum("snk,sml->nmkl", images, images) / size


def kernel_alignment(a: Float[Array, "n n"], b: Float[Array, "n n"], centered: bool = True) -> Float[Array, ""]:
    r"""How alike two kernel matrices are, $\langle A, B \rangle_F / (\lVert A \rVert_F \lVert B \rVert_F)$, in [-1, 1].

    Against $y y^\top$ it is the alignment with a task; between two times of a training run, one minus it is the
    kernel's drift: near 0 in lazy training.

    Arguments:
        a: Symmetric.
        b: Symmetric.
        centered: Whether the mean of features is removed first (Cortes, Mohri, Rostamizadeh 2012).
    """
    if centered:
        a, b = (m - m.mean(0) - m.mean(1)[:, None] + m.mean() for m in (a, b))
    return jnp.sum(a * b) / (jnp.linalg.norm(a) * jnp.linalg.norm(b))
