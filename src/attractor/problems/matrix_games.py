"""Zero-sum matrix games, whose values linear programming knows."""

from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray
from optax.projections import projection_simplex
from scipy.optimize import linprog

from attractor.checks import in_range
from attractor.probe import Probe
from attractor.problem import Game
from attractor.registry import problem

Mixed = tuple[Float[Array, " n"], Float[Array, " m"]]
KNOWN = {
    "rock-paper-scissors": np.array([[0.0, 1, -1], [-1, 0, 1], [1, -1, 0]]),
    "matching-pennies": np.array([[1.0, -1], [-1, 1]]),
}


@problem("matrix-game", metric="gap", steps=1_000)
def matrix_game(payoffs: str | Any = "random", *, n: int = 6, m: int = 5, seed: int = 0) -> Game:
    r"""min over x, max over y of $x^\top A y$, mixed strategies: an equilibrium and the value are known.

    The iterate starts at both players' even mix. ``gap`` is what the players could gain together by answering,
    $\max_j (A^\top x)_j - \min_i (A y)_i$, after projection onto the simplices. Give methods that project
    `onto_simplices`, as the field drives all others out of them.

    Arguments:
        payoffs: A (n, m), what the first player pays; ``"random"``: standard normal; or one of
            ``"rock-paper-scissors"`` and ``"matching-pennies"``.
        n: Actions of the first player of a random game, at least 1.
        m: Actions of the second player, at least 1.
        seed: Of a random game.

    Raises:
        ValueError: for payoffs that are no finite matrix or an unknown name, or an argument out of its range.

    !!! example
        ```python
        game = matrix_game("rock-paper-scissors")
        run(game, Extragradient(0.2, projection=onto_simplices), steps=200).summary("gap")
        ```
    """
    in_range("n", n, 1)
    in_range("m", m, 1)
    if isinstance(payoffs, str) and payoffs not in ("random", *KNOWN):
        raise ValueError(f"payoffs: expected a matrix, 'random' or one of {', '.join(KNOWN)}, got {payoffs!r}")
    drawn = np.random.default_rng(seed).standard_normal((n, m)) if isinstance(payoffs, str) else payoffs
    matrix = KNOWN.get(payoffs, drawn) if isinstance(payoffs, str) else drawn
    _, x, y = matrix_game_value(matrix)
    a = jnp.asarray(matrix, float)
    even = jnp.full(len(x), 1 / len(x)), jnp.full(len(y), 1 / len(y))
    solution = jnp.asarray(x, float), jnp.asarray(y, float)
    probes = {"gap": Probe(eqx.Partial(_gap, a))}
    return Game.minimax(eqx.Partial(_pays, a), even, solution=solution, probes=probes)


def _pays(a: Float[Array, "n m"], x: Float[Array, " n"], y: Float[Array, " m"]) -> Float[Array, ""]:
    return x @ a @ y


def _gap(a: Float[Array, "n m"], problem: Game, z: Mixed, key: PRNGKeyArray) -> Float[Array, ""]:
    x, y = onto_simplices(z)
    return jnp.max(x @ a) - jnp.min(a @ y)


def onto_simplices(z: Mixed) -> Mixed:
    """The mixed strategies nearest to those of ``z``."""
    return projection_simplex(z[0]), projection_simplex(z[1])


def matrix_game_value(payoffs: Any) -> tuple[float, Float[np.ndarray, " n"], Float[np.ndarray, " m"]]:
    r"""The value $\min_x \max_y x^\top A y$ and an equilibrium, by SciPy's linear programming.

    Arguments:
        payoffs: A (n, m), what the first player pays.

    Raises:
        ValueError: if this is no finite matrix.
    """
    a = np.asarray(payoffs, float)
    if a.ndim != 2 or not a.size or not np.isfinite(a).all():
        raise ValueError(f"payoffs: expected a finite matrix (n, m), got shape {a.shape}")
    (value, x), (lost, y) = _least(a), _least(-a.T)
    assert abs(value + lost) <= 1e-7 * (1 + np.abs(a).max())  # duality
    return value, x, y


def _least(a: Float[np.ndarray, "n m"]) -> tuple[float, Float[np.ndarray, " n"]]:
    """The smallest v, and the mix x, such that every column costs x at most v."""
    n, m = a.shape
    found = linprog(
        np.append(np.zeros(n), 1.0),
        np.hstack([a.T, -np.ones((m, 1))]),
        np.zeros(m),
        np.append(np.ones(n), 0.0)[None],
        [1.0],
        [(0, None)] * n + [(None, None)],
    )
    return float(found.x[-1]), found.x[:-1]
