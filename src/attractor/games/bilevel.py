"""Methods for problems of two levels: descent along hypergradients."""

from jax import tree
from jax.lax import fori_loop
from jaxtyping import PRNGKeyArray, PyTree

from attractor.bilevel import Bilevel
from attractor.checks import Scalar
from attractor.games.hypergradient import (
    Hypergradient,
    Level,
    implicit_hypergradient,
    lower_step,
    neumann_hypergradient,
    truncated_hypergradient,
)
from attractor.method import Method, hyper
from attractor.registry import LogUniform, method

RATE = LogUniform(1e-3, 1.0)


def levels(problem: Bilevel, key: PRNGKeyArray) -> tuple[Level, Level]:
    """Both levels as functions of ``(x, y)``, on a minibatch."""
    of_upper, of_lower = problem.sample(key)
    return lambda x, y: problem.upper(x, y, of_upper), lambda x, y: problem.lower(x, y, of_lower)


def against(point: PyTree, slope: PyTree, rate: Scalar) -> PyTree:
    """A step against a gradient."""
    return tree.map(lambda p, g: (p - rate * g).astype(p.dtype), point, slope)


@method(
    "hypergradient-descent",
    {"learning_rate": RATE, "inner_rate": RATE},
    paper="truncated-backprop-bilevel",
    example={"learning_rate": 0.1, "inner_rate": 0.1},
)
class HypergradientDescent(Method):
    r"""Some steps at the lower level, from where it was, then one against an estimate of the hypergradient.

    $$ y \leftarrow y - \gamma \nabla_y g(x, y) \;\text{ T times}, \qquad x \leftarrow x - \eta h(x, y) $$

    Arguments:
        learning_rate: η > 0.
        inner_rate: γ > 0, below 2 / L of the lower level.
        inner_steps: T ≥ 1.
        depth: K ≥ 1: steps to go back through (at most T count), conjugate gradients, or terms.
        estimate: ``"truncated"`` (`truncated_hypergradient`), ``"implicit"`` (`implicit_hypergradient`) or
            ``"neumann"`` (`neumann_hypergradient`, at γ).

    All T steps and the hypergradient see the same minibatch of each level.

    Raises:
        ValueError: for an argument out of its range.

    Paper: Truncated Back-propagation for Bilevel Optimization (Shaban, Cheng, Hatch and Boots, 2018)
    """

    learning_rate: Scalar = hyper(low=0.0, open_low=True)
    inner_rate: Scalar = hyper(low=0.0, open_low=True)
    inner_steps: int = hyper(20, low=1, static=True)
    depth: int = hyper(5, low=1, static=True)
    estimate: str = hyper("truncated", choices=("truncated", "implicit", "neumann"), static=True)

    def step(self, problem: Bilevel, x: PyTree, state: None, key: PRNGKeyArray) -> tuple[PyTree, None]:
        z, y = x
        gradient, y = self.hypergradient(*levels(problem, key), z, y)
        return problem.project(against(z, gradient, self.learning_rate), y), state

    def hypergradient(self, upper: Level, lower: Level, x: PyTree, y: PyTree) -> Hypergradient:
        """The estimate, after the steps at the lower level."""
        if self.estimate == "truncated":
            steps, back = self.inner_steps, min(self.depth, self.inner_steps)
            return truncated_hypergradient(upper, lower, x, y, step_size=self.inner_rate, steps=steps, backward=back)
        y = fori_loop(0, self.inner_steps, lambda _, y: lower_step(lower, x, y, self.inner_rate), y)
        if self.estimate == "implicit":
            return implicit_hypergradient(upper, lower, x, y, iterations=self.depth)
        return neumann_hypergradient(upper, lower, x, y, step_size=self.inner_rate, terms=self.depth)
