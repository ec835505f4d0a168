"""Training where the loss is too sharp for the step: models of it that can be solved, and the flow of its average."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from attractor.checks import Scalar, in_range

NEWTON = 60  # iterations at most; quadratic convergence needs five to ten


class QuadraticRegression(eqx.Module):
    r"""Residuals that are quadratic in the parameters, $z(\theta) = z_0 + G\theta + \frac12 Q(\theta, \theta)$.

    It is the least model whose tangent kernel $J J^\top$ moves. Gradient descent on $\frac12 |z|^2$ closes in the
    outputs: see `step`.

    Arguments:
        offset: $z_0$, residuals at zero.
        linear: G.
        curvature: Q, one matrix for each of n outputs; only its symmetric part counts.

    Raises:
        ValueError: if the shapes do not fit.

    Paper: Second-order regression models exhibit progressive sharpening to the edge of stability.
    """

    offset: Float[Array, " n"]
    linear: Float[Array, "n p"]
    curvature: Float[Array, "n p p"]

    def __check_init__(self) -> None:
        n, p = np.shape(self.linear)
        if np.shape(self.offset) != (n,) or np.shape(self.curvature) != (n, p, p):
            shapes = f"{np.shape(self.offset)} and {np.shape(self.curvature)}"
            raise ValueError(f"offset, curvature: expected shapes {(n,)} and {(n, p, p)}, got {shapes}")

    def residuals(self, params: Float[Array, " p"]) -> Float[Array, " n"]:
        r"""$z(\theta)$."""
        return self.offset + self.linear @ params + params @ (self.curvature @ params).T / 2

    def jacobian(self, params: Float[Array, " p"]) -> Float[Array, "n p"]:
        r"""$J = G + Q\theta$."""
        return self.linear + self._applied(params)

    def step(
        self, residuals: Float[Array, " n"], jacobian: Float[Array, "n p"], learning_rate: Scalar
    ) -> tuple[Float[Array, " n"], Float[Array, "n p"]]:
        r"""One step of gradient descent on $\frac12 |z|^2$, in residuals and Jacobian, without the parameters.

        With $g = J^\top z$: $z' = z - \eta J g + \frac{\eta^2}{2} Q(g, g)$ and $J' = J - \eta\, Q g$, both exact.

        Arguments:
            residuals: z.
            jacobian: J.
            learning_rate: $\eta$, in (0, inf).

        Raises:
            ValueError: if ``learning_rate`` is out of range.
        """
        in_range("learning_rate", learning_rate, 0.0, open_low=True)
        gradient = residuals @ jacobian
        bent = self._applied(gradient)
        moved = residuals - learning_rate * jacobian @ gradient + learning_rate**2 / 2 * bent @ gradient
        return moved, jacobian - learning_rate * bent

    def _applied(self, vector: Array) -> Array:
        return ((self.curvature + self.curvature.mT) / 2) @ vector  # loops form the sum once


def scalar_network_loss(weights: Float[Array, " depth"], target: Scalar = 1.0) -> Float[Array, ""]:
    r"""The squared error of a deep network with one unit a layer, $\frac12 (\prod_i w_i - y)^2$.

    Arguments:
        weights: One a layer.
        target: y.

    Paper: Gradient Descent Monotonically Decreases the Sharpness of Gradient Flow Solutions in Scalar Networks and
    Beyond.
    """
    return (jnp.prod(weights) - target) ** 2 / 2


def scalar_network_flow_solution(weights: Float[Array, " depth"], target: Scalar = 1.0) -> Float[Array, " depth"]:
    r"""Where gradient flow on `scalar_network_loss` ends.

    The flow keeps all $w_i^2 - w_j^2$, so the end is $s_i = \pm\sqrt{w_i^2 + c}$ with the one c for which the product
    is y. Newton's method finds $\log(\min_i w_i^2 + c)$, in which the equation is convex, from any start.

    Arguments:
        weights: At least one; their product must have the sign of ``target``, or else the result is NaN (the flow may
            then end at a saddle).
        target: y > 0.

    Raises:
        ValueError: if ``target`` is out of range.

    Paper: Gradient Descent Monotonically Decreases the Sharpness of Gradient Flow Solutions in Scalar Networks and
    Beyond.
    """
    in_range("target", target, 0.0, open_low=True)
    squares = weights**2
    above, goal = squares - squares.min(), 2 * jnp.log(jnp.asarray(target, weights.dtype))
    near = 8 * jnp.finfo(weights.dtype).eps

    def unfinished(state: tuple[Array, Array, Array]) -> Array:
        x, moved, count = state
        return (jnp.abs(moved) > near * jnp.maximum(1, jnp.abs(x))) & (count < NEWTON)

    def newton(state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        x, _, count = state
        ends = jnp.exp(x) + above
        move = (goal - jnp.sum(jnp.log(ends))) / jnp.sum(jnp.exp(x) / ends)
        return x + move, move, count + 1

    start = jnp.log(jnp.maximum(squares.min(), jnp.finfo(weights.dtype).tiny))
    x, _, _ = jax.lax.while_loop(unfinished, newton, (start, jnp.ones_like(start), jnp.zeros((), jnp.int32)))
    return jnp.where(jnp.prod(jnp.sign(weights)) > 0, jnp.sign(weights) * jnp.sqrt(jnp.exp(x) + above), jnp.nan)


def scalar_network_flow_sharpness(weights: Float[Array, " depth"], target: Scalar = 1.0) -> Float[Array, ""]:
    r"""The sharpness where gradient flow would end, $y^2 \sum_i s_i^{-2}$, s as in `scalar_network_flow_solution`.

    The Hessian there is $g g^\top$ with $g_i = y / s_i$. Gradient descent does not raise it, even where the loss
    oscillates.

    Arguments:
        weights: As for `scalar_network_flow_solution`.
        target: y > 0.

    Raises:
        ValueError: if ``target`` is out of range.

    Paper: Gradient Descent Monotonically Decreases the Sharpness of Gradient Flow Solutions in Scalar Networks and
    Beyond.
    """
    return target**2 * jnp.sum(scalar_network_flow_solution(weights, target) ** -2.0)


def squared_regression_flow_sharpness(
    u: Float[Array, " d"], v: Float[Array, " d"], inputs: Float[Array, "n d"], labels: Float[Array, " n"]
) -> Float[Array, ""]:
    r"""The sharpness where gradient flow ends on $\frac{1}{2n} |X(u^2 - v^2) - y|^2$, a diagonal linear network.

    The flow only moves along $u e^{-\xi}, v e^{\xi}$ with $\xi = X^\top\nu$. The n numbers $\nu$ at which the labels
    are fitted minimize a convex function; Newton's method finds them, with steps that change no $\xi$ by more than 1.
    The top eigenvalue there is that of $\frac4n X \operatorname{diag}(u^2 + v^2) X^\top$.

    Arguments:
        u: No entry may be zero where v's is, too.
        v: As u.
        inputs: X, of full rank, n <= d.
        labels: y.

    Raises:
        ValueError: if there are more inputs than dimensions.

    Paper: Gradient Descent Monotonically Decreases the Sharpness of Gradient Flow Solutions in Scalar Networks and
    Beyond.
    """
    n, d = inputs.shape
    if n > d:
        raise ValueError(f"inputs: expected at most d = {d} of them, got {n}")
    near = 8 * jnp.finfo(u.dtype).eps

    def parts(nu: Array) -> tuple[Array, Array]:
        xi = nu @ inputs
        return u**2 * jnp.exp(-2 * xi), v**2 * jnp.exp(2 * xi)

    def newton(state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        nu, _, count = state
        plus, minus = parts(nu)
        hessian = 2 * (inputs * (plus + minus)) @ inputs.T
        move = jnp.linalg.solve(hessian, inputs @ (plus - minus) - labels)
        moved = jnp.abs(move @ inputs).max()
        return nu + move / jnp.maximum(1, moved), moved, count + 1

    start = jnp.zeros(n, u.dtype), jnp.ones((), u.dtype), jnp.zeros((), jnp.int32)
    nu, _, _ = jax.lax.while_loop(lambda state: (state[1] > near) & (state[2] < NEWTON), newton, start)
    return jnp.linalg.eigvalsh(4 / n * (inputs * sum(parts(nu))) @ inputs.T)[-1]
