"""Attention without softmax on regression in context: the least model that trains like a Transformer."""

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray

from attractor.checks import Scalar, in_range


class LinearTransformer(eqx.Module):
    r"""Layers of linear attention, each $Z \leftarrow Z + \frac1n P\, Z M\, (Z^\top Q Z)$.

    Columns of Z are tokens $(x_i, y_i)$, the last one the query $(x, 0)$; $M = \operatorname{diag}(1, \dots, 1, 0)$
    lets nothing attend to the query. The prediction is minus the last entry of the last column.

    Arguments:
        values: P, one for each layer.
        scores: Q, one for each layer, keys and queries in one.

    Raises:
        ValueError: if the shapes differ.

    Paper: Linear attention is (maybe) all you need (to understand transformer optimization).
    """

    values: Float[Array, "layers d d"]
    scores: Float[Array, "layers d d"]

    def __check_init__(self) -> None:
        if self.values.shape != self.scores.shape:
            raise ValueError(f"scores: expected the shape {self.values.shape} of values, got {self.scores.shape}")

    @classmethod
    def random(cls, layers: int, dim: int, *, key: PRNGKeyArray, scale: Scalar = 0.1) -> "LinearTransformer":
        """Normal weights.

        Arguments:
            layers: At least 1.
            dim: Of the inputs; tokens have one more.
            key: Of the weights.
            scale: Their standard deviation.

        Raises:
            ValueError: if ``layers`` or ``dim`` is below 1.
        """
        in_range("layers", layers, 1.0)
        in_range("dim", dim, 1.0)
        return cls(*scale * jr.normal(key, (2, layers, dim + 1, dim + 1)))

    def __call__(self, tokens: Float[Array, "d tokens"]) -> Float[Array, ""]:
        """The prediction for the last token.

        Arguments:
            tokens: Z.
        """
        n = tokens.shape[1] - 1
        for value, score in zip(self.values, self.scores, strict=True):
            seen = tokens[:, :-1]
            # (Z M Z') is d x d: no matrix of all pairs of tokens is formed.
            tokens = tokens + value @ (seen @ seen.T / n) @ score @ tokens
        return -tokens[-1, -1]


def in_context_regression(
    key: PRNGKeyArray, batch: int, dim: int, examples: int, *, tail: Scalar | None = None
) -> tuple[Float[Array, "batch d tokens"], Float[Array, " batch"]]:
    r"""Random linear regressions as sequences $(x_1, w^\top x_1), \dots, (x, 0)$ and their answers $w^\top x$.

    Arguments:
        key: Of weights and inputs, both standard normal.
        batch: How many.
        dim: Of the inputs.
        examples: n, before the query.
        tail: With a number a in (0, inf), the squared lengths of the inputs are Gamma distributed with shape a and mean
            ``dim`` instead: the smaller, the heavier their tail.

    Raises:
        ValueError: if a count is below 1, or ``tail`` is not positive.

    Paper: Linear attention is (maybe) all you need (to understand transformer optimization).
    """
    for name, count in (("batch", batch), ("dim", dim), ("examples", examples)):
        in_range(name, count, 1.0)
    keys = jr.split(key, 3)
    weights, inputs = jr.normal(keys[0], (batch, dim)), jr.normal(keys[1], (batch, examples + 1, dim))
    if tail is not None:
        in_range("tail", tail, 0.0, open_low=True)
        lengths = jnp.sqrt(jr.gamma(keys[2], tail, (batch, examples + 1, 1)) * dim / tail)
        inputs = inputs / jnp.linalg.norm(inputs, axis=-1, keepdims=True) * lengths
    answers = jnp.einsum("bnd,bd->bn", inputs, weights)
    shown = answers.at[:, -1].set(0)
    return jnp.concatenate([inputs, shown[..., None]], -1).mT, answers[:, -1]
