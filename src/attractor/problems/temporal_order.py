"""The temporal-order task: two symbols early in a long sequence, whose order is asked for at its end."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
from jaxtyping import Array, Float, Int, PRNGKeyArray

from attractor.checks import in_range
from attractor.nn.recurrent.cells import ElmanCell, unroll
from attractor.problem import Minimization
from attractor.problems.held_out import held_out
from attractor.registry import problem

SYMBOLS, ORDERS = 6, 4  # A, B and four distractors; AA, BA, AB, BB
Batch = tuple[Int[Array, "n length"], Int[Array, " n"]]
Penalty = Callable[..., Float[Array, ""]]


class _Reader(eqx.Module):
    """An Elman network with a linear head on its last activations."""

    cell: ElmanCell
    head: Float[Array, "orders width"]
    offset: Float[Array, " orders"]

    def __init__(self, width: int, radius: float, key: PRNGKeyArray):
        for_cell, for_head = jr.split(key)
        self.cell = ElmanCell(SYMBOLS, width, radius=radius, key=for_cell)
        self.head, self.offset = 0.1 * jr.normal(for_head, (ORDERS, width)), jnp.zeros(ORDERS)

    def read(self, states: Float[Array, "length width"]) -> Float[Array, " orders"]:
        return self.head @ self.cell.activation(states[-1]) + self.offset


def temporal_order_sequences(count: int, length: int, seed: int = 0) -> tuple[Any, Any]:
    """Sequences of symbols 0 … 5 and their classes 0 … 3.

    All are distractors 2 … 5 but two, drawn from 0 and 1: one at a place in the second tenth of the sequence, one just
    after its middle. The class is the first plus twice the second.

    Arguments:
        count: Sequences, at least 1.
        length: Of each, at least 10.
        seed: Of the draw.

    Raises:
        ValueError: for an argument out of range.
    """
    in_range("count", count, 1)
    in_range("length", length, 10)
    rng, every, tenth = np.random.default_rng(seed), np.arange(count), length // 10
    symbols = rng.integers(2, SYMBOLS, (count, length))
    first, second = rng.integers(0, 2, (2, count))
    symbols[every, tenth + rng.integers(0, tenth, count)] = first
    symbols[every, length // 2 + rng.integers(0, tenth, count)] = second
    return symbols.astype(np.int32), (first + 2 * second).astype(np.int32)


@problem("temporal-order", metric="test_accuracy", steps=2_000, target=0.99)
def temporal_order(
    length: int = 20,
    width: int = 20,
    radius: float = 0.7,
    batch_size: int | None = 10,
    samples: int = 5_000,
    penalty: Penalty | None = None,
    seed: int = 0,
) -> Minimization:
    """Tell in which order two symbols came by, half a sequence ago: a tanh Elman network, cross-entropy.

    Records train loss and accuracies on 500 sequences each for validation and test; a network that has forgotten is
    right in 1 of 4.

    Arguments:
        length: Of the sequences, at least 10.
        width: Units.
        radius: Spectral radius of the recurrent weights at the start, about.
        batch_size: Sequences per step.
        samples: Training sequences.
        penalty: Added to each sequence's loss: ``penalty(step, x, inputs, loss)``, see
            `attractor.optim.vanishing_gradient_penalty`.
        seed: Of the sequences.

    Raises:
        ValueError: for an argument out of range.
    """
    train = temporal_order_sequences(samples, length, 3 * seed)
    held = {"validation": 3 * seed + 2, "test": 3 * seed + 1}
    parts = {name: temporal_order_sequences(500, length, s) for name, s in held.items()}
    build = eqx.Partial(_build, width, radius)
    _, static = eqx.partition(build(jr.key(0)), eqx.is_inexact_array)
    probes = held_out(parts, {"accuracy": (eqx.Partial(_accuracy, static), "max")})
    loss = eqx.Partial(_loss, penalty)
    return Minimization.of_model(build, loss, train, batch_size=batch_size, probes=probes)


def _build(width: int, radius: float, key: PRNGKeyArray) -> _Reader:
    return _Reader(width, radius, key)


def _inputs(batch: Batch) -> Float[Array, "n length symbols"]:
    return jax.nn.one_hot(batch[0], SYMBOLS)


def _loss(penalty: Penalty | None, model: _Reader, batch: Batch) -> Float[Array, ""]:
    start = jnp.zeros_like(model.cell.bias)

    def of_one(inputs: Array, order: Array) -> Array:
        def loss(states: Array) -> Array:
            return optax.softmax_cross_entropy_with_integer_labels(model.read(states), order)

        value = loss(unroll(model.cell, start, inputs))
        return value if penalty is None else value + penalty(model.cell, start, inputs, loss)

    return jax.vmap(of_one)(_inputs(batch), batch[1]).mean()


def _accuracy(static: Any, params: Any, batch: Batch) -> Float[Array, ""]:
    model = eqx.combine(params, static)
    logits = jax.vmap(lambda u: model.read(unroll(model.cell, jnp.zeros_like(model.cell.bias), u)))(_inputs(batch))
    return jnp.mean(logits.argmax(-1) == batch[1])
