"""A causal transformer on the characters of a book that every Python has: small by default, millions of parameters by
arguments."""

import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
from jaxtyping import Array, Float, Int, PRNGKeyArray

from attractor.checks import in_range
from attractor.objectives import Composite
from attractor.problems.held_out import held_out
from attractor.problems.widths import Dense, growth_of
from attractor.registry import problem

CHARACTERS = "\n" + "".join(map(chr, range(32, 127)))
# What the manual has beside them, as typists write it; the few other characters are left out.
PLAIN = str.maketrans("‘’“”–—", "''\"\"--")

Tokens = Int[Array, "n context"]


@functools.cache
def manual_paragraphs() -> tuple[str, ...]:
    """The paragraphs of Python's language reference, each once, in the characters of ``CHARACTERS``.

    They are what ``help()`` shows, in the standard library's ``pydoc_data`` (some 370,000 characters, under the license
    of Python); releases of Python differ a little. Topics repeat one another: a paragraph that stands in
    two of them is taken where it is first, so that no held-out one has been read in training.
    """
    from pydoc_data.topics import topics  # half a megabyte, for who asks

    lines = "\n\n".join(topics[name] for name in sorted(topics)).translate(PLAIN)
    kept = "".join(c for c in lines if c in CHARACTERS)
    return tuple(p for p in dict.fromkeys(map(str.strip, kept.split("\n\n"))) if p)


@functools.cache
def manual_text(seed: int = 0) -> tuple[str, str, str]:
    """``(train, validation, test)``: of the paragraphs nine tenths, and twice a twentieth, drawn at random.

    Arguments:
        seed: Of the draw.
    """
    paragraphs = manual_paragraphs()
    drawn = np.random.default_rng(seed).permutation(len(paragraphs))
    part = np.full(len(paragraphs), 0)
    part[drawn[: len(drawn) // 20]] = 1
    part[drawn[len(drawn) // 20 : len(drawn) // 10]] = 2
    train, validation, test = (
        "".join(p + "\n\n" for p, i in zip(paragraphs, part, strict=True) if i == j) for j in range(3)
    )
    return train, validation, test


def windows(text: str, context: int) -> tuple[np.ndarray, np.ndarray]:
    """A text as numbers in windows that do not overlap, and what follows each character: two arrays (n, context).

    Arguments:
        text: More than ``context`` characters of ``CHARACTERS``.
        context: Characters in a window, at least 1.
    """
    codes = np.frombuffer(text.encode("ascii"), np.uint8).astype(np.int32)
    tokens = np.where(codes == ord("\n"), 0, codes - (ord(" ") - 1))  # as CHARACTERS numbers them
    count = (len(tokens) - 1) // context
    return tokens[: count * context].reshape(count, context), tokens[1 : count * context + 1].reshape(count, context)


class Block(eqx.Module):
    """Causal attention and a two-layer network, each added to what comes in, after a norm of it."""

    query: Dense
    key: Dense
    value: Dense
    out: Dense
    up: Dense
    down: Dense
    norms: tuple[eqx.nn.LayerNorm, eqx.nn.LayerNorm]
    heads: int = eqx.field(static=True)
    scale: float = eqx.field(static=True)

    def __init__(self, width: int, heads: int, growth: float, *, key: PRNGKeyArray):
        def dense(inputs: int, outputs: int, key: PRNGKeyArray) -> Dense:
            return Dense(inputs, outputs, "hidden", growth, use_bias=False, key=key)

        *keys, up, down = jr.split(key, 6)
        self.query, self.key, self.value, self.out = (dense(width, width, k) for k in keys)
        self.up, self.down = dense(width, 4 * width, up), dense(4 * width, width, down)
        self.norms = (eqx.nn.LayerNorm(width, use_bias=False), eqx.nn.LayerNorm(width, use_bias=False))
        self.heads = heads
        # 1 / sqrt(d) at the base width and falling as 1 / d from there: queries and keys agree once they have learned.
        self.scale = (width // heads) ** -0.5 * growth**-0.5

    def __call__(self, x: Float[Array, "context width"]) -> tuple[Array, Float[Array, "heads context context"]]:
        """What comes out, and the attention's logits."""
        n = len(x)
        y = jax.vmap(self.norms[0])(x)
        q, k, v = (jax.vmap(f)(y).reshape(n, self.heads, -1) for f in (self.query, self.key, self.value))
        logits = self.scale * jnp.einsum("qhd,khd->hqk", q, k)
        weights = jax.nn.softmax(jnp.where(jnp.tril(jnp.ones((n, n), bool)), logits, -jnp.inf))
        x = x + jax.vmap(self.out)(jnp.einsum("hqk,khd->qhd", weights, v).reshape(n, -1))
        network = jax.vmap(lambda token: self.down(jax.nn.gelu(self.up(self.norms[1](token)))))
        return x + network(x), logits


class TextTransformer(eqx.Module):
    """A causal decoder of `Dense` layers: embeddings of characters and places, blocks, a norm, a linear head.

    Arguments:
        width: Of the embeddings; a multiple of ``heads``.
        depth: Blocks.
        heads: Of attention.
        context: Characters seen at once.
        growth: As in `Dense`.
        key: Of the weights.
    """

    embed: Float[Array, "characters width"]
    position: Float[Array, "context width"]
    blocks: list[Block]
    norm: eqx.nn.LayerNorm
    head: Dense

    def __init__(self, width: int, depth: int, heads: int, context: int, growth: float = 1.0, *, key: PRNGKeyArray):
        for_embed, for_position, for_head, *keys = jr.split(key, 3 + depth)
        self.embed = 0.1 * jr.normal(for_embed, (len(CHARACTERS), width))
        self.position = 0.1 * jr.normal(for_position, (context, width))
        self.blocks = [Block(width, heads, growth, key=k) for k in keys]
        self.norm = eqx.nn.LayerNorm(width, use_bias=False)
        self.head = Dense(width, len(CHARACTERS), "output", growth, key=for_head)

    def activations(self, tokens: Int[Array, " context"]) -> list[Array]:
        """The embeddings, the attention's logits and the output of every block, and the logits of what follows."""
        found, x = [], self.embed[tokens] + self.position[: len(tokens)]
        found.append(x)
        for block in self.blocks:
            x, logits = block(x)
            found += [logits, x]
        return [*found, jax.vmap(lambda token: self.head(self.norm(token)))(x)]

    def __call__(self, tokens: Int[Array, " context"]) -> Float[Array, "context characters"]:
        return self.activations(tokens)[-1]


@problem("text-transformer", metric="test_loss", steps=200, target=2.85)
def text_transformer(
    width: int = 32,
    depth: int = 1,
    heads: int = 4,
    context: int = 32,
    batch_size: int | None = 8,
    parametrization: str = "standard",
    base_width: int = 32,
    held_out_length: int = 2_048,
    seed: int = 0,
) -> Composite:
    """Predict the next character of Python's manual, `manual_text`; losses are in nats.

    Recorded are the losses on paragraphs held out for validation and test. The default has 20,000 parameters and
    trains in seconds on a laptop; ``width=192, depth=4, context=128`` has 1.8 million and ``width=384, depth=6,
    heads=6, context=256`` 10.8 million.

    ``parametrization="mup"`` is that of `digits_wide_mlp`, where the table is: queries, keys, values and the network
    are hidden weights, embeddings and the norms' scales are of the input's kind, the head is the output. Beside them
    the attention's logits fall as 1 / d instead of 1 / √d, for heads of d = width / heads numbers; both are the same
    at ``base_width``.

    Arguments:
        width: Of the embeddings; a multiple of ``heads``.
        depth: Blocks, at least 1.
        heads: Of attention, at least 1; their number stays where widths are compared.
        context: Characters seen at once, each of which is predicted from those before it; at least 1.
        batch_size: Windows per step; `None`: all (over 10,000 at the default context).
        parametrization: ``"standard"`` or ``"mup"``.
        base_width: The width at which both are the same network, at least 1.
        held_out_length: Characters of validation and of test, more than ``context``.
        seed: Of the draw of what is held out.

    Raises:
        ValueError: for an argument out of range.

    Paper: Tensor Programs V: Tuning Large Neural Networks via Zero-Shot Hyperparameter Transfer (2203.03466).
    """
    in_range("depth", depth, 1)
    in_range("heads", heads, 1)
    in_range("context", context, 1)
    if width % heads:
        raise ValueError(f"width: expected a multiple of heads = {heads}, got {width}")
    growth = growth_of(parametrization, width, base_width)
    train, *others = manual_text(seed)
    in_range("held_out_length", held_out_length, context + 1, min(map(len, others)))
    parts = {
        name: windows(text[:held_out_length], context)
        for name, text in zip(("validation", "test"), others, strict=True)
    }
    build = eqx.Partial(_text_transformer, width, depth, heads, context, growth)
    blank = Composite.of_model(build, _next_character, windows(train, context), batch_size=batch_size)
    # The loss on all the training text would cost far more than the steps between two recordings of it.
    return eqx.tree_at(lambda p: p.probes, blank, held_out(parts, {"loss": (blank.loss, "min")}))


def _text_transformer(
    width: int, depth: int, heads: int, context: int, growth: float, key: PRNGKeyArray
) -> TextTransformer:
    return TextTransformer(width, depth, heads, context, growth, key=key)


def _next_character(logits: Float[Array, "n context characters"], batch: tuple[Tokens, Tokens]) -> Float[Array, ""]:
    return optax.softmax_cross_entropy_with_integer_labels(logits, batch[1]).mean()
