"""Single-loop methods for problems of two levels that carry multipliers along, in place of solving linear systems."""

import jax
import jax.numpy as jnp
from jax import tree
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from attractor.bilevel import Bilevel
from attractor.checks import Scalar
from attractor.games.bilevel import RATE, against, levels
from attractor.method import Method, hyper
from attractor.registry import LogUniform, method


@method(
    "averaged-multipliers",
    {"learning_rate": RATE, "inner_rate": RATE, "multiplier_rate": RATE, "mix": LogUniform(0.01, 0.9)},
    paper="sl-bamm",
    example={"learning_rate": 0.05, "inner_rate": 0.1, "multiplier_rate": 0.1, "mix": 0.5},
)
class AveragedMultipliers(Method):
    r"""One step each of y, of a multiplier v and of x, on an average of both levels: for many minimizers below.

    $$
    y \leftarrow y - \gamma \nabla_y \varphi, \qquad
    v \leftarrow v - \rho\,(\nabla_{yy}^2 \varphi\, v - \nabla_y F), \qquad
    x \leftarrow x - \eta\,(\nabla_x F - (\nabla_{yx}^2 \varphi)^\top v)
    $$

    at once, all at the old (x, y, v), with $\varphi = \mu F + (1 - \mu) g$ and $\mu = \mu_0 (1 + k)^{-p}$ at step k.
    Among the lower level's minimizers the average chooses the one that is best for F, and $\nabla_{yy}^2 \varphi$ is
    definite where F is strongly convex in y.

    Arguments:
        learning_rate: η > 0.
        inner_rate: γ > 0.
        multiplier_rate: ρ > 0.
        mix: μ₀ in (0, 1).
        decay: p ≥ 0; 0: the average stays, and with it a bias of order μ₀.

    Raises:
        ValueError: for an argument out of its range.

    Paper: Averaged Method of Multipliers for Bi-Level Optimization without Lower-Level Strong Convexity (Liu, Liu, Yao,
    Zeng and Zhang, 2023)
    """

    learning_rate: Scalar = hyper(low=0.0, open_low=True)
    inner_rate: Scalar = hyper(low=0.0, open_low=True)
    multiplier_rate: Scalar = hyper(low=0.0, open_low=True)
    mix: Scalar = hyper(0.5, low=0.0, high=1.0, open_low=True, open_high=True)
    decay: Scalar = hyper(0.1, low=0.0)

    def init(self, problem: Bilevel, x: PyTree, key: PRNGKeyArray) -> tuple[PyTree, Float[Array, ""]]:
        return tree.map(jnp.zeros_like, x[1]), jnp.zeros(())

    def step(self, problem: Bilevel, x: PyTree, state: PyTree, key: PRNGKeyArray) -> tuple[PyTree, PyTree]:
        (point, y), (v, count) = x, state
        upper, lower = levels(problem, key)
        share = self.mix * (1 + count) ** -self.decay

        def slope(x: PyTree, y: PyTree) -> PyTree:
            return jax.grad(lambda y: share * upper(x, y) + (1 - share) * lower(x, y))(y)

        slope_y, pull = jax.vjp(slope, point, y)
        through, product = pull(v)  # the Hessian is symmetric, so that its transpose will do
        upper_x, upper_y = jax.grad(upper, (0, 1))(point, y)
        moved = against(point, tree.map(jnp.subtract, upper_x, through), self.learning_rate)
        residual = tree.map(jnp.subtract, product, upper_y)
        new = against(v, residual, self.multiplier_rate), count + 1
        return problem.project(moved, against(y, slope_y, self.inner_rate)), new
