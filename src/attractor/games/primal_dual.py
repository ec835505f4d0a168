"""Primal-dual methods for saddle points that are convex in x, strongly concave in y, and coupled smoothly."""

from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree

from attractor.checks import Scalar
from attractor.gradients import grad
from attractor.linalg.proximal import Prox
from attractor.method import Method, hyper
from attractor.problem import Game, Problem
from attractor.registry import LogUniform, method
from attractor.trees import wide_dtype


class SaddlePoint(Game):
    r"""A `Game` in three parts, $\min_x \max_y f(x) + \varphi(x, y) - h(y)$.

    Arguments:
        primal: f, ``x -> scalar``, smooth and convex.
        coupling: φ, ``(x, y) -> scalar``, smooth, convex in x and concave in y.
        dual: h, ``y -> scalar``.
        dual_prox: ``(y, step) -> y``, the proximal map of h: least of $h(v) + \lVert v - y \rVert^2 / 2 \mathrm{step}$.
        init: Starting point ``(x, y)``, as in `Game`.
        **kwargs: As in `Game`.
    """

    primal: Callable[[PyTree], Float[Array, ""]]
    coupling: Callable[[PyTree, PyTree], Float[Array, ""]]
    dual_prox: Prox

    def __init__(
        self, primal: Callable, coupling: Callable, dual: Callable, dual_prox: Prox, init: PyTree, **kwargs: Any
    ):
        payoff = eqx.Partial(_payoff, primal, coupling, dual)
        game = Game.minimax(payoff, init, **kwargs)
        super().__init__(game.field, init, payoff=payoff, **kwargs)
        self.primal, self.coupling, self.dual_prox = primal, coupling, dual_prox

    @classmethod
    def example(cls, dtype: DTypeLike = jnp.float32) -> Problem:
        """Two vectors of different sizes; see `Problem.example`."""
        matrix, start = jnp.asarray([[1.0, -0.5], [0.3, 0.8], [0.2, 0.1]], dtype), jnp.asarray([0.5, -0.3], dtype)
        return SaddlePoint(
            lambda x: jnp.sum((x - 1) ** 2),
            lambda x, y: y @ (matrix @ x),
            lambda y: jnp.sum(y**2) / 2,
            lambda y, step: jax.tree.map(lambda p: (p / (1 + step)).astype(p.dtype), y),
            (start, jnp.asarray([0.2, 0.1, -0.4], dtype)),
        )


def _payoff(primal: Callable, coupling: Callable, dual: Callable, x: PyTree, y: PyTree) -> Array:
    return primal(x) + coupling(x, y) - dual(y)


class PrimalDualState(NamedTuple):
    """State of `AcceleratedPrimalDual`."""

    steps: Int[Array, ""]
    mean: PyTree  # (x, y): the weighted means so far, which have the rate
    before: PyTree  # grad_y phi at the step before


CONSTANTS = {
    "smoothness": LogUniform(0.1, 100.0),
    "coupling": LogUniform(0.1, 10.0),
    "concavity": LogUniform(0.01, 1.0),
}


@method("accelerated-primal-dual", CONSTANTS, paper="alpd-saddle")
class AcceleratedPrimalDual(Method):
    r"""Linearized primal-dual steps, with the gradient of f at Nesterov's point between the mean and the iterate.

    $$
    y_{k+1} = \operatorname{prox}_{\sigma_k h}\bigl(y_k + \sigma_k (v_k + \theta_k (v_k - v_{k-1}))\bigr), \qquad
    x_{k+1} = x_k - \tau_k \bigl(\nabla f(\underline x_k) + \nabla_x \varphi(x_k, y_{k+1})\bigr)
    $$

    with $v_k = \nabla_y \varphi(x_k, y_k)$, $\underline x_k = (1 - 1/\beta_k) \bar x_k + x_k / \beta_k$, and means
    $\bar z_{k+1} = (1 - 1/\beta_k) \bar z_k + z_{k+1} / \beta_k$ that probes look at. For k = 1, 2 …

    $$
    \beta_k = \frac{k + 1}2, \qquad \theta_k = \frac{k - 1}k, \qquad \sigma_k = \frac3{\mu k}, \qquad
    \tau_k = \frac k{2 L + 3 A^2 / \mu}
    $$

    For a bilinear coupling of norm A these give, with our constants and by the paper's argument,

    $$ \Psi(\bar x_{N+1}, y) - \Psi(x, \bar y_{N+1}) \le
       \frac{(2 L + 3 A^2 / \mu) \lVert x_1 - x \rVert^2 + \mu \lVert y_1 - y \rVert^2 / 3}{N (N + 1)}, \qquad
       \Psi = f + \varphi - h $$

    so that f costs the root of $L / \epsilon$. The paper's inexact variant for nonlinear couplings is not here.

    Arguments:
        smoothness: L > 0, the Lipschitz constant of f's gradient.
        coupling: A > 0, that of the gradient of φ between the players: the norm of a bilinear coupling.
        concavity: μ > 0, the strong convexity of h.

    Raises:
        ValueError: for an argument out of its range.

    Paper: Accelerated Primal-Dual Methods for Convex-Strongly-Concave Saddle Point Problems (Khalafi and Boob, 2023)
    """

    smoothness: Scalar = hyper(1.0, low=0.0, open_low=True)
    coupling: Scalar = hyper(1.0, low=0.0, open_low=True)
    concavity: Scalar = hyper(1.0, low=0.0, open_low=True)

    def init(self, problem: SaddlePoint, x: PyTree, key: PRNGKeyArray) -> PrimalDualState:
        mean = jax.tree.map(jnp.array, x)
        return PrimalDualState(jnp.zeros([], jnp.int32), mean, grad(problem.coupling, argnums=1)(*x))

    def step(
        self, problem: SaddlePoint, x: PyTree, state: PrimalDualState, key: PRNGKeyArray
    ) -> tuple[PyTree, PrimalDualState]:
        k = state.steps.astype(wide_dtype(x)) + 1
        share, extrapolate, dual_step, step = self.steps(k)
        (p, d), slope = x, grad(problem.coupling, argnums=1)(*x)
        ahead = jax.tree.map(lambda v, last: v + extrapolate * (v - last), slope, state.before)
        d = problem.dual_prox(_plus(d, ahead, dual_step), dual_step)
        middle = self.middle(state.mean[0], p, share)
        descent = jax.tree.map(jnp.add, grad(problem.primal)(middle), grad(problem.coupling)(p, d))
        moved = _plus(p, descent, -step), d
        mean = jax.tree.map(lambda m, z: (m + share * (z - m)).astype(m.dtype), state.mean, moved)
        return moved, PrimalDualState(state.steps + 1, mean, slope)

    def steps(self, k: Any) -> tuple[Any, Any, Any, Any]:
        """1/β, θ, σ and τ of step k = 1, 2 …."""
        curvature = 2 * self.smoothness + 3 * self.coupling**2 / self.concavity
        return 2 / (k + 1), (k - 1) / k, 3 / (self.concavity * k), k / curvature

    def middle(self, mean: PyTree, x: PyTree, share: Any) -> PyTree:
        """Where the gradient of f is taken."""
        return jax.tree.map(lambda m, p: (m + share * (p - m)).astype(m.dtype), mean, x)

    def readout(self, x: PyTree, state: PrimalDualState) -> PyTree:
        return state.mean


@method("linearized-primal-dual", CONSTANTS, paper="alpd-saddle")
class LinearizedPrimalDual(AcceleratedPrimalDual):
    r"""Primal-dual steps that are linear in f: the gradient at the iterate, one step size, the plain mean.

    $$
    y_{k+1} = \operatorname{prox}_{\sigma h}(y_k + \sigma (2 v_k - v_{k-1})), \qquad
    x_{k+1} = x_k - \tau (\nabla f(x_k) + \nabla_x \varphi(x_k, y_{k+1})), \qquad
    \sigma = \frac1\mu, \quad \tau = \frac1{L + A^2 / \mu}
    $$

    with $v_k = \nabla_y \varphi(x_k, y_k)$: f costs $L / \epsilon$. Probes look at the mean.

    Arguments:
        smoothness: L > 0, the Lipschitz constant of f's gradient.
        coupling: A > 0, the norm of the coupling.
        concavity: μ > 0, the strong convexity of h.

    Raises:
        ValueError: for an argument out of its range.

    Paper: Accelerated Primal-Dual Methods for Convex-Strongly-Concave Saddle Point Problems (Khalafi and Boob, 2023)
    """

    def steps(self, k: Any) -> tuple[Any, Any, Any, Any]:
        sigma = 1 / self.concavity
        return 1 / k, 1.0, sigma, 1 / (self.smoothness + self.coupling**2 * sigma)

    def middle(self, mean: PyTree, x: PyTree, share: Any) -> PyTree:
        return x


def _plus(start: PyTree, direction: PyTree, step: Any) -> PyTree:
    return jax.tree.map(lambda p, d: (p + step * d).astype(p.dtype), start, direction)
