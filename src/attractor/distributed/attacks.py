"""What faulty clients send, or fail to send. Each is a function ``(round, faulty, key) -> messages (faulty, d)``.

The faulty clients are the last ones, and know what all others send. `flipped_labels` poisons their data instead.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray

from attractor.checks import Scalar, in_range
from attractor.distributed.aggregation import Aggregator
from attractor.problem import Federated


class Round(NamedTuple):
    """What is known when messages are sent, one row a client."""

    sent: Float[Array, "n d"]  # what each sends that keeps to the protocol, the faulty ones included
    origin: Float[Array, "n d"]  # the models their steps began at
    before: Float[Array, "n d"]  # what they sent the round before


Attack = Callable[[Round, int, PRNGKeyArray], Float[Array, "f d"]]


def sign_flip(scale: Scalar = 1.0) -> Attack:
    """The honest clients' mean step, backward: origin - scale · (mean message - origin).

    Arguments:
        scale: How long, ≥ 0.

    Raises:
        ValueError: if ``scale`` is negative.
    """
    in_range("scale", scale, 0.0)
    return eqx.Partial(_pushed, _against_the_step, 1.0 + scale)


def inner_product(scale: Scalar = 1.1) -> Attack:
    """Fall of empires: the honest mean less ``scale`` times its step; above 1 it points backward.

    Arguments:
        scale: How long, ≥ 0.

    Raises:
        ValueError: if ``scale`` is negative.
    """
    in_range("scale", scale, 0.0)
    return eqx.Partial(_pushed, _against_the_step, scale)


def little_is_enough(deviations: Scalar = 1.5) -> Attack:
    """The honest mean, off by some of the honest clients' standard deviations in every coordinate.

    Arguments:
        deviations: How many, ≥ 0.

    Raises:
        ValueError: if ``deviations`` is negative.
    """
    in_range("deviations", deviations, 0.0)
    return eqx.Partial(_pushed, _deviation, deviations)


def strongest(attack: Callable[[Array], Attack], strengths: Sequence[float], rule: Aggregator) -> Attack:
    """Of some strengths, in each round that which moves the mean of what honest clients aggregate farthest.

    Arguments:
        attack: ``attack(strength)``, such as `little_is_enough`.
        strengths: What is tried, at least one number.
        rule: By which honest clients aggregate.

    Raises:
        ValueError: if ``strengths`` is empty.
    """
    if not len(strengths):
        raise ValueError("strengths: expected at least one number, got none")
    return eqx.Partial(_strongest, attack, tuple(map(float, strengths)), rule)


def noise(deviation: Scalar = 1.0) -> Attack:
    """Normal noise, with no relation to the task.

    Arguments:
        deviation: Its standard deviation, ≥ 0.

    Raises:
        ValueError: if ``deviation`` is negative.
    """
    in_range("deviation", deviation, 0.0)
    return eqx.Partial(_noise, deviation)


def dropped(round: Round, faulty: int, key: PRNGKeyArray) -> Float[Array, "f d"]:
    """Nothing arrives, and the receiver's buffer holds zeros."""
    return jnp.zeros_like(round.sent[-faulty:])


def late(round: Round, faulty: int, key: PRNGKeyArray) -> Float[Array, "f d"]:
    """What arrives is from the round before."""
    return round.before[-faulty:]


def flipped_labels(problem: Federated, faulty: int, classes: int = 10) -> Federated:
    """The same problem, the last clients of which have every label y turned to classes - 1 - y.

    Arguments:
        problem: With clients' data ``(inputs, labels)``.
        faulty: How many clients, from 1 to all but one.
        classes: Labels are 0 … classes - 1; at least 2.

    Raises:
        ValueError: for an argument out of its range.
    """
    in_range("faulty", faulty, 1, problem.n_clients - 1)
    in_range("classes", classes, 2)
    inputs, labels = problem.full
    flipped = labels.at[-faulty:].set(classes - 1 - labels[-faulty:])
    return eqx.tree_at(lambda p: p.full, problem, (inputs, flipped))


def _against_the_step(round: Round, honest: int) -> Float[Array, " d"]:
    return (round.origin - round.sent)[:honest].mean(0)


def _deviation(round: Round, honest: int) -> Float[Array, " d"]:
    return -jnp.std(round.sent[:honest], axis=0)


def _pushed(direction: Callable, strength: Scalar, round: Round, faulty: int, key: PRNGKeyArray) -> Float[Array, "f d"]:
    honest = len(round.sent) - faulty
    message = round.sent[:honest].mean(0) + strength * direction(round, honest)
    return jnp.broadcast_to(message, (faulty, message.size))


def _strongest(
    attack: Callable, strengths: tuple[float, ...], rule: Aggregator, round: Round, faulty: int, key: PRNGKeyArray
) -> Float[Array, "f d"]:
    honest = round.sent[:-faulty]

    def tried(strength: Array) -> tuple[Array, Array]:
        messages = attack(strength)(round, faulty, key)
        received = jnp.concatenate([honest, messages])
        moved = jax.vmap(rule, (None, 0))(received, honest).mean(0) - honest.mean(0)
        return moved @ moved, messages

    harm, messages = jax.vmap(tried)(jnp.asarray(strengths, honest.dtype))
    return messages[jnp.argmax(harm)]


def _noise(deviation: float, round: Round, faulty: int, key: PRNGKeyArray) -> Float[Array, "f d"]:
    return deviation * jr.normal(key, (faulty, round.sent.shape[1]), round.sent.dtype)
