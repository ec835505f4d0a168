"""Attention that remembers little: keys and values from one short vector per position."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray

from attractor.checks import in_range
from attractor.registry import part


class LatentAttention(eqx.Module):
    r"""Causal self-attention whose keys and values are linear in one latent vector $c_t = W_c x_t$ per position.

    $$
    o_t = W_o \sum_{s \le t} a_{ts} W_v c_s, \qquad
    a_{ts} \propto \exp\bigl(\langle W_q x_t, W_k c_s \rangle / \sqrt{\text{width} / \text{heads}}\bigr)
    $$

    in each head. Decoding keeps the latents alone: ``latent`` numbers per position, where multi-head attention keeps
    ``2 * width`` of keys and values. Positions are to be told by the inputs (there is no rotary part).

    Arguments:
        heads: Number of heads, at least 1.
        width: Of inputs and outputs, a multiple of ``heads``.
        latent: Length of c, at least 1.
        key: Of the weights, normal with standard deviation ``fan_in ** -0.5``.

    Raises:
        ValueError: for an argument out of range, or a ``width`` that is no multiple of ``heads``.

    Paper: DeepSeek-V2: A Strong, Economical, and Efficient Mixture-of-Experts Language Model (arXiv:2405.04434).
    """

    query: Float[Array, "width width"]
    compress: Float[Array, "latent width"]
    keys: Float[Array, "width latent"]
    values: Float[Array, "width latent"]
    output: Float[Array, "width width"]
    heads: int = eqx.field(static=True)

    def __init__(self, heads: int, width: int, latent: int, *, key: PRNGKeyArray):
        in_range("heads", heads, 1)
        in_range("width", width, 1)
        in_range("latent", latent, 1)
        if width % heads:
            raise ValueError(f"width: expected a multiple of heads = {heads}, got {width}")
        shapes = (width, width), (latent, width), (width, latent), (width, latent), (width, width)
        weights = [jr.normal(k, shape) / shape[1] ** 0.5 for k, shape in zip(jr.split(key, 5), shapes, strict=True)]
        self.query, self.compress, self.keys, self.values, self.output = weights
        self.heads = heads

    def latents(self, x: Float[Array, "n width"]) -> Float[Array, "n latent"]:
        """What is kept of the positions."""
        return x @ self.compress.T

    def attend(self, x: Float[Array, "m width"], latents: Float[Array, "n latent"]) -> Float[Array, "m width"]:
        """The outputs of the last m of n positions, given what was kept of all."""
        q, k, v = x @ self.query.T, latents @ self.keys.T, latents @ self.values.T
        q, k, v = (a.reshape(len(a), self.heads, -1) for a in (q, k, v))
        scores = jnp.einsum("thd,shd->hts", q, k) / q.shape[-1] ** 0.5
        seen = jnp.tril(jnp.ones(scores.shape[1:], bool), len(latents) - len(x))
        weights = jax.nn.softmax(jnp.where(seen, scores, -jnp.inf))
        return jnp.einsum("hts,shd->thd", weights, v).reshape(x.shape) @ self.output.T

    def __call__(self, x: Float[Array, "n width"]) -> Float[Array, "n width"]:
        return self.attend(x, self.latents(x))


part(
    "layer",
    "latent-attention",
    example=lambda: (LatentAttention(2, 4, 3, key=jr.key(0)), (jr.normal(jr.key(1), (5, 4)),)),
)(LatentAttention)
