"""Convolutional networks that correct an image."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray

from attractor.checks import in_range
from attractor.registry import part


class ResidualConvNet(eqx.Module):
    """An image plus a correction: 3 x 3 convolutions with ReLU between them, the last of which starts at zero.

    Arguments:
        width: Channels inside.
        depth: Convolutions, at least 2; a pixel of the result sees as many pixels far.
        key: Of the weights.

    Raises:
        ValueError: for an argument out of range.
    """

    convolutions: list[eqx.nn.Conv2d]

    def __init__(self, width: int = 12, depth: int = 5, *, key: PRNGKeyArray):
        in_range("width", width, 1)
        in_range("depth", depth, 2)
        channels = [1, *[width] * (depth - 1), 1]
        *body, last = [
            eqx.nn.Conv2d(given, made, 3, padding=1, key=k)
            for given, made, k in zip(channels[:-1], channels[1:], jr.split(key, depth), strict=True)
        ]
        self.convolutions = [*body, jax.tree.map(jnp.zeros_like, last)]

    def __call__(self, image: Float[Array, "height width"]) -> Float[Array, "height width"]:
        x = image[None]
        for convolution in self.convolutions[:-1]:
            x = jax.nn.relu(convolution(x))
        return image + self.convolutions[-1](x)[0]


def _example() -> tuple[ResidualConvNet, tuple[Array]]:
    """With a last convolution that does something."""
    net = ResidualConvNet(3, 3, key=jr.key(0))
    last = jax.tree.map(lambda a: jnp.full_like(a, 0.1), net.convolutions[-1])
    return eqx.tree_at(lambda n: n.convolutions[-1], net, last), (jr.normal(jr.key(1), (5, 6)),)


part("layer", "residual-conv-net", example=_example)(ResidualConvNet)
