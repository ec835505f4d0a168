"""Next-character prediction on text from a small grammar of known entropy: language models that train in seconds."""

import functools
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
from attractor.nn.attention.latent import LatentAttention
from attractor.nn.moe.experts import MixtureOfExperts
from attractor.objectives import Composite
from attractor.problem import Minimization
from attractor.problems.digits import cross_entropy_of
from attractor.problems.held_out import held_out
from attractor.registry import problem

# A probability and a list of symbols per rule; what is no symbol of the grammar is text. Each text has one derivation.
GRAMMAR: dict[str, list[tuple[float, list[str]]]] = {
    "TEXT": [(1.0, ["NP", " ", "VP", ". "])],
    "NP": [(0.6, ["DET", " ", "NOUN"]), (0.25, ["DET", " ", "KIND"]), (0.15, ["DET", " ", "NOUN", " that ", "VP"])],
    "KIND": [(1.0, ["ADJ", " ", "NOUN"])],
    "VP": [(0.6, ["VERB", " ", "NP"]), (0.4, ["MOVES"])],
    "DET": [(0.6, ["the"]), (0.4, ["a"])],
    "NOUN": [(0.3, ["cat"]), (0.3, ["dog"]), (0.2, ["bird"]), (0.2, ["farmer"])],
    "ADJ": [(0.5, ["old"]), (0.3, ["small"]), (0.2, ["clever"])],
    "VERB": [(0.4, ["sees"]), (0.3, ["hears"]), (0.3, ["follows"])],
    "MOVES": [(0.5, ["runs"]), (0.3, ["jumps"]), (0.2, ["waits"])],
}  # fmt: skip
TEXTS = [part for rules in GRAMMAR.values() for _, parts in rules for part in parts if part not in GRAMMAR]
ALPHABET = "".join(sorted(set("".join(TEXTS))))

Tokens = Int[Array, "n context"]


def grammar_entropy() -> float:
    """Entropy of the grammar's text in nats per character: no model can have a lower loss on it.

    A derivation's entropy and its length both solve linear equations, one per symbol: its own rule's share, and the
    expected number of each symbol times that symbol's.
    """
    symbols = list(GRAMMAR)
    counts, entropy, letters = np.zeros((len(symbols), len(symbols))), np.zeros(len(symbols)), np.zeros(len(symbols))
    for i, symbol in enumerate(symbols):
        for probability, parts in GRAMMAR[symbol]:
            entropy[i] -= probability * np.log(probability)
            for part in parts:
                if part in GRAMMAR:
                    counts[i, symbols.index(part)] += probability
                else:
                    letters[i] += probability * len(part)
    whole = np.linalg.inv(np.eye(len(symbols)) - counts)
    return float((whole @ entropy)[0] / (whole @ letters)[0])


def grammar_text(length: int, seed: int = 0) -> str:
    """At least ``length`` characters of sentences, then cut to ``length``.

    Arguments:
        length: Characters, at least 1.
        seed: Of the derivations.
    """
    in_range("length", length, 1)
    rng = np.random.default_rng(seed)

    def expand(symbol: str) -> str:
        if symbol not in GRAMMAR:
            return symbol
        rules = GRAMMAR[symbol]
        return "".join(map(expand, rules[rng.choice(len(rules), p=[p for p, _ in rules])][1]))

    text = ""
    while len(text) < length:
        text += expand("TEXT")
    return text[:length]


class Transformer(eqx.Module):
    """A causal decoder: embeddings, pre-norm blocks of attention and a two-layer network, a linear head.

    Arguments:
        width: Of the embeddings; a multiple of ``heads``.
        depth: Blocks.
        heads: Of attention.
        context: Characters seen at once.
        latent: Keys and values from so many numbers per position (`LatentAttention`); `None`: multi-head attention.
        experts: So many networks of half the hidden units, of which a character uses two; `None`: one network.
        key: Of the weights.
    """

    embed: Float[Array, "characters width"]
    position: Float[Array, "context width"]
    attention: list[eqx.nn.MultiheadAttention] | list[LatentAttention]
    network: list[eqx.nn.MLP] | list[MixtureOfExperts]
    norms: list[tuple[eqx.nn.LayerNorm, eqx.nn.LayerNorm]]
    head: eqx.nn.Linear

    def __init__(
        self,
        width: int,
        depth: int,
        heads: int,
        context: int,
        latent: int | None = None,
        experts: int | None = None,
        *,
        key: PRNGKeyArray,
    ):
        for_embed, for_position, for_head, *keys = jr.split(key, 3 + 2 * depth)
        self.embed = 0.1 * jr.normal(for_embed, (len(ALPHABET), width))
        self.position = 0.1 * jr.normal(for_position, (context, width))
        if latent is None:
            self.attention = [eqx.nn.MultiheadAttention(heads, width, key=k) for k in keys[:depth]]
        else:
            self.attention = [LatentAttention(heads, width, latent, key=k) for k in keys[:depth]]
        if experts is None:
            self.network = [eqx.nn.MLP(width, width, 4 * width, 1, jax.nn.gelu, key=k) for k in keys[depth:]]
        else:
            self.network = [MixtureOfExperts(width, 2 * width, experts, key=k) for k in keys[depth:]]
        self.norms = [(eqx.nn.LayerNorm(width), eqx.nn.LayerNorm(width)) for _ in range(depth)]
        self.head = eqx.nn.Linear(width, len(ALPHABET), key=for_head)

    def __call__(self, tokens: Int[Array, " context"]) -> Float[Array, "context characters"]:
        x = self.embed[tokens] + self.position
        causal = jnp.tril(jnp.ones((len(tokens), len(tokens)), bool))
        for attention, network, (first, second) in zip(self.attention, self.network, self.norms, strict=True):
            y = jax.vmap(first)(x)
            x = x + (attention(y) if isinstance(attention, LatentAttention) else attention(y, y, y, mask=causal))
            x = x + jax.vmap(lambda v, f=network, g=second: f(g(v)))(x)
        return jax.vmap(self.head)(x)


class Recurrent(eqx.Module):
    """An LSTM with a linear head."""

    embed: Float[Array, "characters width"]
    cell: eqx.nn.LSTMCell
    head: eqx.nn.Linear

    def __init__(self, width: int, *, key: PRNGKeyArray):
        for_embed, for_cell, for_head = jr.split(key, 3)
        self.embed = jr.normal(for_embed, (len(ALPHABET), width)) / width**0.5
        self.cell = eqx.nn.LSTMCell(width, width, key=for_cell)
        self.head = eqx.nn.Linear(width, len(ALPHABET), key=for_head)

    def __call__(self, tokens: Int[Array, " context"]) -> Float[Array, "context characters"]:
        def step(state: Any, x: Array) -> tuple[Any, Array]:
            state = self.cell(x, state)
            return state, self.head(state[0])

        zero = jnp.zeros(self.cell.hidden_size)
        return jax.lax.scan(step, (zero, zero), self.embed[tokens])[1]


@problem("char-transformer", metric="test_loss", steps=400, target=0.55)
def char_transformer(
    width: int = 16,
    depth: int = 1,
    heads: int = 2,
    context: int = 24,
    batch_size: int | None = 16,
    latent: int | None = None,
    experts: int | None = None,
    seed: int = 0,
) -> Composite:
    """A small causal transformer on characters of a grammar's sentences; losses are in nats.

    Recorded are the losses on text for training, validation and test.

    The source's entropy, about 0.30 nats per character, is in ``constants["entropy"]``; a context of 24 does not see
    all of it.

    Arguments:
        width: Of the embeddings; a multiple of ``heads``.
        depth: Blocks.
        heads: Of attention.
        context: Characters seen at once, each of which is predicted from those before it.
        batch_size: Windows per step; `None`: all 500.
        latent: As in `Transformer`.
        experts: As in `Transformer`.
        seed: Of the texts.
    """
    in_range("depth", depth, 1)
    if width % heads:
        raise ValueError(f"width: expected a multiple of heads = {heads}, got {width}")
    return _language_model(
        eqx.Partial(_transformer, width, depth, heads, context, latent, experts), context, batch_size, seed
    )


def _transformer(
    width: int, depth: int, heads: int, context: int, latent: int | None, experts: int | None, key: PRNGKeyArray
) -> Transformer:
    return Transformer(width, depth, heads, context, latent, experts, key=key)


@problem("char-lstm", metric="test_loss", steps=400, target=0.5)
def char_lstm(width: int = 32, context: int = 24, batch_size: int | None = 16, seed: int = 0) -> Composite:
    """An LSTM on the text of `char_transformer`, trained through 24 steps of time.

    Arguments:
        width: Of its state.
        context: As in `char_transformer`.
        batch_size: As in `char_transformer`.
        seed: As in `char_transformer`.
    """
    in_range("width", width, 1)
    return _language_model(eqx.Partial(_recurrent, width), context, batch_size, seed)


def _recurrent(width: int, key: PRNGKeyArray) -> Recurrent:
    return Recurrent(width, key=key)


class Windowed(eqx.Module):
    """The next character from the last few, by a network on their embeddings."""

    embed: Float[Array, "characters width"]
    network: eqx.nn.MLP

    def __init__(self, context: int, *, key: PRNGKeyArray):
        for_embed, for_network = jr.split(key)
        self.embed = jr.normal(for_embed, (len(ALPHABET), 8)) / 8**0.5
        self.network = eqx.nn.MLP(8 * context, len(ALPHABET), 32, 1, key=for_network)

    def __call__(self, tokens: Int[Array, " context"]) -> Float[Array, " characters"]:
        return self.network(self.embed[tokens].ravel())


def char_mlp(context: int = 4, length: int = 4_000, seed: int = 0, batch_size: int | None = 64) -> Composite:
    """A two-layer network that sees the last few characters of the grammar's text; cheaper than `char_transformer`.

    Recorded are the losses on other text for validation and test, a thousand characters each.

    Arguments:
        context: Characters seen at once, at least 1.
        length: Characters to train on, more than ``context``.
        seed: Of the text; the two after it are those of test and validation.
        batch_size: Characters predicted per step; `None`: all.
    """
    in_range("context", context, 1)
    in_range("length", length, context + 1)

    def windows(length: int, seed: int) -> tuple[Array, Array]:
        tokens = np.array([ALPHABET.index(c) for c in grammar_text(length, seed)], np.int32)
        views = np.lib.stride_tricks.sliding_window_view(tokens, context + 1)
        return jnp.asarray(views[:, :-1]), jnp.asarray(views[:, -1])

    blank = Composite.of_model(
        lambda key: Windowed(context, key=key), cross_entropy_of, windows(length, seed), batch_size=batch_size
    )
    parts = {"validation": windows(1_000, seed + 2), "test": windows(1_000, seed + 1)}
    return eqx.tree_at(lambda p: p.probes, blank, held_out(parts, {"loss": (blank.loss, "min")}))


def markov_text(
    seed: int = 0, symbols: int = 16, length: int = 50_000, held_out_length: int = 1_024, batch_size: int | None = 16
) -> Minimization:
    """A small network predicts the next symbol from the last two, on text of a random second-order Markov chain.

    Each pair of symbols has its own law of the next, drawn from a Dirichlet distribution with parameters 0.3. Recorded
    are the losses on text held out for validation and test, in nats.

    Arguments:
        seed: Of the chain and the text.
        symbols: Size of the alphabet, at least 2.
        length: Symbols of training and test together, more than ``held_out_length``.
        held_out_length: Symbols for validation, and as many for test.
        batch_size: Symbols predicted in a step; `None`: all.

    Raises:
        ValueError: for an argument out of range.
    """
    in_range("symbols", symbols, 2)
    in_range("length", length, held_out_length + 1)
    rng = np.random.default_rng(seed)
    cumulative = rng.dirichlet(np.full(symbols, 0.3), (symbols, symbols)).cumsum(-1)
    text = [0, 0]
    for u in rng.random(length + held_out_length):
        text.append(min(int(np.searchsorted(cumulative[text[-2], text[-1]], u)), symbols - 1))
    contexts = np.lib.stride_tricks.sliding_window_view(np.asarray(text[:-1], np.int32), 2)
    tokens = np.asarray(text[2:], np.int32)
    cuts = {"train": slice(length - held_out_length), "test": slice(length - held_out_length, length)}
    parts = {name: (contexts[cut], tokens[cut]) for name, cut in (cuts | {"validation": slice(length, None)}).items()}
    problem = Minimization.of_model(
        lambda key: eqx.nn.MLP(2 * symbols, symbols, 32, 1, key=key),
        _next_symbol,
        parts.pop("train"),
        batch_size=batch_size,
    )
    return eqx.tree_at(lambda p: p.probes, problem, held_out(parts, {"loss": (problem.loss, "min")}))


def _next_symbol(model: eqx.nn.MLP, batch: tuple[Int[Array, "n 2"], Int[Array, " n"]]) -> Float[Array, ""]:
    contexts, tokens = batch
    logits = jax.vmap(model)(jax.nn.one_hot(contexts, int(model.out_size)).reshape(len(contexts), -1))
    return optax.softmax_cross_entropy_with_integer_labels(logits, tokens).mean()


@functools.cache
def _windows(context: int, count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    text = grammar_text(count * context + 1, seed)
    tokens = np.array([ALPHABET.index(c) for c in text], np.int32)
    return tokens[:-1].reshape(count, context), tokens[1:].reshape(count, context)


def _language_model(build: Callable[[PRNGKeyArray], Any], context: int, batch_size: int | None, seed: int) -> Composite:
    in_range("context", context, 1)
    train = _windows(context, 500, 3 * seed)
    parts = {"validation": _windows(context, 40, 3 * seed + 2), "test": _windows(context, 40, 3 * seed + 1)}
    blank = Composite.of_model(
        build, _next_character, train, batch_size=batch_size, constants={"entropy": grammar_entropy()}
    )
    probes = held_out(parts, {"loss": (blank.loss, "min")})
    return eqx.tree_at(lambda p: p.probes, blank, blank.probes | probes)


def _next_character(logits: Float[Array, "n context characters"], batch: tuple[Tokens, Tokens]) -> Float[Array, ""]:
    return optax.softmax_cross_entropy_with_integer_labels(logits, batch[1]).mean()
