"""Two-stage training: hidden layers by gradients with a gain for every input, the output layer by least squares."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from attractor.checks import Scalar
from attractor.gradients import refuse_complex
from attractor.method import Method, hyper
from attractor.objectives import Composite
from attractor.registry import LogUniform, method
from attractor.second_order.kronecker import Layer, layer_matrix, layer_statistics, layers_of, map_layers


def subspace_gauss_newton(
    problem: Composite, x: PyTree, batch: PyTree, expand: Callable[[Array], PyTree], size: int, damping: Scalar
) -> PyTree:
    r"""One Gauss-Newton step inside a linear family of directions: x plus $P r$ with the best coefficients r.

    $$ r = -(h + \delta \operatorname{diag} h)^{-1} P^\top \nabla f(x), \qquad h = P^\top J^\top Q J P $$

    with Q the Hessian of the outer loss.

    Exact where the outputs are linear in the family and the outer loss is quadratic. It costs one product with J, the
    Jacobian of the outputs, per direction.

    Arguments:
        problem: The composite loss.
        x: Parameters.
        batch: Data.
        expand: P, a linear map from coefficients ``(size,)`` to a pytree like ``x``.
        size: Number of directions.
        damping: $\delta$, in (0, inf); it does not depend on the directions' lengths.
    """

    def moved(r: Array) -> PyTree:
        return jax.tree.map(lambda a, d: a + d.astype(a.dtype), x, expand(r))

    outputs, push = jax.linearize(lambda r: problem.inner(moved(r), batch), jnp.zeros(size))
    refuse_complex("the gain of directions", outputs, "outputs")
    slope, bend = jax.linearize(jax.grad(lambda y: problem.outer(y, batch)), outputs)
    pushed = jax.vmap(push)(jnp.eye(size))
    bent, pushed = (y.reshape(size, -1).astype(float) for y in (jax.vmap(bend)(pushed), pushed))
    gradient, hessian = pushed @ slope.ravel().astype(float), pushed @ bent.T
    length = jnp.sqrt(jnp.maximum(jnp.diag(hessian), 0))
    scale = jnp.where(length > 0, 1 / jnp.where(length > 0, length, 1), 0)
    damped = scale[:, None] * hessian * scale + damping * jnp.eye(size, dtype=hessian.dtype)
    return moved(-scale * jax.scipy.linalg.solve(damped, scale * gradient, assume_a="pos"))


def whitening(moments: Float[Array, "n n"]) -> Float[Array, "n n"]:
    r"""A matrix A with $A R A^\top = I$: principal axes of the inputs in units of their root mean squares.

    Of the many, this one does not depend on the inputs' units (up to a rotation of equal axes). Directions that the
    inputs do not have become zero rows.

    Arguments:
        moments: R, the mean of $x x^\top$.
    """
    size = jnp.sqrt(jnp.diag(moments))
    scale = jnp.where(size > 0, 1 / jnp.where(size > 0, size, 1), 0)
    values, axes = jnp.linalg.eigh(scale[:, None] * moments * scale)
    present = values > len(values) * jnp.finfo(values.dtype).eps * values[-1]
    return (axes * jnp.where(present, 1 / jnp.sqrt(jnp.where(present, values, 1)), 0)).T * scale


def gained(
    gradient: Float[Array, "h n"], gains: Float[Array, " n"], transform: Float[Array, "n n"]
) -> Float[Array, "h n"]:
    r"""The gradient $G A^\top \operatorname{diag}(r) A$ of input weights: what gains r of the inputs $A x$ make of it.

    A network that sees $A x$ computes the same with the weights $W A^{-1}$; its gradient step, seen from W, is one
    along $G A^\top A$. Gains weight the transformed inputs.

    Arguments:
        gradient: G, of the weights with respect to the inputs x.
        gains: r.
        transform: A.

    Paper: Optimal Input Gain: All You Need to Supercharge a Feed-Forward Neural Network.
    """
    return (gradient @ transform.T * gains) @ transform


@method("two-stage-training", {"damping": LogUniform(1e-6, 1e-2)}, paper="optimal-input-gain")
class TwoStageTraining(Method):
    r"""Input weights along their gradients with an optimal gain for every input, then the output weights solved for.

    With G the gradient of a hidden layer's weights (bias included, as those of an input 1), every step is

    $$ W \leftarrow W + G A^\top \operatorname{diag}(r) A, \qquad W_{\text{out}} \leftarrow \arg\min f $$

    where the gains r of all hidden layers together are one Gauss-Newton step from 0 (`subspace_gauss_newton`), and so
    is the second stage, which is exact for squared errors. A is the identity (backpropagation, OIG-BP) or the
    inputs' `whitening`, which makes of $A^\top A$ their inverse second moments (hidden weight optimization, OIG-HWO).
    Without ``gains`` there is one for all inputs, the optimal learning factor.

    The output layer is the last `equinox.nn.Linear` of the parameters, and the outputs have to be linear in it.
    Parameters outside of such layers move along their gradient with one more gain.

    The paper's networks have one hidden layer and weights around it (`attractor.nn.BypassNetwork`), and units that
    start under `attractor.nn.net_control`; gains of several layers solved for together, step size 1 after the gains,
    and hidden before output weights are our choices.

    Arguments:
        gains: Whether every input has its own.
        whiten: Whether inputs are whitened first, or how far from the identity to the whitening A is, in [0, 1].
        damping: Relative damping of both solves, in (0, inf).
        stepsize: Factor of the hidden weights' step, in (0, 2]; at 2 a quadratic loss would stay what it is.

    Raises:
        ValueError: for a hyper-parameter out of range.

    Paper: Optimal Input Gain: All You Need to Supercharge a Feed-Forward Neural Network.
    """

    gains: bool = True
    whiten: Scalar = hyper(False, low=0.0, high=1.0)
    damping: Scalar = hyper(1e-6, low=0.0, open_low=True)
    stepsize: Scalar = hyper(1.0, low=0.0, high=2.0, open_low=True)

    def step(self, problem: Composite, x: PyTree, state: None, key: PRNGKeyArray) -> tuple[PyTree, None]:
        batch = problem.sample(key)
        _, gradient, moments = layer_statistics(lambda x: problem.loss(x, batch), x, 1)
        matrices = [_matrix(layer) for layer in layers_of(gradient)]
        widths = [matrix.shape[1] for matrix in matrices[:-1]]
        transforms = [self._transform(a) for a, _ in moments]
        size = sum(widths) + 1  # the last gain is that of parameters outside of layers

        def along_gradient(r: Array) -> PyTree:
            *hidden, rest = jnp.split(jnp.broadcast_to(r, size), np.cumsum(widths, dtype=int))
            weights = [*hidden, *(jnp.zeros(m.shape[1]) for m in matrices[-1:])]
            others = jax.tree.map(lambda g: rest[0] * g, gradient)
            return map_layers(lambda _, *parts: gained(*parts), others, matrices, weights, transforms)

        def output_weights(r: Array) -> PyTree:
            zeros = [jnp.zeros_like(m) for m in matrices[:-1]]
            new = r.reshape(matrices[-1].shape)
            return map_layers(lambda _, m: m, jax.tree.map(jnp.zeros_like, gradient), [*zeros, new])

        moved = subspace_gauss_newton(problem, x, batch, along_gradient, size if self.gains else 1, self.damping)
        x = jax.tree.map(lambda old, new: old + (self.stepsize * (new - old)).astype(old.dtype), x, moved)
        if matrices:
            x = subspace_gauss_newton(problem, x, batch, output_weights, matrices[-1].size, self.damping)
        return x, state

    def _transform(self, moments: Float[Array, "n n"]) -> Float[Array, "n n"]:
        """A, of an input's second moments."""
        identity = jnp.eye(len(moments), dtype=moments.dtype)
        if isinstance(self.whiten, int | float) and self.whiten == 0:
            return identity
        return identity + self.whiten * (whitening(moments) - identity)


def _matrix(layer: Layer) -> Array:
    matrix = layer_matrix(layer)
    return matrix.astype(jnp.promote_types(matrix.dtype, jnp.float32))
