"""Gauss-Newton steps for networks, solved exactly in the space of a minibatch's outputs."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from attractor.checks import Scalar
from attractor.gradients import refuse_complex
from attractor.method import Method, hyper
from attractor.objectives import Composite
from attractor.registry import LogUniform, method
from attractor.trees import as_vector


def dual_direction(
    jacobian: Float[Array, "m d"],
    outer_hessian: Float[Array, "m m"],
    outer_gradient: Float[Array, " m"],
    damping: Scalar,
) -> Float[Array, " d"]:
    r"""The damped Gauss-Newton direction by an m x m solve in place of a d x d one: the same vector, exactly.

    $$ (J^\top Q J + \lambda I)^{-1} J^\top r = J^\top (Q J J^\top + \lambda I)^{-1} r $$

    Arguments:
        jacobian: J, of the m outputs of a batch with respect to the d parameters.
        outer_hessian: Q, of the loss with respect to the outputs.
        outer_gradient: r, of the loss with respect to the outputs.
        damping: $\lambda$, in (0, inf).

    Paper: Exact Gauss-Newton Optimization for Training Deep Neural Networks.
    """
    dual = outer_hessian @ (jacobian @ jacobian.T) + damping * jnp.eye(len(jacobian), dtype=jacobian.dtype)
    return jacobian.T @ jnp.linalg.solve(dual, outer_gradient)


class GaussNewtonState(NamedTuple):
    """State of `GaussNewton`."""

    velocity: Float[Array, " d"]
    damping: Float[Array, ""]


@method(
    "gauss-newton",
    {"learning_rate": LogUniform(0.03, 1.0), "damping": LogUniform(1e-3, 1.0)},
    paper="egn-exact-gauss-newton",
)
class GaussNewton(Method):
    r"""Exact stochastic Gauss-Newton: the minibatch's damped system is solved, not approximated.

    $$ v \leftarrow \beta v + (J^\top Q J + \lambda I)^{-1} J^\top r, \qquad x \leftarrow x - \eta\, v $$

    by `dual_direction`: for b examples with c outputs each, one Jacobian (bc backward passes, vectorized), bc x bc
    products and a solve. Worth it where bc is small against the number of parameters d; the cost is linear in d.
    All parameters are taken as one vector, in their common dtype, no smaller than float32.

    With ``adaptive``, $\lambda$ follows the ratio of the achieved to the predicted decrease of the minibatch's loss,
    as in Levenberg-Marquardt: it is halved above 3/4 and doubled below 1/4 (the paper leaves the constants open).

    Arguments:
        learning_rate: $\eta$, in (0, inf).
        damping: $\lambda$, in (0, inf); the first one if adaptive.
        momentum: $\beta$, in [0, 1).
        adaptive: Whether $\lambda$ is adapted; costs one more evaluation of the loss a step.

    Raises:
        ValueError: for a hyper-parameter out of range.

    Paper: Exact Gauss-Newton Optimization for Training Deep Neural Networks.
    """

    learning_rate: Scalar = hyper(low=0.0, open_low=True)
    damping: Scalar = hyper(1e-2, low=0.0, open_low=True)
    momentum: Scalar = hyper(0.0, low=0.0, high=1.0, open_high=True)
    adaptive: bool = False

    def init(self, problem: Composite, x: PyTree, key: PRNGKeyArray) -> GaussNewtonState:
        flat = as_vector(x)[0]
        return GaussNewtonState(jnp.zeros_like(flat), jnp.asarray(self.damping, flat.dtype))

    def step(
        self, problem: Composite, x: PyTree, state: GaussNewtonState, key: PRNGKeyArray
    ) -> tuple[PyTree, GaussNewtonState]:
        batch = problem.sample(key)
        flat, unravel = as_vector(x)

        def outputs(z: Array) -> Array:
            return problem.inner(unravel(z), batch).ravel().astype(flat.dtype)

        shape = jax.eval_shape(lambda z: problem.inner(unravel(z), batch), flat)
        refuse_complex("Gauss-Newton with dense factors", shape, "outputs")

        def outer(y: Array) -> Array:
            return problem.outer(y.reshape(shape.shape).astype(shape.dtype), batch).astype(flat.dtype)

        y = outputs(flat)
        jacobian, gradient, hessian = jax.jacrev(outputs)(flat), jax.grad(outer)(y), jax.hessian(outer)(y)
        velocity = self.momentum * state.velocity + dual_direction(jacobian, hessian, gradient, state.damping)
        new = flat - self.learning_rate * velocity
        damping = state.damping
        if self.adaptive:
            change = jacobian @ (new - flat)
            predicted = -(gradient @ change + 0.5 * change @ hessian @ change)
            ratio = (outer(y) - outer(outputs(new))) / jnp.where(predicted == 0, 1, predicted)
            damping = damping * jnp.where(ratio > 0.75, 0.5, jnp.where(ratio < 0.25, 2.0, 1.0))
        return unravel(new), GaussNewtonState(velocity, damping)
