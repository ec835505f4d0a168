"""Competitive gradients: each player steps as if the other answered, in a local game that is bilinear."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import PRNGKeyArray, PyTree

from attractor.checks import Scalar, in_range
from attractor.games.extragradient import STEP, GradientDescentAscent, PastExtragradient, SingleCallState
from attractor.method import Method, hyper
from attractor.problem import Game
from attractor.registry import LogUniform, method

INTERACTION = LogUniform(1e-2, 10.0)


def competitive_game(game: Game, interaction: Scalar, iterations: int = 20) -> Game:
    r"""The same game between players who reckon with each other's answer: its field is the competitive one.

    $$ G_\alpha = \begin{pmatrix} I & \alpha D_{xy} \\ -\alpha D_{yx} & I \end{pmatrix}^{-1} F, \qquad
       F = (\nabla_x f, -\nabla_y f) $$

    It has the zeros of F. A function is α-coherent where $\langle G_\alpha(z), z - z_* \rangle \ge 0$ for all z, at a
    saddle point $z_*$; strictly, where that is 0 at saddle points only. Any method for games may follow this field.

    The system is solved by conjugate gradients in the space of x, with mixed second derivatives as products.

    Arguments:
        game: Min over x, max over y, with noise or without.
        interaction: α ≥ 0, how much the players reckon with each other; 0: not at all.
        iterations: Of conjugate gradients at most, at least 1; as many as x has numbers are exact.

    Raises:
        ValueError: for an argument out of its range.

    Paper: Competitive Gradient Optimization (Vyas, Bullins and Azizzadenesheli, 2023)
    """
    in_range("interaction", interaction, 0.0)
    in_range("iterations", iterations, 1)

    def field(z: tuple[PyTree, PyTree], batch: PyTree = None) -> tuple[PyTree, PyTree]:
        x, y = z
        (for_x, for_y), derivative = jax.linearize(lambda *z: game.field(z, batch), x, y)
        none = jax.tree.map(jnp.zeros_like, z)

        def mixed_x(v: PyTree) -> PyTree:  # alpha D_xy v
            return jax.tree.map(lambda a: interaction * a, derivative(none[0], v)[0])

        def mixed_y(u: PyTree) -> PyTree:  # -alpha D_yx u, as the field of y is -grad_y f
            return jax.tree.map(lambda a: interaction * a, derivative(u, none[1])[1])

        def system(u: PyTree) -> PyTree:
            return _less(u, mixed_x(mixed_y(u)))

        right = _less(for_x, mixed_x(for_y))
        exact = max(float(jnp.finfo(a.dtype).eps) for a in jax.tree.leaves(x))
        first, _ = jax.scipy.sparse.linalg.cg(system, right, x0=right, tol=exact, maxiter=iterations)
        return first, _less(for_y, mixed_y(first))

    return Game(field, game.init, noise=game.noise, payoff=game.payoff, solution=game.solution)


def _less(a: PyTree, b: PyTree) -> PyTree:
    return jax.tree.map(lambda p, q: (p - q).astype(p.dtype), a, b)


@method(
    "competitive-gradient",
    {"learning_rate": STEP, "interaction": INTERACTION},
    paper="competitive-gradient-optimization",
)
class CompetitiveGradient(Method):
    r"""A step along the field of `competitive_game`: the equilibrium of a local, regularized bilinear game.

    $$ x_{k+1} = x_k - \eta (I + \alpha^2 D_{xy} D_{yx})^{-1} (\nabla_x f + \alpha D_{xy} \nabla_y f), \qquad
       y_{k+1} = y_k + \eta (I + \alpha^2 D_{yx} D_{xy})^{-1} (\nabla_y f - \alpha D_{yx} \nabla_x f) $$

    For α = η it is competitive gradient descent, for α = 0 descent-ascent. On a bilinear game it converges for η < 2α.

    Arguments:
        learning_rate: Step size η > 0.
        interaction: α ≥ 0, how much the players reckon with each other's answer.
        iterations: As in `competitive_game`, at least 1.

    Raises:
        ValueError: for an argument out of its range.

    Paper: Competitive Gradient Optimization (Vyas, Bullins and Azizzadenesheli, 2023)
    """

    learning_rate: Scalar = hyper(0.1, low=0.0, open_low=True)
    interaction: Scalar = hyper(1.0, low=0.0)
    iterations: int = hyper(20, low=1)

    def step(self, problem: Game, x: PyTree, state: Any, key: PRNGKeyArray) -> tuple[PyTree, Any]:
        game = competitive_game(problem, self.interaction, self.iterations)
        return GradientDescentAscent(self.learning_rate).step(game, x, state, key)


@method(
    "optimistic-competitive-gradient",
    {"learning_rate": STEP, "interaction": INTERACTION},
    paper="competitive-gradient-optimization",
)
class OptimisticCompetitiveGradient(CompetitiveGradient):
    r"""`PastExtragradient` along the field of `competitive_game`.

    $$ w_k = z_k - \eta G_\alpha(w_{k-1}), \qquad z_{k+1} = z_k - \eta G_\alpha(w_k) $$

    It converges where its plain variant circles, as for η > 2α on bilinear games. That the paper extrapolates in this
    way, with the last direction, is our reading.

    Arguments:
        learning_rate: Step size η > 0.
        interaction: α ≥ 0, how much the players reckon with each other's answer.
        iterations: As in `competitive_game`, at least 1.

    Raises:
        ValueError: for an argument out of its range.

    Paper: Competitive Gradient Optimization (Vyas, Bullins and Azizzadenesheli, 2023)
    """

    def init(self, problem: Game, x: PyTree, key: PRNGKeyArray) -> SingleCallState:
        return PastExtragradient(self.learning_rate).init(problem, x, key)

    def step(
        self, problem: Game, x: PyTree, state: SingleCallState, key: PRNGKeyArray
    ) -> tuple[PyTree, SingleCallState]:
        game = competitive_game(problem, self.interaction, self.iterations)
        return PastExtragradient(self.learning_rate).step(game, x, state, key)


@method(
    "competitive-gradient-descent", {"learning_rate": STEP}, example={"learning_rate": 0.1}, bad={"learning_rate": 0.0}
)
def competitive_gradient_descent(learning_rate: Scalar, iterations: int = 20) -> CompetitiveGradient:
    """Competitive gradient descent: `CompetitiveGradient` that reckons with an answer as far as the own step, α = η.

    As the step shrinks it becomes descent-ascent.

    Arguments:
        learning_rate: Step size η > 0.
        iterations: As in `competitive_game`, at least 1.

    Raises:
        ValueError: for an argument out of its range.

    Paper: Competitive Gradient Descent (Schäfer and Anandkumar, 2019)
    """
    return CompetitiveGradient(learning_rate, learning_rate, iterations)
