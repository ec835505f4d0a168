"""Small convolutional networks on images that ship with a package."""

import equinox as eqx
import jax
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray

from attractor.checks import in_range
from attractor.objectives import Composite
from attractor.problems.digits import classifier
from attractor.registry import problem

GROUPS = 4  # of channels that are normalized together


class ConvNet(eqx.Module):
    """Two 3 x 3 convolutions with ReLU, each followed by 2 x 2 average pooling, then a linear layer."""

    first: eqx.nn.Conv2d
    second: eqx.nn.Conv2d
    pool: eqx.nn.AvgPool2d
    head: eqx.nn.Linear

    def __init__(self, channels: int, *, key: PRNGKeyArray):
        one, two, three = jr.split(key, 3)
        self.first = eqx.nn.Conv2d(1, channels, 3, padding=1, key=one)
        self.second = eqx.nn.Conv2d(channels, 2 * channels, 3, padding=1, key=two)
        self.pool = eqx.nn.AvgPool2d(2, 2)
        self.head = eqx.nn.Linear(8 * channels, 10, key=three)

    def __call__(self, pixels: Float[Array, "64"]) -> Float[Array, "10"]:
        x = self.pool(jax.nn.relu(self.first(pixels.reshape(1, 8, 8))))
        x = self.pool(jax.nn.relu(self.second(x)))
        return self.head(x.ravel())


@problem("digits-conv", metric="test_loss", steps=300, target=0.25)
def digits_conv(channels: int = 8, batch_size: int | None = 64, seed: int = 0) -> Composite:
    """A small convolutional network on handwritten digits; records what `digits_mlp` does.

    Arguments:
        channels: Of the first convolution; the second has twice as many.
        batch_size: Images per step; `None`: all 1,437.
        seed: Of the split, as in `digits`.
    """
    in_range("channels", channels, 1)
    return classifier(eqx.Partial(_build, channels), batch_size, seed)


def _build(channels: int, key: PRNGKeyArray) -> ConvNet:
    return ConvNet(channels, key=key)


class ResidualBlock(eqx.Module):
    """Two 3 x 3 convolutions, each of the rectified and normalized input, added to what comes in."""

    norms: tuple[eqx.nn.GroupNorm, eqx.nn.GroupNorm]
    convolutions: tuple[eqx.nn.Conv2d, eqx.nn.Conv2d]

    def __init__(self, channels: int, *, key: PRNGKeyArray):
        one, two = jr.split(key)
        self.norms = (eqx.nn.GroupNorm(GROUPS, channels), eqx.nn.GroupNorm(GROUPS, channels))
        self.convolutions = (_convolution(channels, channels, key=one), _convolution(channels, channels, key=two))

    def __call__(self, image: Float[Array, "channels height width"]) -> Float[Array, "channels height width"]:
        x = image
        for norm, convolution in zip(self.norms, self.convolutions, strict=True):
            x = convolution(jax.nn.relu(norm(x)))
        return image + x


class ResNet(eqx.Module):
    """Residual blocks at 8 x 8 pixels, as many of twice the channels at 4 x 4, and a linear layer on the means.

    Arguments:
        channels: Of the first half, a multiple of 4.
        depth: Blocks in each half, at least 1.
        key: Of the weights.
    """

    first: eqx.nn.Conv2d
    blocks: list[ResidualBlock]
    narrow: eqx.nn.Conv2d
    later: list[ResidualBlock]
    norm: eqx.nn.GroupNorm
    head: eqx.nn.Linear

    def __init__(self, channels: int, depth: int, *, key: PRNGKeyArray):
        first, narrow, head, *blocks = jr.split(key, 3 + 2 * depth)
        self.first = _convolution(1, channels, key=first)
        self.blocks = [ResidualBlock(channels, key=k) for k in blocks[:depth]]
        self.narrow = _convolution(channels, 2 * channels, stride=2, key=narrow)
        self.later = [ResidualBlock(2 * channels, key=k) for k in blocks[depth:]]
        self.norm = eqx.nn.GroupNorm(GROUPS, 2 * channels)
        self.head = eqx.nn.Linear(2 * channels, 10, key=head)

    def __call__(self, pixels: Float[Array, "64"]) -> Float[Array, "10"]:
        x = self.first(pixels.reshape(1, 8, 8))
        for block in self.blocks:
            x = block(x)
        x = self.narrow(x)
        for block in self.later:
            x = block(x)
        return self.head(jax.nn.relu(self.norm(x)).mean((1, 2)))


@problem("digits-resnet", metric="test_loss", steps=200, target=0.3)
def digits_resnet(channels: int = 8, depth: int = 1, batch_size: int | None = 32, seed: int = 0) -> Composite:
    """A residual network with group normalization on handwritten digits.

    Recorded are loss and accuracy on the validation and test images of `digits_mlp`. The default has 7,000 parameters;
    ``channels=64, depth=3`` has 1.2 million.

    Arguments:
        channels: At 8 x 8 pixels, a multiple of 4; at 4 x 4 there are twice as many.
        depth: Blocks of two convolutions at each of the two resolutions, at least 1.
        batch_size: Images per step; `None`: all 1,437.
        seed: Of the split, as in `digits`.

    Raises:
        ValueError: for an argument out of range.

    Papers: Identity Mappings in Deep Residual Networks (1603.05027), Group Normalization (1803.08494).
    """
    in_range("depth", depth, 1)
    if channels < 1 or channels % GROUPS:
        raise ValueError(f"channels: expected a positive multiple of {GROUPS}, got {channels}")
    trained = classifier(eqx.Partial(_resnet, channels, depth), batch_size, seed)
    # The loss on all the training images would cost more than the steps between two recordings of it.
    return eqx.tree_at(lambda p: p.probes, trained, {k: v for k, v in trained.probes.items() if k != "loss"})


def _resnet(channels: int, depth: int, key: PRNGKeyArray) -> ResNet:
    return ResNet(channels, depth, key=key)


def _convolution(inputs: int, outputs: int, stride: int = 1, *, key: PRNGKeyArray) -> eqx.nn.Conv2d:
    return eqx.nn.Conv2d(inputs, outputs, 3, stride, padding=1, use_bias=False, key=key)
