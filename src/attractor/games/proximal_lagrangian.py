r"""Problems of two levels with constraints below, by first derivatives alone: through a proximal Lagrangian.

$$
v(x, y, z) = \min_\theta \max_{\lambda \ge 0}\; L, \qquad
L = g(x, \theta) + \lambda^\top c(x, \theta)
    + \frac{\lVert \theta - y \rVert^2}{2 \gamma_1} - \frac{\lVert \lambda - z \rVert^2}{2 \gamma_2}
$$

v is smooth where the lower level is convex, though its minimizers may be many and its multipliers, too. A feasible y is
one of the minimizers, with the multipliers z, just where $g(x, y) \le v(x, y, z)$; elsewhere g is the larger.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import tree
from jax.flatten_util import ravel_pytree
from jax.lax import stop_gradient
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from attractor.bilevel import Bilevel
from attractor.checks import Scalar, in_range
from attractor.games.bilevel import RATE, against, levels
from attractor.games.hypergradient import Level
from attractor.method import Method, hyper
from attractor.registry import LogUniform, method
from attractor.trees import difference


class Saddle(NamedTuple):
    """Where the proximal Lagrangian is stationary: θ, a point of the lower level, and λ, its multipliers (m,)."""

    y: PyTree
    multiplier: Float[Array, " m"]


def _lagrangian(lower, constraint, x, y, z, saddle: Saddle, gammas: tuple[Scalar, Scalar]) -> Float[Array, ""]:
    away = ravel_pytree(difference(saddle.y, y))[0]
    value = lower(x, saddle.y) + saddle.multiplier @ constraint(x, saddle.y)
    change = saddle.multiplier - z
    return value + away @ away / (2 * gammas[0]) - change @ change / (2 * gammas[1])


def _toward(lower, constraint, x, y, z, saddle: Saddle, gammas, rate: Scalar, restrict) -> Saddle:
    """A step down in θ and one up in λ, at once."""
    slope = jax.grad(_lagrangian, 5)(lower, constraint, x, y, z, saddle, gammas)
    multiplier = jnp.maximum(saddle.multiplier + rate * slope.multiplier, 0.0).astype(z.dtype)
    return Saddle(restrict(x, against(saddle.y, slope.y, rate))[1], multiplier)


def proximal_value(
    lower: Level,
    constraint: Callable[[PyTree, PyTree], Float[Array, " m"]],
    x: PyTree,
    y: PyTree,
    z: Float[Array, " m"],
    *,
    gamma: Scalar = 1.0,
    multiplier_gamma: Scalar = 1.0,
    step_size: Scalar,
    steps: int,
) -> Float[Array, ""]:
    r"""v(x, y, z), of which `jax.grad` is the envelope theorem's: no derivative goes through the steps to the saddle.

    $$
    \nabla_x v = \nabla_x g(x, \theta) + \lambda^\top \nabla_x c(x, \theta), \qquad
    \nabla_y v = (y - \theta) / \gamma_1, \qquad \nabla_z v = (\lambda - z) / \gamma_2
    $$

    Arguments:
        lower: g, ``(x, y) -> scalar``, convex in y.
        constraint: c, ``(x, y) -> (m,)``, convex in y, at most 0 where y is feasible.
        x: Pytree of floating-point arrays.
        y: Pytree of floating-point arrays, around which the lower level is looked at.
        z: Multipliers (m,) around which they are sought, at least 0.
        gamma: γ₁ > 0.
        multiplier_gamma: γ₂ > 0.
        step_size: Of the steps to the saddle point, > 0.
        steps: How many, from (y, z), at least 1.

    Raises:
        ValueError: for an argument out of its range.

    Paper: Constrained Bi-Level Optimization: Proximal Lagrangian Value Function Approach and Hessian-free Algorithm
    (Yao, Yu, Zeng and Zhang, 2024)
    """
    for name, value in (("gamma", gamma), ("multiplier_gamma", multiplier_gamma), ("step_size", step_size)):
        in_range(name, value, 0.0, open_low=True)
    in_range("steps", steps, 1)
    gammas, fixed = (gamma, multiplier_gamma), stop_gradient((x, y, z))

    def closer(_: Array | int, saddle: Saddle) -> Saddle:
        return _toward(lower, constraint, *fixed, saddle, gammas, step_size, lambda x, y: (x, y))

    saddle = jax.lax.fori_loop(0, steps, closer, Saddle(*fixed[1:]))
    return _lagrangian(lower, constraint, x, y, z, stop_gradient(saddle), gammas)


def onto_constraint(
    constraint: Callable[[PyTree, PyTree], Float[Array, " m"]], x: PyTree, y: PyTree, *, sweeps: int
) -> tuple[PyTree, PyTree]:
    r"""The pair nearest to (x, y) where the constraint, taken to be linear, holds: a projection if it is linear.

    The nearest is $w - J^\top \mu$, whose multipliers μ ≥ 0 are found one by one, in turn (Hildreth's method): exact
    in a single sweep where the rows of J are orthogonal.

    Arguments:
        constraint: c, ``(x, y) -> (m,)``, at most 0 where it holds.
        x: Pytree of floating-point arrays.
        y: Pytree of floating-point arrays.
        sweeps: Over all m of them, at least 1.

    Raises:
        ValueError: for ``sweeps`` below 1.
    """
    in_range("sweeps", sweeps, 1)
    flat, restore = ravel_pytree((x, y))
    value, jacobian = constraint(x, y), jax.jacrev(lambda w: constraint(*restore(w)))(flat)
    gram = jacobian @ jacobian.T
    lengths = jnp.diag(gram)

    def settle(i: Array, multiplier: Float[Array, " m"]) -> Float[Array, " m"]:
        at = i % len(value)
        left = value[at] - gram[at] @ multiplier
        return multiplier.at[at].set(
            jnp.where(lengths[at] > 0, jnp.maximum(multiplier[at] + left / lengths[at], 0.0), 0.0)
        )

    multiplier = jax.lax.fori_loop(0, sweeps * len(value), settle, jnp.zeros_like(value))
    return restore((flat - multiplier @ jacobian).astype(flat.dtype))


class ProximalLagrangianState(NamedTuple):
    """What `ProximalLagrangian` remembers: where the saddle point was last, the multipliers z (m,), and k."""

    saddle: Saddle
    multiplier: Float[Array, " m"]
    steps: Float[Array, ""]


@method(
    "proximal-lagrangian",
    {"learning_rate": RATE, "inner_rate": RATE, "weight": LogUniform(0.1, 10.0)},
    paper="lv-hba",
    example={"learning_rate": 0.05, "inner_rate": 0.1},
)
class ProximalLagrangian(Method):
    r"""One step each toward the saddle point of L, and down in (x, y) and z: for lower levels with coupled constraints.

    $$
    \theta \leftarrow \theta - \eta \nabla_\theta L, \quad
    \lambda \leftarrow [\lambda + \eta \nabla_\lambda L]_+, \qquad
    (x, y) \leftarrow P\bigl[(x, y) - \alpha \nabla (F / \kappa + g - L)\bigr], \quad
    z \leftarrow \bigl[z - \beta (z - \lambda) / \gamma_2\bigr]_0^r
    $$

    with L as above and $\kappa = \kappa_0 (1 + k)^p$ at step k; the second line is at the new θ and λ. P projects onto
    the constraint (`onto_constraint`), and then onto the problem's simple sets, as θ is. No second derivatives. Without
    a constraint it goes by the Moreau envelope of the lower level. The gap g - v falls like $k^{-p}$ at least.

    Arguments:
        learning_rate: α > 0.
        inner_rate: η > 0.
        multiplier_rate: β ≥ 0; 0: z stays at 0.
        weight: κ₀ > 0, of the lower level against the upper one.
        decay: p in [0, 0.5); 0: the weight stays.
        gamma: γ₁ > 0; where the lower level is not convex, small.
        multiplier_gamma: γ₂ > 0.
        bound: r > 0, of z: above the multipliers that are to be found.
        sweeps: Of the projection, at least 1; enough is 1 for a single constraint.

    Raises:
        ValueError: for an argument out of its range.

    Paper: Constrained Bi-Level Optimization: Proximal Lagrangian Value Function Approach and Hessian-free Algorithm
    (Yao, Yu, Zeng and Zhang, 2024)
    """

    learning_rate: Scalar = hyper(low=0.0, open_low=True)
    inner_rate: Scalar = hyper(low=0.0, open_low=True)
    multiplier_rate: Scalar = hyper(0.1, low=0.0)
    weight: Scalar = hyper(1.0, low=0.0, open_low=True)
    decay: Scalar = hyper(0.3, low=0.0, high=0.5, open_high=True)
    gamma: Scalar = hyper(1.0, low=0.0, open_low=True)
    multiplier_gamma: Scalar = hyper(1.0, low=0.0, open_low=True)
    bound: Scalar = hyper(1e3, low=0.0, open_low=True)
    sweeps: int = hyper(10, low=1, static=True)

    def init(self, problem: Bilevel, x: PyTree, key: PRNGKeyArray) -> ProximalLagrangianState:
        shape = jax.eval_shape(_constraint(problem), *x)
        saddle = Saddle(tree.map(jnp.copy, x[1]), jnp.zeros(shape.shape, shape.dtype))
        return ProximalLagrangianState(saddle, jnp.zeros(shape.shape, shape.dtype), jnp.zeros(()))

    def step(self, problem: Bilevel, x: PyTree, state: PyTree, key: PRNGKeyArray) -> tuple[PyTree, PyTree]:
        (upper, lower), constraint = levels(problem, key), _constraint(problem)
        (point, y), z, gammas = x, state.multiplier, (self.gamma, self.multiplier_gamma)
        saddle = _toward(lower, constraint, point, y, z, state.saddle, gammas, self.inner_rate, problem.project)

        def penalized(x: PyTree, y: PyTree) -> Float[Array, ""]:
            kappa = self.weight * (1 + state.steps) ** self.decay
            return upper(x, y) / kappa + lower(x, y) - _lagrangian(lower, constraint, x, y, z, saddle, gammas)

        moved = against(x, jax.grad(lambda at: penalized(at[0], at[1]))(x), self.learning_rate)
        if problem.constraint is not None:
            moved = onto_constraint(constraint, *moved, sweeps=self.sweeps)
        closer = z - self.multiplier_rate * (z - saddle.multiplier) / self.multiplier_gamma
        new = ProximalLagrangianState(saddle, jnp.clip(closer, 0.0, self.bound).astype(z.dtype), state.steps + 1)
        return problem.project(*moved), new


def _constraint(problem: Bilevel) -> Callable[[PyTree, PyTree], Float[Array, " m"]]:
    return problem.constraint or (lambda x, y: jnp.zeros(0))
