"""A layer of small networks of which a router picks a few for each input."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray

from attractor.checks import in_range
from attractor.registry import part


class MixtureOfExperts(eqx.Module):
    r"""The gated sum of the ``top_k`` of several two-layer networks that a linear router ranks highest.

    $$
    y = \sum_{e \in T} g_e\, W_e \operatorname{gelu}(V_e x), \qquad g = \operatorname{softmax}(R x)
    \text{ over the chosen } T
    $$

    All experts are computed, and those not chosen are multiplied by 0: right for a few small ones. A program that
    sends inputs to experts would spend ``top_k`` of them.

    Arguments:
        width: Of input and output.
        hidden: Units of an expert.
        experts: How many there are.
        top_k: How many an input uses, at most ``experts``.
        key: Of the weights, normal with standard deviation ``fan_in ** -0.5``.

    Raises:
        ValueError: for an argument out of range.

    Paper: Outrageously Large Neural Networks: The Sparsely-Gated Mixture-of-Experts Layer (arXiv:1701.06538).
    """

    router: Float[Array, "experts width"]
    up: Float[Array, "experts hidden width"]
    down: Float[Array, "experts width hidden"]
    top_k: int = eqx.field(static=True)

    def __init__(self, width: int, hidden: int, experts: int = 4, top_k: int = 2, *, key: PRNGKeyArray):
        in_range("width", width, 1)
        in_range("hidden", hidden, 1)
        in_range("experts", experts, 1)
        in_range("top_k", top_k, 1, experts)
        shapes = (experts, width), (experts, hidden, width), (experts, width, hidden)
        weights = [jr.normal(k, shape) / shape[-1] ** 0.5 for k, shape in zip(jr.split(key, 3), shapes, strict=True)]
        self.router, self.up, self.down = weights
        self.top_k = top_k

    def gates(self, x: Float[Array, " width"]) -> Float[Array, " experts"]:
        """The weight of each expert: positive for the chosen, which add up to 1, and 0 for the others."""
        scores = self.router @ x
        highest, chosen = jax.lax.top_k(scores, self.top_k)
        return jnp.zeros_like(scores).at[chosen].set(jax.nn.softmax(highest))

    def __call__(self, x: Float[Array, " width"]) -> Float[Array, " width"]:
        hidden = jax.nn.gelu(self.up @ x)  # (experts, hidden)
        return jnp.einsum("e,ewh,eh->w", self.gates(x), self.down, hidden)


part(
    "layer",
    "mixture-of-experts",
    example=lambda: (MixtureOfExperts(3, 2, key=jr.key(0)), (jnp.array([0.5, -1.0, 0.2]),)),
)(MixtureOfExperts)
