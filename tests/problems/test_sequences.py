"""Grammar text and the models on it."""

import math

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import pytest

from attractor import run
from attractor.problems import char_lstm, char_transformer, digits_conv
from attractor.problems.sequences import ALPHABET, GRAMMAR, Transformer, grammar_entropy, grammar_text


def test_rules_are_distributions():
    for rules in GRAMMAR.values():
        assert sum(p for p, _ in rules) == pytest.approx(1)


def test_entropy_is_the_mean_surprise_of_derivations():
    rng, total, letters = np.random.default_rng(0), 0.0, 0

    def expand(symbol):
        nonlocal total, letters
        if symbol not in GRAMMAR:
            letters += len(symbol)
            return
        rules = GRAMMAR[symbol]
        i = rng.choice(len(rules), p=[p for p, _ in rules])
        total -= math.log(rules[i][0])
        for part in rules[i][1]:
            expand(part)

    for _ in range(5_000):
        expand("TEXT")
    assert total / letters == pytest.approx(grammar_entropy(), rel=0.03)


def test_text_is_deterministic_and_in_the_alphabet():
    assert grammar_text(500) == grammar_text(500) != grammar_text(500, seed=1)
    assert set(grammar_text(500)) <= set(ALPHABET)


@pytest.mark.parametrize("parts", [{}, {"latent": 3, "experts": 4}])
def test_transformer_does_not_look_ahead(parts):
    model = Transformer(8, 2, 2, 6, **parts, key=jr.key(0))
    a, b = jnp.array([1, 2, 3, 4, 5, 6]), jnp.array([1, 2, 3, 9, 9, 9])
    np.testing.assert_allclose(model(a)[:3], model(b)[:3], atol=1e-6)
    assert not np.allclose(model(a)[3:], model(b)[3:])


@pytest.mark.parametrize("make", [char_transformer, char_lstm])
def test_learns_more_than_letter_frequencies(make):
    problem = make()
    trace = run(problem, optax.adam(1e-2), steps=100, every=100)
    start, end = trace["test_loss"].values[0, 0]
    assert start == pytest.approx(math.log(len(ALPHABET)), rel=0.2)
    assert problem.constants["entropy"] < end < 2.2


def test_convolutional_network_learns():
    trace = run(digits_conv(), optax.adam(1e-2), steps=100, every=100)
    assert float(trace.last("test_accuracy").item()) > 0.7
    assert jax.tree.leaves(digits_conv().init(jr.key(0)))[0].shape == (8, 1, 3, 3)


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match="width"):
        char_transformer(width=33)
    with pytest.raises(ValueError, match="context"):
        char_lstm(context=0)
