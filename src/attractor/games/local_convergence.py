"""Near an equilibrium: by what factor a step of a method shortens the distance to it."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float

from attractor.method import Method
from attractor.problem import FixedPoint, Game


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
