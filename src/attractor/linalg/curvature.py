"""Curvature without matrices: products with Hessians, Gauss-Newton matrices and Fisher matrices."""

from collections.abc import Callable

import jax
from jaxtyping import Array, Float, PyTree

from attractor.gradients import grad
from attractor.masks import operator_on_parts
from attractor.objectives import Composite

MatVec = Callable[[PyTree], PyTree]


def hvp(loss: Callable[[PyTree], Float[Array, ""]], x: PyTree) -> MatVec:
    r"""Products with the Hessian of ``loss`` at ``x``: a function $v \mapsto \nabla^2 f(x)\, v$.

    The gradient is linearized once; every product then costs about two gradients, whatever the dimension. It has the
    form of the ``hvp`` argument that `attractor.run` offers to transformations, and like it takes the parts of a tree
    that `optax.masked` and `optax.partition` leave.

    Arguments:
        loss: A scalar function of ``x``.
        x: Pytree of floating-point arrays.
    """
    return operator_on_parts(jax.linearize(grad(loss), x)[1], x)


def ggn(
    inner: Callable[[PyTree], Float[Array, "..."]], outer: Callable[[Float[Array, "..."]], Float[Array, ""]], x: PyTree
) -> MatVec:
    r"""Products with the generalized Gauss-Newton matrix of ``outer(inner(x))``: $v \mapsto J^\top \nabla^2 h\, J v$.

    It is the Hessian without the curvature of the inner map, and positive semidefinite when the outer loss is convex.

    Arguments:
        inner: ``x -> outputs``, an array; J is its Jacobian at ``x``.
        outer: ``outputs -> scalar``, the loss h.
        x: Pytree of floating-point arrays.
    """
    return Composite(inner, outer, x).ggn(x, None)


def fisher(divergence: Callable[[PyTree, PyTree], Float[Array, ""]], x: PyTree) -> MatVec:
    r"""Products with the Fisher matrix of a family of distributions $p_x$.

    $$ F v = \nabla_y^2\, \mathrm{KL}(p_x \,\|\, p_y) \big|_{y = x}\, v $$

    Arguments:
        divergence: ``(x, y) -> KL(p_x || p_y)``, the mean over inputs where the distribution is conditional. Which
            of the two is varied makes no difference at ``x``.
        x: Pytree of floating-point arrays.
    """
    return hvp(lambda y: divergence(x, y), x)


def empirical_fisher_product(losses: Callable[[PyTree], Float[Array, " n"]], x: PyTree) -> MatVec:
    r"""Products with the second moment of the examples' gradients: $v \mapsto \frac1n \sum_i g_i (g_i^\top v)$.

    Where the losses are negative log-likelihoods this is called the empirical Fisher matrix: the labels are those of
    the data, where `fisher` takes them from the model.

    Arguments:
        losses: ``x -> (n,)``, a loss per example, of which $g_i$ are the gradients at ``x``.
        x: Pytree of floating-point arrays.
    """
    values, push = jax.linearize(losses, x)
    pull = jax.linear_transpose(push, x)
    return lambda v: pull(push(v) / values.size)[0]
