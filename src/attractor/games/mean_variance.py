"""Matrix games between players who mind risk: mean-variance responses and their fictitious play."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree
from optax.projections import projection_simplex

from attractor.checks import Scalar, in_range
from attractor.method import Method
from attractor.problem import FixedPoint
from attractor.registry import method
from attractor.trees import wide_dtype

Mixed = Float[Array, " n"]


def reward_variance(payoffs: Float[Array, "n m"], own: Mixed, other: Float[Array, " m"]) -> Float[Array, ""]:
    r"""How much the reward varies with the other's draws, $\mathrm{Var}_{j \sim y}(x^\top M_j)$.

    Arguments:
        payoffs: M, ``(n, m)``, the player's own.
        own: x, ``(n,)``, their mixed strategy; they draw apart from it, and what is left is its mean.
        other: y, ``(m,)``, the other's.
    """
    return own @ _covariance(payoffs, other) @ own


def mean_variance_response(
    payoffs: Float[Array, "n m"],
    other: Float[Array, " m"],
    risk: Scalar,
    smoothing: Scalar = 0.01,
    iterations: int = 200,
) -> Mixed:
    r"""The mixed strategy with the best mean less risk.

    $$ \arg\max_{x \in \Delta}\; x^\top M y - \gamma\, x^\top \Sigma_y x - \tfrac\tau2 \lVert x \rVert^2, \qquad
       \Sigma_y = \sum_j y_j (M_j - M y)(M_j - M y)^\top $$

    by accelerated projected gradients.

    Arguments:
        payoffs: M, ``(n, m)``, the player's own.
        other: y, ``(m,)``, the other's mixed strategy.
        risk: γ ≥ 0: what a unit of variance costs.
        smoothing: τ > 0, which makes the answer one and continuous; the smaller, the more iterations it takes.
        iterations: At least 1.

    Raises:
        ValueError: for an argument out of its range.

    Paper: A Game-Theoretic Framework for Managing Risk in Multi-Agent Systems (Slumbers et al., 2023)
    """
    in_range("risk", risk, 0.0)
    in_range("smoothing", smoothing, 0.0, open_low=True)
    in_range("iterations", iterations, 1)
    mean, spread = payoffs @ other, _covariance(payoffs, other)
    steepest = 2 * risk * jnp.trace(spread) + smoothing
    root = jnp.sqrt(smoothing / steepest)
    momentum = (1 - root) / (1 + root)

    def step(_: Any, carry: tuple[Array, Array]) -> tuple[Array, Array]:
        x, ahead = carry
        slope = mean - 2 * risk * (spread @ ahead) - smoothing * ahead
        moved = projection_simplex(ahead + slope / steepest)
        return moved, moved + momentum * (moved - x)

    start = jnp.full(len(mean), 1 / len(mean), mean.dtype)
    return jax.lax.fori_loop(0, iterations, step, (start, start))[0]


def _covariance(payoffs: Float[Array, "n m"], other: Float[Array, " m"]) -> Float[Array, "n n"]:
    centered = payoffs - (payoffs @ other)[:, None]
    return (centered * other) @ centered.T


def risk_averse_game(
    first: Any, second: Any, risk: Scalar, smoothing: Scalar = 0.01, start: PyTree = None, iterations: int = 200
) -> FixedPoint:
    """The map from both mixed strategies to the mean-variance responses to them; its fixed points are the equilibria.

    There always is one, as responses are continuous. Follow it by `FictitiousPlay`.

    Arguments:
        first: The first player's payoffs ``(n, m)``, by their own action and the other's.
        second: The second player's ``(m, n)``, by their own action and the other's.
        risk: γ ≥ 0, of both; 0: smoothed Nash equilibria.
        smoothing: τ > 0, as in `mean_variance_response`.
        start: Mixed strategies ``(x, y)``; `None`: uniform ones.
        iterations: As in `mean_variance_response`, at least 1.

    Raises:
        ValueError: if the shapes do not fit, payoffs are not finite, or an argument is out of its range.

    Paper: A Game-Theoretic Framework for Managing Risk in Multi-Agent Systems (Slumbers et al., 2023)
    """
    in_range("risk", risk, 0.0)
    in_range("smoothing", smoothing, 0.0, open_low=True)
    in_range("iterations", iterations, 1)
    pair = jnp.asarray(first, float), jnp.asarray(second, float)
    if pair[0].ndim != 2 or pair[0].shape != pair[1].shape[::-1]:
        shapes = [p.shape for p in pair]
        raise ValueError(f"first, second: expected shapes (n, m) and (m, n), got {shapes}; transpose the second's?")
    in_range("first", pair[0])
    in_range("second", pair[1])
    uniform = tuple(jnp.full(len(p), 1 / len(p)) for p in pair)
    return FixedPoint(eqx.Partial(_responses, *pair, risk, smoothing, iterations), uniform if start is None else start)


def _responses(
    first: Array, second: Array, risk: Scalar, smoothing: Scalar, iterations: int, z: tuple[Array, Array]
) -> tuple[Array, Array]:
    how = risk, smoothing, iterations
    return mean_variance_response(first, z[1], *how), mean_variance_response(second, z[0], *how)


@method("fictitious-play", paper="risk-averse-equilibrium")
class FictitiousPlay(Method):
    r"""Everybody responds to the average of what the others have played.

    $$ z_{k+1} = z_k + \frac{T(z_k) - z_k}{k + 2} $$

    with T the responses to z, as of `risk_averse_game`; z is the average of the start and all responses.

    Papers: Iterative solution of games by fictitious play (Brown, 1951); A Game-Theoretic Framework for Managing Risk
    in Multi-Agent Systems (Slumbers et al., 2023)
    """

    def init(self, problem: FixedPoint, x: PyTree, key: PRNGKeyArray) -> Int[Array, ""]:
        return jnp.zeros([], jnp.int32)

    def step(
        self, problem: FixedPoint, x: PyTree, state: Int[Array, ""], key: PRNGKeyArray
    ) -> tuple[PyTree, Int[Array, ""]]:
        share = 1 / (state.astype(wide_dtype(x)) + 2)
        return jax.tree.map(lambda z, t: (z + share * (t - z)).astype(z.dtype), x, problem.operator(x)), state + 1
