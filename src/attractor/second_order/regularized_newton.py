"""Newton's method made global by damping that follows the gradient, with its strength found by backtracking."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, PRNGKeyArray, PyTree

from attractor.checks import Scalar, in_range
from attractor.method import Method, hyper
from attractor.objectives import Composite
from attractor.problem import Minimization
from attractor.registry import LogUniform, method
from attractor.trees import as_vector

Curvature = Callable[[Any, PyTree, PyTree], Float[Array, "d d"]]

TRIALS = 60  # doublings in one search


def exact_hessian(problem: Minimization, x: PyTree, batch: PyTree) -> Float[Array, "d d"]:
    """The Hessian of the loss on a batch, of the parameters taken as one vector (`attractor.trees.as_vector`)."""
    flat, unravel = as_vector(x)
    return jax.hessian(lambda z: problem.loss(unravel(z), batch).astype(flat.dtype))(flat)


def gauss_newton_hessian(problem: Composite, x: PyTree, batch: PyTree) -> Float[Array, "d d"]:
    r"""The generalized Gauss-Newton matrix $J^\top \nabla^2 h\, J$ of a `Composite` loss $h(c(x))$ on a batch."""
    flat, unravel = as_vector(x)
    product = problem.ggn(x, batch)
    columns = jax.vmap(lambda v: as_vector(product(unravel(v)))[0])(jnp.eye(flat.size, dtype=flat.dtype))
    return (columns + columns.T) / 2


def empirical_fisher(problem: Minimization, x: PyTree, batch: PyTree) -> Float[Array, "d d"]:
    r"""The mean of $g_i g_i^\top$ over the gradients of a batch's examples."""
    gradients = jax.vmap(lambda g: as_vector(g)[0])(problem.oracles(x, batch)["per_example"]())
    return gradients.T @ gradients / len(gradients)


class BacktrackingState(NamedTuple):
    """State of a method with a strength that is searched for."""

    strength: Float[Array, ""]


def backtrack(
    trial: Callable[[Array], tuple[Array, Bool[Array, ""]]], strength: Float[Array, ""]
) -> tuple[Array, Float[Array, ""], Bool[Array, ""]]:
    """Double the strength until a trial is accepted, at most 60 times: the step, its strength, and whether it was.

    Arguments:
        trial: ``strength -> (step, accepted)``.
        strength: The first to try.
    """

    def again(carry: tuple) -> Array:
        _, _, accepted, count = carry
        return ~accepted & (count < TRIALS)

    def double(carry: tuple) -> tuple:
        _, strength, _, count = carry
        return *_tried(trial, 2 * strength), count + 1

    step, strength, accepted, _ = lax.while_loop(again, double, (*_tried(trial, strength), 0))
    return step, strength, accepted


def _tried(trial: Callable, strength: Array) -> tuple[Array, Array, Array]:
    step, accepted = trial(strength)
    return step, strength, accepted


class _Local(NamedTuple):
    """A loss around a point, in the eigenbasis of its curvature."""

    flat: Float[Array, " d"]
    unravel: Callable
    value: Float[Array, ""]
    gradient: Float[Array, " d"]
    eigenvalues: Float[Array, " d"]
    basis: Float[Array, "d d"]
    value_and_gradient: Callable

    def after(self, step: Array) -> tuple[Array, Array]:
        """The decrease of the loss by a step, up to rounding errors, and the gradient after it."""
        value, gradient = self.value_and_gradient(self.flat + self.basis @ step)
        rounding = 4 * jnp.finfo(self.flat.dtype).eps * jnp.abs(self.value)
        return self.value - value + rounding, gradient @ self.basis


def _local(problem: Minimization, x: PyTree, key: PRNGKeyArray, curvature: Curvature) -> _Local:
    batch = problem.sample(key)
    flat, unravel = as_vector(x)
    function = jax.value_and_grad(lambda z: problem.loss(unravel(z), batch).astype(flat.dtype))
    eigenvalues, basis = jnp.linalg.eigh(curvature(problem, x, batch).astype(flat.dtype))
    value, gradient = function(flat)
    return _Local(flat, unravel, value, gradient @ basis, jnp.maximum(eigenvalues, 0), basis, function)


@method("gradient-regularized-newton", {"radius": LogUniform(1e-2, 1e2)}, paper="gradient-normalized-smoothness")
class GradientRegularizedNewton(Method):
    r"""Newton's method with an approximate Hessian, damped in proportion to the gradient over a radius it finds itself.

    $$ x_+ = x - \Big(H + \tfrac{\lVert g \rVert}{\gamma} I\Big)^{-1} g $$

    so that a step is no longer than $\gamma$. The radius is halved until $f(x) - f(x_+) \ge \gamma \lVert \nabla
    f(x_+) \rVert^2 / (8 \lVert g \rVert)$, and doubled for the next step. The test is passed wherever H describes the
    change of the gradient within the radius $\gamma$ with a relative error that keeps it below $\lVert g \rVert$,
    whatever class the function belongs to. Negative eigenvalues of H are taken as 0. A step costs one
    eigendecomposition, and one gradient per trial; all parameters are taken as one vector.

    Arguments:
        radius: $\gamma$ to start with (to keep, if not ``adaptive``), in (0, inf), in the units of x.
        adaptive: Whether the radius is searched for.
        curvature: ``(problem, x, batch) -> H`` (d, d): `exact_hessian`, `gauss_newton_hessian`, `empirical_fisher` or
            your own.

    Raises:
        ValueError: for a hyper-parameter out of range.

    Paper: Gradient-Normalized Smoothness for Optimization with Approximate Hessians.
    """

    radius: Scalar = hyper(1.0, low=0.0, open_low=True)
    adaptive: bool = True
    curvature: Curvature = hyper(exact_hessian)

    def init(self, problem: Minimization, x: PyTree, key: PRNGKeyArray) -> BacktrackingState:
        return BacktrackingState(jnp.asarray(1 / self.radius, as_vector(x)[0].dtype))

    def step(
        self, problem: Minimization, x: PyTree, state: BacktrackingState, key: PRNGKeyArray
    ) -> tuple[PyTree, BacktrackingState]:
        at = _local(problem, x, key, self.curvature)
        size = jnp.linalg.norm(at.gradient)

        def trial(strength: Array) -> tuple[Array, Array]:
            shifted = at.eigenvalues + strength * size
            step = -at.gradient / jnp.where(shifted > 0, shifted, jnp.inf)
            if not self.adaptive:
                return step, jnp.asarray(True)
            decrease, gradient = at.after(step)
            return step, 8 * strength * size * decrease >= gradient @ gradient

        step, strength, accepted = backtrack(trial, state.strength)
        smallest = jnp.finfo(strength.dtype).tiny ** 0.5
        following = jnp.maximum(strength / 2, smallest) if self.adaptive else strength
        return at.unravel(at.flat + at.basis @ jnp.where(accepted, step, 0)), BacktrackingState(following)


def root_stepsize(smoothness: Scalar, decrement: Float[Array, ""], order: Scalar = 4.0) -> Float[Array, ""]:
    r"""Step size of Newton's method for a function whose derivative of a fractional order is bounded.

    $$ \alpha = \frac{1}{1 + \theta}, \qquad \theta^{q - 1} = L\, \lVert g \rVert_{*}^{q - 2} $$

    It is that of $(1 + \theta) \nabla^2 f$ in place of the Hessian. If $\lVert \nabla f(x + h) - g - \nabla^2 f(x) h
    \rVert_* \le L \lVert h \rVert_x^{q - 1}$ with the norms of $\nabla^2 f(x)$, then a step decreases a convex f, by
    at least $\lVert \nabla f(x_+) \rVert_*^2 / 2 \theta$: at a rate of $k^{1 - q}$.

    Arguments:
        smoothness: L, in [0, inf): the numerical constants of the paper are folded into it.
        decrement: $\lVert g \rVert_* = (g^\top \nabla^2 f(x)^{-1} g)^{1/2}$.
        order: q, in [2, 4]: 4 for Lipschitz third derivatives (a rate of 1/k^3), 3 for Lipschitz Hessians.

    Paper: Damped Newton Method with Near-Optimal Global O(k^-3) Convergence Rate.
    """
    in_range("order", order, 2.0, 4.0)
    theta = (smoothness * decrement ** (order - 2)) ** (1 / (order - 1))
    return 1 / (1 + theta)


def cubic_stepsize(smoothness: Scalar, decrement: Float[Array, ""]) -> Float[Array, ""]:
    r"""Step size of the cubic regularization in the local norm: the largest root of $1 - \alpha = L \lVert g \rVert_*
    \alpha^2 / 2$.

    $$ \alpha = \frac{2}{1 + \sqrt{1 + 2 L \lVert g \rVert_*}} $$

    Arguments:
        smoothness: L, in [0, inf), of the Hessian in the local norm.
        decrement: $\lVert g \rVert_* = (g^\top \nabla^2 f(x)^{-1} g)^{1/2}$.

    Paper: Damped Newton Method with Near-Optimal Global O(k^-3) Convergence Rate (a baseline there).
    """
    return 2 / (1 + jnp.sqrt(1 + 2 * smoothness * decrement))


@method("damped-newton", {"smoothness": LogUniform(1e-2, 1e4)}, paper="root-newton")
class DampedNewton(Method):
    r"""Newton's method with a step size that is a formula of the Newton decrement; no inner solves, affine invariant.

    $$ x_+ = x - \alpha(L, \lVert g \rVert_*)\, \nabla^2 f(x)^{-1} g, \qquad \lVert g \rVert_*^2 = g^\top \nabla^2
    f(x)^{-1} g $$

    With ``backtracking``, L is doubled until $\langle \nabla f(x_+), x - x_+ \rangle \ge \lVert \nabla f(x_+)
    \rVert_*^2 / 2 \theta$, $\theta = 1 / \alpha - 1$, and halved for the next step. (We derive this test from the
    descent lemma of `root_stepsize`; the paper's constants may differ.) Directions without curvature, up to rounding
    errors, are left alone. All parameters are taken as one vector.

    Arguments:
        smoothness: L, in (0, inf); the first one if backtracking.
        stepsize: ``(L, decrement) -> step size`` in (0, 1]: `root_stepsize` or `cubic_stepsize`.
        backtracking: Whether L is searched for: one gradient a trial.

    Raises:
        ValueError: for a hyper-parameter out of range.

    Paper: Damped Newton Method with Near-Optimal Global O(k^-3) Convergence Rate.
    """

    smoothness: Scalar = hyper(1.0, low=0.0, open_low=True)
    stepsize: Callable[..., Float[Array, ""]] = hyper(root_stepsize)
    backtracking: bool = False

    def init(self, problem: Minimization, x: PyTree, key: PRNGKeyArray) -> BacktrackingState:
        return BacktrackingState(jnp.asarray(self.smoothness, as_vector(x)[0].dtype))

    def step(
        self, problem: Minimization, x: PyTree, state: BacktrackingState, key: PRNGKeyArray
    ) -> tuple[PyTree, BacktrackingState]:
        at = _local(problem, x, key, exact_hessian)
        floor = at.flat.size * jnp.finfo(at.flat.dtype).eps * at.eigenvalues.max()
        curved = at.eigenvalues > floor
        inverse = jnp.where(curved, 1 / jnp.where(curved, at.eigenvalues, 1), 0)
        newton = inverse * at.gradient
        decrement = jnp.sqrt(at.gradient @ newton)

        def trial(smoothness: Array) -> tuple[Array, Array]:
            alpha = self.stepsize(smoothness, decrement)
            if not self.backtracking:
                return -alpha * newton, jnp.asarray(True)
            _, gradient = at.after(-alpha * newton)
            return -alpha * newton, 2 * (1 - alpha) * (gradient @ newton) >= gradient @ (inverse * gradient)

        step, smoothness, accepted = backtrack(trial, state.strength)
        smallest = jnp.finfo(smoothness.dtype).tiny ** 0.5
        following = jnp.maximum(smoothness / 2, smallest) if self.backtracking else smoothness
        return at.unravel(at.flat + at.basis @ jnp.where(accepted, step, 0)), BacktrackingState(following)
