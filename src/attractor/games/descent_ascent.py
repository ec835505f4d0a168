"""Descent-ascent through optax transformations: every player with an optimizer, such as Adam."""

import equinox as eqx
import jax.random as jr
import optax
from jaxtyping import PRNGKeyArray, PyTree

from attractor.checks import Scalar, in_range
from attractor.method import Method
from attractor.problem import Game
from attractor.registry import LogUniform, Uniform, method
from attractor.transformations import Transformation, as_transformation, averaged, is_transformation, update


class DescentAscent(Method):
    r"""Every player follows its own gradient through an optax transformation, such as Adam.

    $$ z^i_{k+1} = z^i_k + U_i\bigl(F_i(z_k)\bigr) $$

    for the joint field F of a `Game` and the update $U_i$ that player i's transformation makes of a gradient. All
    players see the same sample. `attractor.games.GradientDescentAscent` is the case of ``optax.sgd``, and
    ``optax.optimistic_gradient_descent`` makes it optimistic.

    Arguments:
        *optimizers: One for all players, each with a state of its own, or one per player in the game's order.
        in_turn: Whether the players move one after another, each with the field of where those before it have gone:
            as many fields a step as there are players, of which each gives one player's part.

    Raises:
        TypeError: for anything that is no optax transformation, or none at all.
        ValueError: where there are several, and not as many as players.

    !!! example
        ```python
        DescentAscent(optax.adam(1e-3, b1=0.5))
        DescentAscent(optax.adam(1e-4), optax.adam(4e-4), in_turn=True)
        ```
    """

    optimizers: tuple[optax.GradientTransformationExtraArgs, ...]
    in_turn: bool = eqx.field(static=True)

    def __init__(self, *optimizers: Transformation, in_turn: bool = False):
        if not optimizers or not all(map(is_transformation, optimizers)):
            got = ", ".join(type(o).__name__ for o in optimizers) or "none"
            raise TypeError(
                f"optimizers: expected optax transformations, one for all players or one for each, got {got}; "
                "a function that makes one (such as optax.adam) needs its hyper-parameters: call it"
            )
        self.optimizers = tuple(map(as_transformation, optimizers))
        self.in_turn = in_turn

    def init(self, problem: Game, x: PyTree, key: PRNGKeyArray) -> tuple[PyTree, ...]:
        return tuple(own.init(player) for own, player in zip(self._each(x), x, strict=True))

    def step(self, problem: Game, x: PyTree, state: PyTree, key: PRNGKeyArray) -> tuple[PyTree, PyTree]:
        batch, moved, states = problem.sample(key), list(x), list(state)
        field = problem.field(x, batch)
        for i, own in enumerate(self._each(x)):
            if self.in_turn and i:
                field = problem.field(tuple(moved), batch)
            offered = {"key": jr.fold_in(key, i + 1)}
            updates, states[i] = update(own, field[i], states[i], moved[i], offered)
            moved[i] = optax.apply_updates(moved[i], updates)
        return tuple(moved), tuple(states)

    def readout(self, x: PyTree, state: PyTree) -> PyTree:
        return tuple(averaged(player, own) for player, own in zip(x, state, strict=True))

    def _each(self, x: PyTree) -> tuple[optax.GradientTransformationExtraArgs, ...]:
        """A transformation per player."""
        if len(self.optimizers) not in (1, len(x)):
            raise ValueError(
                f"optimizers: expected 1 (for all players) or {len(x)} (one for each), got {len(self.optimizers)}"
            )
        return self.optimizers if len(self.optimizers) == len(x) else self.optimizers * len(x)


@method(
    "adam-descent-ascent",
    {"learning_rate": LogUniform(1e-4, 1e-1), "b1": Uniform(0.0, 0.9)},
    bad={"learning_rate": -1.0, "b1": 1.0, "b2": 1.0},
)
def adam_descent_ascent(
    learning_rate: optax.ScalarOrSchedule, b1: Scalar = 0.9, b2: Scalar = 0.999, in_turn: bool = False
) -> DescentAscent:
    """Adam for every player: `DescentAscent` as generators and discriminators are mostly trained.

    Arguments:
        learning_rate: η ≥ 0 of all players, or a schedule.
        b1: Decay of the mean of gradients, in [0, 1); 0 to 0.5 is usual in games, where a long memory makes players
            circle each other.
        b2: Decay of the mean of squares, in [0, 1).
        in_turn: As in `DescentAscent`.

    Raises:
        ValueError: for an argument out of its range.

    Paper: Adam: A Method for Stochastic Optimization (Kingma and Ba, 2015)
    """
    in_range("learning_rate", learning_rate, 0.0)
    in_range("b1", b1, 0.0, 1.0, open_high=True)
    in_range("b2", b2, 0.0, 1.0, open_high=True)
    return DescentAscent(optax.adam(learning_rate, b1, b2), in_turn=in_turn)
