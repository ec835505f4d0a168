"""Dense networks whose output layer sees the inputs, too."""

from collections.abc import Callable

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray

from attractor.checks import in_range
from attractor.registry import part


class BypassNetwork(eqx.Module):
    r"""One hidden layer, and weights that lead around it: $y = V (x, \sigma(W x + b)) + c$.

    With $\sigma$'s share of V at zero it is a linear fit, so that training starts from that one.

    Arguments:
        inputs: Length of x, at least 1.
        outputs: Length of y, at least 1.
        width: Hidden units, at least 1.
        activation: $\sigma$.
        use_bias: Whether there are b and c.
        key: Of the weights.

    Raises:
        ValueError: for an argument out of range.
    """

    hidden: eqx.nn.Linear
    output: eqx.nn.Linear
    activation: Callable[[Array], Array]

    def __init__(
        self,
        inputs: int,
        outputs: int,
        width: int,
        activation: Callable[[Array], Array] = jnp.tanh,
        use_bias: bool = True,
        *,
        key: PRNGKeyArray,
    ):
        for name, size in (("inputs", inputs), ("outputs", outputs), ("width", width)):
            in_range(name, size, 1)
        for_hidden, for_output = jr.split(key)
        self.hidden = eqx.nn.Linear(inputs, width, use_bias, key=for_hidden)
        self.output = eqx.nn.Linear(inputs + width, outputs, use_bias, key=for_output)
        self.activation = activation

    def __call__(self, x: Float[Array, " inputs"]) -> Float[Array, " outputs"]:
        return self.output(jnp.concatenate([x, self.activation(self.hidden(x))]))


def net_control(
    layer: eqx.nn.Linear, inputs: Float[Array, "p n"], mean: float = 0.5, deviation: float = 1.0
) -> eqx.nn.Linear:
    """A hidden layer rescaled so that every unit's input has a given mean and standard deviation over the data.

    Whatever the units of the inputs, all hidden units then start where their activation bends.

    Arguments:
        layer: With a bias.
        inputs: One a row, more than one.
        mean: Of the units' inputs.
        deviation: Of the units' inputs, in (0, inf).

    Raises:
        ValueError: for a ``deviation`` out of range, or a layer without bias.
    """
    in_range("deviation", deviation, 0.0, open_low=True)
    if layer.bias is None:
        raise ValueError("layer: expected one with a bias, which sets the mean")
    seen = inputs @ layer.weight.T
    scale = deviation / seen.std(0)
    weight, bias = layer.weight * scale[:, None], mean - scale * seen.mean(0)
    return eqx.tree_at(lambda n: (n.weight, n.bias), layer, (weight, bias))


def _example() -> tuple[BypassNetwork, tuple[Array]]:
    return BypassNetwork(3, 2, 4, key=jr.key(0)), (jr.normal(jr.key(1), (3,)),)


part("layer", "bypass-network", example=_example)(BypassNetwork)
