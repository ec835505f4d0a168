"""Convolutional networks from an image to an image: one that corrects it, one that works on several scales."""

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


class MultilevelConvNet(eqx.Module):
    """An image from an image on several scales, without biases: a positive multiple of the one gives that of the other.

    Each level is a residual block, the coarser levels on what two by two pixels average, added back, and another
    block; a block is the image plus two 3 x 3 convolutions with a ReLU after each.

    Arguments:
        width: Channels inside.
        levels: Scales, at least 1; the sides of an image are multiples of ``2 ** (levels - 1)``.
        key: Of the weights.

    Raises:
        ValueError: for an argument out of range, or an image of other sides.
    """

    first: eqx.nn.Conv2d
    blocks: list[list[tuple[eqx.nn.Conv2d, eqx.nn.Conv2d]]]
    last: eqx.nn.Conv2d

    def __init__(self, width: int = 8, levels: int = 3, *, key: PRNGKeyArray):
        in_range("width", width, 1)
        in_range("levels", levels, 1)
        keys = iter(jr.split(key, 2 + 4 * levels))

        def convolution(given: int, made: int) -> eqx.nn.Conv2d:
            return eqx.nn.Conv2d(given, made, 3, padding=1, use_bias=False, key=next(keys))

        self.first = convolution(1, width)
        self.blocks = [[(convolution(width, width), convolution(width, width)) for _ in "io"] for _ in range(levels)]
        self.last = convolution(width, 1)

    def __call__(self, image: Float[Array, "height width"]) -> Float[Array, "height width"]:
        least = 2 ** (len(self.blocks) - 1)
        if any(side % least for side in image.shape):
            raise ValueError(f"image: expected sides that are multiples of {least}, got {image.shape}; pad it, or give "
                             "the network fewer levels")  # fmt: skip
        return self.last(self._level(0, self.first(image[None])))[0]

    def _level(self, level: int, x: Float[Array, "c h w"]) -> Float[Array, "c h w"]:
        inward, outward = self.blocks[level]
        x = _residual(inward, x)
        if level + 1 < len(self.blocks):
            c, h, w = x.shape
            coarse = self._level(level + 1, x.reshape(c, h // 2, 2, w // 2, 2).mean((2, 4)))
            x = x + coarse.repeat(2, 1).repeat(2, 2)
        return _residual(outward, x)


def _residual(block: tuple[eqx.nn.Conv2d, eqx.nn.Conv2d], x: Float[Array, "c h w"]) -> Float[Array, "c h w"]:
    return x + jax.nn.relu(block[1](jax.nn.relu(block[0](x))))


def _example() -> tuple[ResidualConvNet, tuple[Array]]:
    """With a last convolution that does something."""
    net = ResidualConvNet(3, 3, key=jr.key(0))
    last = jax.tree.map(lambda a: jnp.full_like(a, 0.1), net.convolutions[-1])
    return eqx.tree_at(lambda n: n.convolutions[-1], net, last), (jr.normal(jr.key(1), (5, 6)),)


part("layer", "residual-conv-net", example=_example)(ResidualConvNet)
part("layer", "multilevel-conv-net", example=lambda: (
    MultilevelConvNet(3, 2, key=jr.key(0)), (jr.normal(jr.key(1), (4, 6)),)
))(MultilevelConvNet)  # fmt: skip
