"""Levenberg-Marquardt: Gauss-Newton steps made short enough by damping, and rules for how much of it."""

from collections.abc import Callable
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from attractor.checks import Scalar
from attractor.gradients import refuse_complex
from attractor.method import Method, hyper
from attractor.objectives import Composite, half_square
from attractor.registry import LogUniform, method
from attractor.trees import as_vector

SOLVES = ("svd", "cholesky")


def model_step(
    jacobian: Float[Array, "m d"],
    gradient: Float[Array, " d"],
    damping: Scalar,
    diagonal: bool = False,
    solve: str = "svd",
) -> tuple[Float[Array, " d"], Float[Array, ""]]:
    r"""The step $-(J^\top J + \mu D)^{-1} g$, with D the identity or the diagonal of $J^\top J$, and what it promises.

    By the singular values of J small ones are not lost in the square; directions without curvature, up to rounding, are
    left alone where there is no damping either. By Cholesky's factor of the normal equations it is faster, but no
    damping below the square root of the precision is kept.

    Arguments:
        jacobian: J.
        gradient: g, such as $J^\top h$ for residuals h.
        damping: $\mu$, in [0, inf).
        diagonal: Whether D is the diagonal, which makes the step independent of the parameters' units.
        solve: ``"svd"`` or ``"cholesky"``.

    Returns:
        The step s, and the decrease $-(g^\top s + \frac12 \lVert J s \rVert^2)$ that the quadratic model predicts.
    """
    weights = jnp.linalg.norm(jacobian, axis=0) if diagonal else jnp.ones_like(gradient)
    scale = jnp.where(weights > 0, 1 / jnp.where(weights > 0, weights, 1), 0)
    scaled, bend = (_by_cholesky if solve == "cholesky" else _by_svd)(jacobian * scale, scale * gradient, damping)
    step = scale * scaled
    return step, -(gradient @ step + 0.5 * bend)


def damped_step(
    jacobian: Float[Array, "m d"],
    gradient: Float[Array, " d"],
    damping: Scalar,
    diagonal: bool = False,
    solve: str = "svd",
) -> Float[Array, " d"]:
    """The step of `model_step` alone; arguments as there."""
    return model_step(jacobian, gradient, damping, diagonal, solve)[0]


def _by_svd(jacobian: Float[Array, "m d"], gradient: Float[Array, " d"], damping: Scalar) -> tuple[Array, Array]:
    """The step, and the squared norm of its image under the Jacobian."""
    finite = jnp.isfinite(jacobian).all()
    _, values, rows = jnp.linalg.svd(jnp.where(finite, jacobian, 0), full_matrices=False)
    # Below this a singular value is rounding: zero on one processor, and on another a step in a random direction.
    noise = jnp.finfo(values.dtype).eps * max(jacobian.shape) * values.max(initial=0)
    kept = jnp.where(values > noise, values, 0)
    shifted = kept**2 + damping
    inverse = jnp.where(shifted > 0, 1 / jnp.where(shifted > 0, shifted, 1), 0)
    along = -inverse * (rows @ gradient)
    return rows.T @ along, jnp.sum((kept * along) ** 2)


def _by_cholesky(jacobian: Float[Array, "m d"], gradient: Float[Array, " d"], damping: Scalar) -> tuple[Array, Array]:
    """The same from the square, whose digits do not reach below the root of eps."""
    matrix = jacobian.T @ jacobian
    shift = jnp.maximum(damping, jnp.finfo(matrix.dtype).eps ** 0.5)
    factor = jax.scipy.linalg.cho_factor(matrix + shift * jnp.eye(len(matrix), dtype=matrix.dtype))
    step = -jax.scipy.linalg.cho_solve(factor, gradient)
    return step, step @ matrix @ step


def known_solve(solve: str) -> None:
    """Raise a `ValueError` for another name than `model_step` knows."""
    if solve not in SOLVES:
        raise ValueError(f"solve: expected one of {SOLVES}, got {solve!r}")


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
        solve: ``"svd"`` or ``"cholesky"``, see `model_step`.

    Raises:
        ValueError: for a hyper-parameter out of range.
    """

    damping: Scalar = hyper(1e-3, low=0.0, open_low=True)
    factor: Scalar = hyper(10.0, low=1.0, open_low=True)
    diagonal: bool = False
    solve: str = eqx.field(static=True, default="svd")

    def __check_init__(self) -> None:
        known_solve(self.solve)

    def init(self, problem: Composite, x: PyTree, key: PRNGKeyArray) -> LevenbergMarquardtState:
        return LevenbergMarquardtState(jnp.asarray(self.damping, as_vector(x)[0].dtype))

    def step(
        self, problem: Composite, x: PyTree, state: LevenbergMarquardtState, key: PRNGKeyArray
    ) -> tuple[PyTree, LevenbergMarquardtState]:
        model = LocalModel.at(problem, x, problem.sample(key))
        new = model.flat + damped_step(model.jacobian, model.gradient, state.damping, self.diagonal, self.solve)
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
