"""The transformer on Python's manual: its text, its windows, its attention."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import pytest

from attractor.problems import manual_text, text_transformer
from attractor.problems.language import CHARACTERS, Block, TextTransformer, manual_paragraphs, windows


def test_what_is_held_out_was_not_read_in_training():
    train, validation, test = manual_text()
    everything = set(manual_paragraphs())
    assert len(everything) == len(manual_paragraphs()) > 1_000
    assert set("".join(manual_paragraphs())) <= set(CHARACTERS)
    parts = [[p for p in everything if p + "\n\n" in text] for text in (validation, test)]
    assert not set(parts[0]) & set(parts[1])
    # Of the shortest paragraphs, such as "See also:", one may stand inside another.
    inside = [p for p in parts[0] + parts[1] if "\n\n" + p + "\n\n" in train]
    assert not inside
    assert len(train) > 250_000
    assert min(len(validation), len(test)) > 10_000
    assert manual_text(1)[1] != validation


def test_windows_do_not_overlap_and_what_follows_is_one_further():
    tokens, following = windows("abcdefgh", 3)
    a = CHARACTERS.index("a")
    assert tokens.tolist() == [[a, a + 1, a + 2], [a + 3, a + 4, a + 5]]
    assert following.tolist() == [[a + 1, a + 2, a + 3], [a + 4, a + 5, a + 6]]
    assert windows(CHARACTERS, 95)[0].tolist() == [list(range(95))]


def test_transformer_does_not_look_ahead():
    model = TextTransformer(8, 2, 2, 6, 2.0, key=jr.key(0))
    a, b = jnp.array([1, 2, 3, 4, 5, 6]), jnp.array([1, 2, 3, 9, 9, 9])
    np.testing.assert_allclose(model(a)[:3], model(b)[:3], atol=1e-5)
    assert not np.allclose(model(a)[3:], model(b)[3:])
    assert not np.allclose(model(jnp.array([1, 2, 2]))[1], model(jnp.array([1, 2, 2]))[2])  # places count


def test_a_block_follows_the_formulas():
    growth, heads, width = 3.0, 2, 12
    block, x = Block(width, heads, growth, key=jr.key(0)), jr.normal(jr.key(1), (5, width))
    out, logits = block(x)

    def normed(v):
        return (v - v.mean(-1, keepdims=True)) / jnp.sqrt(v.var(-1, keepdims=True) + 1e-5)

    def times(layer, v):
        return v @ layer.weight.T / growth

    q, k, v = (times(f, normed(x)).reshape(5, heads, -1) for f in (block.query, block.key, block.value))
    base = width / heads / growth  # numbers of a head at the base width
    scale = base**0.5 / (width / heads)
    np.testing.assert_allclose(logits, scale * jnp.einsum("qhd,khd->hqk", q, k), rtol=1e-4, atol=1e-5)
    attended = jax.nn.dot_product_attention(q, k, v, is_causal=True, scale=scale).reshape(5, width)
    middle = x + times(block.out, attended)
    expected = middle + times(block.down, jax.nn.gelu(times(block.up, normed(middle))))
    np.testing.assert_allclose(out, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("options", "millions"),
    [
        ({}, 0.0196),
        ({"width": 192, "depth": 4, "context": 128}, 1.83),
        ({"width": 384, "depth": 6, "heads": 6, "context": 256}, 10.8),
    ],
)
def test_sizes_are_those_of_the_docstring(options, millions):
    problem = text_transformer(**options)
    shapes = jax.tree.leaves(eqx.filter_eval_shape(problem.init, jr.key(0)))
    assert sum(s.size for s in shapes) == pytest.approx(1e6 * millions, rel=0.01)


def test_learns_more_than_letter_frequencies():
    problem = text_transformer()
    counts = np.bincount(np.concatenate([w.ravel() for w in windows(manual_text()[0], 32)]), minlength=96)
    train, test = manual_text()[0], manual_text()[2][:2_048]
    tokens = windows(test, 32)[1].ravel()
    frequencies = -np.log((counts / counts.sum())[tokens]).mean()
    adam, x = optax.adam(1e-2), problem.init(jr.key(0))
    state = adam.init(x)

    @jax.jit
    def step(x, state, key):
        updates, state = adam.update(jax.grad(problem.loss)(x, problem.sample(key)), state)
        return optax.apply_updates(x, updates), state

    for key in jr.split(jr.key(1), 60):
        x, state = step(x, state, key)
    assert len(train) // 32 == pytest.approx(len(problem.full[0]), abs=1)
    loss = float(problem.probes["test_loss"](problem, x, jr.key(0)))
    assert 1.0 < loss < frequencies - 0.05


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"width": 33}, "width: expected a multiple of heads = 4"),
        ({"depth": 0}, "depth"),
        ({"heads": 0}, "heads"),
        ({"context": 0}, "context"),
        ({"held_out_length": 32}, "held_out_length"),
        ({"held_out_length": 10**6}, "held_out_length"),
        ({"parametrization": "mean"}, "parametrization"),
    ],
)
def test_bad_arguments_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        text_transformer(**options)
