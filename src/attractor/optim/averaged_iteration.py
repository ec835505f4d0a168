"""Fixed points by averaging: part of the way from a point to its image."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree

from attractor.checks import Scalar
from attractor.method import Method, hyper
from attractor.problem import FixedPoint
from attractor.registry import Uniform, method


def open_loop(count: Int[Array, ""]) -> Float[Array, ""]:
    """The weights 2 / (t + 2) for t = 0, 1, …"""
    return 2 / (count + 2.0)


@method("averaged-iteration", {"weight": Uniform(0.05, 1.0)}, paper="iterate-to-accelerate")
class AveragedIteration(Method):
    r"""Krasnoselskii-Mann iteration: $x_{t+1} = (1 - \alpha_t) x_t + \alpha_t T(x_t)$.

    With the weights $2 / (t + 2)$ (`open_loop`) on a linear contraction of factor g the distance falls as
    $t^{-2(1 - g)}$, so that its square is $O(1/t^2)$ for g up to 1/2 only; with a constant weight it falls
    geometrically.

    Arguments:
        weight: $\alpha$, in (0, 1], or a schedule of it; 1 is Picard's iteration.

    Raises:
        ValueError: for ``weight`` out of range.

    Paper: Iterate to Accelerate: A Unified Framework for Iterative Reasoning and Feedback Convergence.
    """

    weight: Scalar | Callable[[Array], Array] = hyper(open_loop, low=0.0, high=1.0, open_low=True)

    def init(self, problem: FixedPoint, x: PyTree, key: PRNGKeyArray) -> Int[Array, ""]:
        return jnp.zeros((), jnp.int32)

    def step(self, problem: FixedPoint, x: PyTree, state: Array, key: PRNGKeyArray) -> tuple[PyTree, Array]:
        weight: Any = self.weight(state) if callable(self.weight) else self.weight
        mix = jax.tree.map(lambda a, b: ((1 - weight) * a + weight * b).astype(a.dtype), x, problem.operator(x))
        return mix, state + 1
