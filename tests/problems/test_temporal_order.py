"""The sequences, the problem, its penalty, and errors."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import pytest

from attractor import run
from attractor.optim import vanishing_gradient_penalty
from attractor.problems import temporal_order, temporal_order_sequences


@pytest.mark.parametrize("length", [10, 25, 50])
def test_two_symbols_stand_where_they_should(length):
    symbols, orders = temporal_order_sequences(300, length)
    assert symbols.shape == (300, length)
    assert set(np.unique(symbols)) == set(range(6))
    assert set(orders) == {0, 1, 2, 3}
    tenth = length // 10
    for row, order in zip(symbols, orders, strict=True):
        first, second = np.flatnonzero(row < 2)
        assert tenth <= first < 2 * tenth
        assert length // 2 <= second < length // 2 + tenth
        assert order == row[first] + 2 * row[second]


def test_short_sequences_are_learned():
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(1e-2))
    trace = run(temporal_order(10, samples=1_000), optimizer, steps=200, every=200)
    assert float(trace.last("test_accuracy").values.max()) > 0.95


def test_the_penalty_is_added_to_the_loss_and_reaches_only_the_recurrent_weights():
    plain = temporal_order(12, width=5, samples=20)
    weighted = temporal_order(12, width=5, samples=20, penalty=eqx.Partial(vanishing_gradient_penalty, weight=3.0))
    x, batch = plain.init(jr.key(0)), jax.tree.map(lambda a: a[:4], plain.full)
    (less, gradient), (more, penalized) = (jax.jit(jax.value_and_grad(p.loss))(x, batch) for p in (plain, weighted))
    assert more > less
    difference = jax.tree.map(jnp.subtract, penalized, gradient)
    assert float(jnp.abs(difference.cell.recurrent).max()) > 1e-3
    for leaf in (difference.cell.input, difference.cell.bias, difference.head, difference.offset):
        np.testing.assert_allclose(leaf, 0, atol=1e-6)


@pytest.mark.parametrize(("name", "call"), [
    ("length", lambda: temporal_order(9)),
    ("count", lambda: temporal_order(samples=0)),
    ("width", lambda: temporal_order(width=0)),
    ("radius", lambda: temporal_order(radius=-1.0)),
])  # fmt: skip
def test_errors_name_the_argument(name, call):
    with pytest.raises(ValueError, match=name):
        call()
