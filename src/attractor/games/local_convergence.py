"""Near an equilibrium: by what factor a step of a method shortens the distance to it."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float

from attractor.method import Method
from attractor.problem import FixedPoint, Game
from attractor.problems.linear_fields import linear_game


def convergence_factor(method: Method, problem: Game | FixedPoint) -> Float[Array, ""]:
    """The spectral radius of a step's derivative at the solution, the method's memory included.

    Below 1 the method converges from nearby, by this factor a step in the end; above 1 almost every start is repelled.
    On a problem with a linear field that is so from everywhere. It traces: map it over step sizes or fields.

    Arguments:
        method: One whose steps are alike, with a differentiable step and a memory that rests at the solution.
        problem: With a ``solution``; without noise.

    Raises:
        ValueError: if the problem does not know its solution.
    """
    if problem.solution is None:
        raise ValueError("problem: expected one with a solution; say Game(…, solution=…)")
    key = jr.key(0)
    at_rest = problem.solution, method.init(problem, problem.solution, key)
    moving, fixed = eqx.partition(at_rest, eqx.is_inexact_array)
    flat, restore = ravel_pytree(moving)

    def step(flat: Any) -> Array:
        z, state = eqx.combine(restore(flat), fixed)
        return ravel_pytree(eqx.filter(method.step(problem, z, state, key), eqx.is_inexact_array))[0]

    return jnp.abs(jnp.linalg.eigvals(jax.jacfwd(step)(flat))).max()


@eqx.filter_jit
def convergence_factors(make: Callable[..., Method], matrices: Any, *grids: Any) -> Float[Array, "m ..."]:
    """The `convergence_factor` on each of several linear fields, for all combinations of hyper-parameters.

    Arguments:
        make: ``make(*hyper)`` gives the method; the same function again compiles nothing anew.
        matrices: A field each, ``(m, d, d)``.
        *grids: The values of each hyper-parameter.

    Returns:
        An axis for the fields, and then one for each of the ``grids``.
    """

    def factor(matrix: Array, *hyper: Array) -> Array:
        return convergence_factor(make(*hyper), linear_game(matrix))

    over: Any = factor
    for axis in range(len(grids), -1, -1):
        over = jax.vmap(over, [0 if i == axis else None for i in range(len(grids) + 1)])
    return over(jnp.asarray(matrices), *map(jnp.asarray, grids))
