"""Small convolutional networks on images that ship with a package."""

import equinox as eqx
import jax
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray

from attractor.checks import in_range
from attractor.objectives import Composite
from attractor.problems.digits import classifier
from attractor.registry import problem


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
