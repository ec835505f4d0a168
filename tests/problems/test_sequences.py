"""Grammar text and the models on it."""

import math

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import pytest

from attractor import run
from attractor.problems import char_lstm, char_mlp, char_transformer, digits_conv, markov_text
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


@pytest.mark.parametrize("make", [char_transformer, char_lstm, char_mlp])
def test_learns_more_than_letter_frequencies(make):
    problem = make()
    trace = run(problem, optax.adam(1e-2), steps=100, every=100)
    start, end = trace["test_loss"].values[0, 0]
    assert start == pytest.approx(math.log(len(ALPHABET)), rel=0.2)
    assert grammar_entropy() < end < 2.2


def test_a_pair_of_symbols_says_more_about_the_next_than_their_frequencies():
    problem = markov_text(seed=3, symbols=4, length=4_000, held_out_length=500, batch_size=64)
    contexts, tokens = map(np.asarray, problem.full)
    np.testing.assert_array_equal(contexts[1:, 0], contexts[:-1, 1])
    np.testing.assert_array_equal(contexts[1:, 1], tokens[:-1])
    assert len(tokens) == 3_500
    counts = np.zeros((4, 4, 4))
    np.add.at(counts, (*contexts.T, tokens), 1)
    joint = counts / counts.sum()
    given_pair = -(
        joint * np.log(joint / joint.sum(-1, keepdims=True), where=joint > 0, out=np.zeros_like(joint))
    ).sum()
    alone = joint.sum((0, 1))
    end = float(run(problem, optax.adam(1e-2), steps=200, every=200).last("test_loss").item())
    assert 0.9 * given_pair < end < 0.5 * (given_pair - (alone * np.log(alone)).sum())


def test_convolutional_network_learns():
    trace = run(digits_conv(), optax.adam(1e-2), steps=100, every=100)
    assert float(trace.last("test_accuracy").item()) > 0.7
    assert jax.tree.leaves(digits_conv().init(jr.key(0)))[0].shape == (8, 1, 3, 3)


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match="width"):
        char_transformer(width=33)
    with pytest.raises(ValueError, match="context"):
        char_lstm(context=0)
