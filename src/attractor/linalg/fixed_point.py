"""Fixed points of maps that lengthen no distance, where iterating the map alone need not converge."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, PRNGKeyArray, PyTree

from attractor.method import Method
from attractor.problem import FixedPoint
from attractor.registry import method
from attractor.trees import wide_dtype


class Anchored(NamedTuple):
    """State of `Halpern`."""

    steps: Int[Array, ""]
    anchor: PyTree  # where it started


@method("halpern")
class Halpern(Method):
    r"""Every step is drawn back to the start, less and less.

    $$ x_{k+1} = \lambda_k x_0 + (1 - \lambda_k) T(x_k), \qquad \lambda_k = \frac1{k + 2} $$

    For a nonexpansive T with a fixed point, $\lVert x_k - T(x_k) \rVert \le 2 \lVert x_0 - x_* \rVert / (k + 1)$, which
    no method improves on, and the points converge to the fixed point nearest to the start. For the zero of a field F
    with $\langle F(x) - F(y), x - y \rangle \ge \lVert F(x) - F(y) \rVert^2 / L$ take $T = I - 2 F / L$. There is
    nothing to tune.

    Papers: Fixed points of nonexpanding maps (Halpern, 1967); On the convergence rate of the Halpern-iteration (Lieder,
    2021)
    """

    def init(self, problem: FixedPoint, x: PyTree, key: PRNGKeyArray) -> Anchored:
        return Anchored(jnp.zeros([], jnp.int32), jax.tree.map(jnp.array, x))

    def step(self, problem: FixedPoint, x: PyTree, state: Anchored, key: PRNGKeyArray) -> tuple[PyTree, Anchored]:
        share = 1 / (state.steps.astype(wide_dtype(x)) + 2)
        x = jax.tree.map(lambda a, t: (share * a + (1 - share) * t).astype(a.dtype), state.anchor, problem.operator(x))
        return x, Anchored(state.steps + 1, state.anchor)
