r"""Methods for problems of two levels by first derivatives alone: through the lower level's value.

What the lower level could reach, $g^*(x) = \min_z g(x, z)$, has the gradient $\nabla_x g(x, z^*)$: no second derivative
is needed to ask that $g(x, y) - g^*(x)$ be small.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import tree
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from attractor.bilevel import Bilevel
from attractor.checks import Scalar, in_range
from attractor.games.bilevel import RATE, against, levels
from attractor.games.hypergradient import Hypergradient, Level, lower_step
from attractor.method import Method, hyper
from attractor.registry import LogUniform, method


class Slopes(NamedTuple):
    """Directions of a penalized problem: of y, which also serves the upper level, of z, which does not, and of x."""

    y: PyTree
    z: PyTree
    x: PyTree


def penalty_slopes(upper: Level, lower: Level, x: PyTree, y: PyTree, z: PyTree, sigma: Scalar) -> Slopes:
    r"""The slopes of $\sigma F(x, y) + g(x, y)$ in y, of $g(x, z)$ in z, and the penalty's in x.

    $$ \nabla_x F(x, y) + \frac{\nabla_x g(x, y) - \nabla_x g(x, z)}{\sigma} $$

    Arguments:
        upper: F, ``(x, y) -> scalar``.
        lower: g, ``(x, y) -> scalar``.
        x: Pytree of floating-point arrays.
        y: Where both levels meet.
        z: The lower level's own choice, like y.
        sigma: σ > 0, the weight of the upper level.
    """
    upper_x, upper_y = jax.grad(upper, (0, 1))(x, y)
    (lower_x, lower_y), (own_x, own_y) = (jax.grad(lower, (0, 1))(x, at) for at in (y, z))
    return Slopes(
        tree.map(lambda f, g: sigma * f + g, upper_y, lower_y),
        own_y,
        tree.map(lambda f, g, own: f + (g - own) / sigma, upper_x, lower_x, own_x),
    )


def penalty_hypergradient(
    upper: Level, lower: Level, x: PyTree, y: PyTree, *, sigma: Scalar, step_size: Scalar, steps: int
) -> Hypergradient:
    r"""By how the lower level's choice changes when a little of the upper objective is added: first derivatives alone.

    $$
    \psi_\sigma(x) = \frac{\min_y [\sigma F + g](x, y) - \min_z g(x, z)}{\sigma}, \qquad
    \nabla\psi_\sigma = \nabla_x F(x, y_\sigma) + \frac{\nabla_x g(x, y_\sigma) - \nabla_x g(x, z^*)}{\sigma}
    $$

    Both minimizers come from descent. ψ and its gradient are within O(σ) of Φ and its own, also where the lower level
    has several minimizers.

    Arguments:
        upper: F, ``(x, y) -> scalar``.
        lower: g, ``(x, y) -> scalar``.
        x: Pytree of floating-point arrays.
        y: Where the lower level starts.
        sigma: σ > 0.
        step_size: η > 0.
        steps: Of descent for either minimizer, at least 1; about 1/(ησ) where the lower level is flat.

    Raises:
        ValueError: for an argument out of its range.

    Paper: On Penalty Methods for Nonconvex Bilevel Optimization and First-Order Stochastic Approximation (Kwon, Kwon,
    Wright and Nowak, 2023)
    """
    in_range("sigma", sigma, 0.0, open_low=True)
    in_range("step_size", step_size, 0.0, open_low=True)
    in_range("steps", steps, 1)
    both, z = descend(upper, lower, x, y, y, sigma, step_size, steps)
    return Hypergradient(penalty_slopes(upper, lower, x, both, z, sigma).x, z)


def descend(
    upper: Level, lower: Level, x: PyTree, y: PyTree, z: PyTree, sigma: Scalar, rate: Scalar, steps: int
) -> tuple[PyTree, PyTree]:
    """Steps of descent on σF + g from y, and on g from z."""

    def together(x: PyTree, y: PyTree) -> Array:
        return sigma * upper(x, y) + lower(x, y)

    def once(_: Array | int, at: tuple[PyTree, PyTree]) -> tuple[PyTree, PyTree]:
        return lower_step(together, x, at[0], rate), lower_step(lower, x, at[1], rate)

    return jax.lax.fori_loop(0, steps, once, (y, z))


def _copy(point: PyTree) -> PyTree:
    """Buffers of its own, as loops donate those that they are given."""
    return tree.map(jnp.copy, point)


@method(
    "bilevel-penalty",
    {"learning_rate": RATE, "inner_rate": RATE},
    paper="penalty-bilevel-first-order",
    example={"learning_rate": 0.1, "inner_rate": 0.1},
)
class BilevelPenalty(Method):
    r"""Steps on $\sigma F + g$ in y and on g in z, then one of x along what they differ by: no second derivatives.

    $$
    y \leftarrow y - \gamma (\sigma \nabla_y F + \nabla_y g)(x, y), \quad z \leftarrow z - \gamma \nabla_y g(x, z)
    \;\text{ T times}, \qquad
    x \leftarrow x - \eta \Bigl( \nabla_x F(x, y) + \frac{\nabla_x g(x, y) - \nabla_x g(x, z)}{\sigma} \Bigr)
    $$

    with $\sigma = \sigma_0 (1 + k)^{-p}$ at step k. Stationary points are within O(σ) of the problem's. The iterate is
    (x, y), projected onto the problem's sets, if it has some.

    Arguments:
        learning_rate: η > 0.
        inner_rate: γ > 0.
        sigma: σ₀ > 0.
        decay: p ≥ 0; 0: σ stays.
        inner_steps: T ≥ 1, on one minibatch.

    Raises:
        ValueError: for an argument out of its range.

    Paper: On Penalty Methods for Nonconvex Bilevel Optimization and First-Order Stochastic Approximation (Kwon, Kwon,
    Wright and Nowak, 2023)
    """

    learning_rate: Scalar = hyper(low=0.0, open_low=True)
    inner_rate: Scalar = hyper(low=0.0, open_low=True)
    sigma: Scalar = hyper(0.1, low=0.0, open_low=True)
    decay: Scalar = hyper(0.0, low=0.0)
    inner_steps: int = hyper(10, low=1, static=True)

    def init(self, problem: Bilevel, x: PyTree, key: PRNGKeyArray) -> tuple[PyTree, Float[Array, ""]]:
        return _copy(x[1]), jnp.zeros(())

    def step(self, problem: Bilevel, x: PyTree, state: PyTree, key: PRNGKeyArray) -> tuple[PyTree, PyTree]:
        (point, y), (z, count) = x, state
        upper, lower = levels(problem, key)
        sigma = self.sigma * (1 + count) ** -self.decay
        y, z = descend(upper, lower, point, y, z, sigma, self.inner_rate, self.inner_steps)
        slope = penalty_slopes(upper, lower, point, y, z, sigma).x
        return problem.project(against(point, slope, self.learning_rate), y), (z, count + 1)


class SingleLoopState(NamedTuple):
    """What `SingleLoopPenalty` remembers: z, where it was before (x, y, z), the slopes it followed there, and k."""

    z: PyTree
    before: tuple[PyTree, PyTree, PyTree]
    slopes: Slopes
    steps: Float[Array, ""]


@method(
    "bilevel-single-loop-penalty",
    {"learning_rate": RATE, "inner_rate": RATE, "momentum": LogUniform(0.03, 1.0)},
    paper="penalty-bilevel-first-order",
    example={"learning_rate": 0.1, "inner_rate": 0.1},
)
class SingleLoopPenalty(Method):
    r"""One step of x, y and z at a time, along slopes from which noise is averaged by recursive momentum.

    $$
    d_k = D(u_k; \xi_k) + (1 - \beta)\,(d_{k-1} - D(u_{k-1}; \xi_k)), \qquad
    u_{k+1} = u_k - (\eta, \gamma, \gamma)\, d_k
    $$

    where u = (x, y, z) and D are the slopes of `penalty_slopes`, both on the same minibatch and with the same σ,
    $\sigma = \sigma_0 (1 + k)^{-p}$.

    Arguments:
        learning_rate: η > 0, of x.
        inner_rate: γ > 0, of y and z.
        momentum: β in (0, 1]; 1: nothing is averaged.
        sigma: σ₀ > 0.
        decay: p ≥ 0; 0: σ stays.

    Raises:
        ValueError: for an argument out of its range.

    Paper: On Penalty Methods for Nonconvex Bilevel Optimization and First-Order Stochastic Approximation (Kwon, Kwon,
    Wright and Nowak, 2023)
    """

    learning_rate: Scalar = hyper(low=0.0, open_low=True)
    inner_rate: Scalar = hyper(low=0.0, open_low=True)
    momentum: Scalar = hyper(0.3, low=0.0, high=1.0, open_low=True)
    sigma: Scalar = hyper(0.1, low=0.0, open_low=True)
    decay: Scalar = hyper(0.0, low=0.0)

    def init(self, problem: Bilevel, x: PyTree, key: PRNGKeyArray) -> SingleLoopState:
        x_slope, y_slope, z_slope = (tree.map(jnp.zeros_like, part) for part in (*x, x[1]))
        before = *_copy(x), _copy(x[1])
        return SingleLoopState(_copy(x[1]), before, Slopes(y_slope, z_slope, x_slope), jnp.zeros(()))

    def step(
        self, problem: Bilevel, x: PyTree, state: SingleLoopState, key: PRNGKeyArray
    ) -> tuple[PyTree, SingleLoopState]:
        upper, lower = levels(problem, key)
        sigma = self.sigma * (1 + state.steps) ** -self.decay
        # At the first step there is nothing to remember.
        kept = jnp.where(state.steps > 0, 1 - self.momentum, 0.0)
        now = penalty_slopes(upper, lower, x[0], x[1], state.z, sigma)
        point, y, z = state.before
        then = penalty_slopes(upper, lower, point, y, z, sigma)
        slopes = tree.map(lambda d, new, old: (new + kept * (d - old)).astype(d.dtype), state.slopes, now, then)
        y, z = against(x[1], slopes.y, self.inner_rate), against(state.z, slopes.z, self.inner_rate)
        moved = problem.project(against(x[0], slopes.x, self.learning_rate), y)
        return moved, SingleLoopState(z, (*x, state.z), slopes, state.steps + 1)
