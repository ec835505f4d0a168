"""Methods for problems of two levels whose upper objective curves the more the steeper it is."""

import jax
import jax.numpy as jnp
import jax.random as jr
from jax import tree
from jaxtyping import Array, Int, PRNGKeyArray, PyTree

from attractor.bilevel import Bilevel
from attractor.checks import Scalar
from attractor.games.bilevel import RATE, against, levels
from attractor.games.hypergradient import lower_step, neumann_hypergradient
from attractor.method import Method, hyper
from attractor.registry import LogUniform, Uniform, method
from attractor.trees import difference, norm


@method(
    "bilevel-normalized-momentum",
    {"learning_rate": LogUniform(1e-3, 0.3), "inner_rate": RATE, "momentum": Uniform(0.0, 0.95)},
    paper="bo-rep",
    example={"learning_rate": 0.01, "inner_rate": 0.1, "momentum": 0.9},
)
class NormalizedMomentum(Method):
    r"""Steps of one length along the averaged hypergradient; the lower level is refreshed now and then.

    $$ m \leftarrow \beta m + (1 - \beta) h(x, y), \qquad x \leftarrow x - \eta\, m / \lVert m \rVert $$

    where h is `attractor.games.neumann_hypergradient`. Before the first step y takes W steps of stochastic descent,
    then N at every I-th step of x, projected onto a ball of radius R around where y was; between them y stays. As x
    moves by η at each step, however steep Φ is, the lower level's solution cannot get far in I of them.

    Arguments:
        learning_rate: η > 0, the length of a step.
        inner_rate: γ > 0, also of the Neumann series.
        momentum: β in [0, 1).
        period: I ≥ 1, steps of x between refreshes.
        inner_steps: N ≥ 1.
        warmup: W ≥ 0.
        radius: R > 0.
        terms: Of the Neumann series, at least 1.

    Each step at the lower level draws a minibatch of its own.

    Raises:
        ValueError: for an argument out of its range.

    Paper: Bilevel Optimization under Unbounded Smoothness: A New Algorithm and Convergence Analysis (Hao, Gong and Liu,
    2024)
    """

    learning_rate: Scalar = hyper(low=0.0, open_low=True)
    inner_rate: Scalar = hyper(low=0.0, open_low=True)
    momentum: Scalar = hyper(0.9, low=0.0, high=1.0, open_high=True)
    period: int = hyper(10, low=1, static=True)
    inner_steps: int = hyper(10, low=1, static=True)
    warmup: int = hyper(100, low=0, static=True)
    radius: Scalar = hyper(10.0, low=0.0, open_low=True)
    terms: int = hyper(10, low=1, static=True)

    def init(self, problem: Bilevel, x: PyTree, key: PRNGKeyArray) -> tuple[PyTree, Int[Array, ""]]:
        return tree.map(jnp.zeros_like, x[0]), jnp.zeros((), int)

    def step(self, problem: Bilevel, x: PyTree, state: PyTree, key: PRNGKeyArray) -> tuple[PyTree, PyTree]:
        (point, y), (mean, count) = x, state
        y = self.refreshed(problem, point, y, count, jr.fold_in(key, 1))
        upper, lower = levels(problem, key)
        slope, _ = neumann_hypergradient(upper, lower, point, y, step_size=self.inner_rate, terms=self.terms)
        mean = tree.map(lambda m, g: (self.momentum * m + (1 - self.momentum) * g).astype(m.dtype), mean, slope)
        length = jnp.maximum(norm(mean), jnp.finfo(jnp.float32).tiny)
        return problem.project(against(point, mean, self.learning_rate / length), y), (mean, count + 1)

    def refreshed(self, problem: Bilevel, x: PyTree, y: PyTree, count: Int[Array, ""], key: PRNGKeyArray) -> PyTree:
        """The lower level before step ``count``."""
        due = jnp.where(count % self.period == 0, self.inner_steps, 0)

        def once(t: Int[Array, ""], at: PyTree) -> PyTree:
            lower = levels(problem, jr.fold_in(key, t))[1]
            moved = lower_step(lower, x, at, self.inner_rate)
            away = difference(moved, y)
            share = jnp.minimum(1.0, self.radius / jnp.maximum(norm(away), jnp.finfo(jnp.float32).tiny))
            share = jnp.where(count == 0, 1.0, share)  # the first refinement goes as far as it must
            return tree.map(lambda y, d: (y + share * d).astype(y.dtype), y, away)

        return jax.lax.fori_loop(0, jnp.where(count == 0, self.warmup, due), once, y)
