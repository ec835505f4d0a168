"""Levenberg-Marquardt: Gauss-Newton steps made short enough by damping, and rules for how much of it."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from attractor.checks import Scalar
from attractor.gradients import refuse_complex
from attractor.method import Method, hyper
from attractor.objectives import Composite, half_square
from attractor.registry import LogUniform, method
from attractor.trees import as_vector


def damped_step(
    jacobian: Float[Array, "m d"], gradient: Float[Array, " d"], damping: Scalar, diagonal: bool = False
) -> Float[Array, " d"]:
    r"""The step $-(J^\top J + \mu D)^{-1} g$, with D the identity or the diagonal of $J^\top J$.

    It is taken from the singular values of J, so that small ones are not lost in the square. Directions without
    curvature, up to rounding, are left alone where there is no damping either.

    Arguments:
        jacobian: J.
        gradient: g, such as $J^\top h$ for residuals h.
        damping: $\mu$, in [0, inf).
        diagonal: Whether D is the diagonal, which makes the step independent of the parameters' units.
    """
    weights = jnp.linalg.norm(jacobian, axis=0) if diagonal else jnp.ones_like(gradient)
    scale = jnp.where(weights > 0, 1 / jnp.where(weights > 0, weights, 1), 0)
    finite = jnp.isfinite(jacobian).all()
    _, values, rows = jnp.linalg.svd(jnp.where(finite, jacobian * scale, 0), full_matrices=False)
    # Below this a singular value is rounding: zero on one processor, and on another a step in a random direction.
    noise = jnp.finfo(values.dtype).eps * max(jacobian.shape) * values.max(initial=0)
    shifted = jnp.where(values > noise, values, 0) ** 2 + damping
    inverse = jnp.where(shifted > 0, 1 / jnp.where(shifted > 0, shifted, 1), 0)
    return -scale * (rows.T @ (inverse * (rows @ (scale * gradient))))


class LocalModel(NamedTuple):
    """A composite loss around a point."""

    flat: Float[Array, " d"]
    unravel: Callable
    value: Float[Array, ""]
    gradient: Float[Array, " d"]
    jacobian: Float[Array, "m d"]  # J with the Gauss-Newton matrix J^T J
    loss: Callable

    @classmethod
    def at(cls, problem: Composite, x: PyTree, batch: PyTree) -> "LocalModel":
        flat, unravel = as_vector(x)

        def loss(z: Array) -> Array:
            return problem.loss(unravel(z), batch).astype(flat.dtype)

        def outputs(z: Array) -> Array:
            return problem.inner(unravel(z), batch).ravel().astype(flat.dtype)

        y = jax.eval_shape(lambda z: problem.inner(unravel(z), batch), flat)
        refuse_complex("a dense Gauss-Newton model", y, "outputs")
        jacobian = (jax.jacfwd if flat.size <= y.size else jax.jacrev)(outputs)(flat)
        if problem.outer is not half_square:  # whose Hessian is the identity
            curvature = jax.hessian(lambda v: problem.outer(v.reshape(y.shape).astype(y.dtype), batch).astype(v.dtype))
            eigenvalues, basis = jnp.linalg.eigh(curvature(outputs(flat)))
            jacobian = jnp.sqrt(jnp.maximum(eigenvalues, 0))[:, None] * (basis.T @ jacobian)
        return cls(flat, unravel, *jax.value_and_grad(loss)(flat), jacobian, loss)


class LevenbergMarquardtState(NamedTuple):
    """State of `LevenbergMarquardt`."""

    damping: Float[Array, ""]


@method("levenberg-marquardt", {"damping": LogUniform(1e-3, 1e2)})
class LevenbergMarquardt(Method):
    r"""The classic rule: less damping after a step that lowered the loss, more after one that did not.

    $$ d = -(J^\top J + \mu D)^{-1} J^\top h, \qquad (x, \mu) \leftarrow \begin{cases} (x + d,\; \mu / c) & \text{if }
    f(x + d) < f(x) \\ (x,\; c\, \mu) & \text{otherwise} \end{cases} $$

    A refused step counts as a step. For another outer loss than half the squared norm, $J^\top J$ and $J^\top h$ are
    the Gauss-Newton matrix and the gradient. All parameters are taken as one vector.

    Arguments:
        damping: $\mu$ to start with, in (0, inf).
        factor: c, in (1, inf).
        diagonal: Whether D is the diagonal of $J^\top J$ (Marquardt's choice) or the identity (Levenberg's).

    Raises:
        ValueError: for a hyper-parameter out of range.
    """

    damping: Scalar = hyper(1e-3, low=0.0, open_low=True)
    factor: Scalar = hyper(10.0, low=1.0, open_low=True)
    diagonal: bool = False

    def init(self, problem: Composite, x: PyTree, key: PRNGKeyArray) -> LevenbergMarquardtState:
        return LevenbergMarquardtState(jnp.asarray(self.damping, as_vector(x)[0].dtype))

    def step(
        self, problem: Composite, x: PyTree, state: LevenbergMarquardtState, key: PRNGKeyArray
    ) -> tuple[PyTree, LevenbergMarquardtState]:
        model = LocalModel.at(problem, x, problem.sample(key))
        new = model.flat + damped_step(model.jacobian, model.gradient, state.damping, self.diagonal)
        accepted = model.loss(new) < model.value
        damping = jnp.where(accepted, state.damping / self.factor, state.damping * self.factor)
        # Rounding errors refuse every step at a minimizer: without bounds the damping would overflow there.
        limits = jnp.finfo(damping.dtype)
        damping = jnp.clip(damping, limits.tiny**0.5, limits.max**0.5)
        return model.unravel(jnp.where(accepted, new, model.flat)), LevenbergMarquardtState(damping)


@method(
    "residual-levenberg-marquardt",
    {"residual_weight": LogUniform(1e-3, 1e1), "gradient_weight": LogUniform(1e-3, 1e1)},
    paper="lm-holder-subregular",
)
class ResidualLevenbergMarquardt(Method):
    r"""Damping by powers of the residual and of the gradient, so that it fades as a solution of $h(x) = 0$ comes near.

    $$ x_+ = x - (J^\top J + \mu I)^{-1} J^\top h, \qquad \mu = \xi \lVert h \rVert^\eta + \omega \lVert J^\top h
    \rVert^\eta $$

    No step is refused: the theory is local. Near solutions that need not be isolated, at which $\operatorname{dist}(x)
    \le \beta \lVert h(x) \rVert$, the distance to them falls quadratically for $\eta \in [1, 2]$; a larger power leaves
    too little damping in directions whose curvature vanishes at the solutions. Power 0 is a fixed damping. $\lVert h
    \rVert$ is taken as $(2 f)^{1/2}$. All parameters are taken as one vector.

    Arguments:
        residual_weight: $\xi$, in [0, inf); not both weights 0.
        gradient_weight: $\omega$, in [0, inf).
        power: $\eta$, in [0, inf).

    Raises:
        ValueError: for a hyper-parameter out of range.

    Paper: Local convergence of the Levenberg-Marquardt method under Hölder metric subregularity.
    """

    residual_weight: Scalar = hyper(1.0, low=0.0)
    gradient_weight: Scalar = hyper(1.0, low=0.0)
    power: Scalar = hyper(1.0, low=0.0)

    def step(self, problem: Composite, x: PyTree, state: None, key: PRNGKeyArray) -> tuple[PyTree, None]:
        model = LocalModel.at(problem, x, problem.sample(key))
        residual, gradient = jnp.sqrt(2 * model.value), jnp.linalg.norm(model.gradient)
        damping = self.residual_weight * residual**self.power + self.gradient_weight * gradient**self.power
        return model.unravel(model.flat + damped_step(model.jacobian, model.gradient, damping)), None
