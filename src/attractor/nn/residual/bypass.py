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


def _example() -> tuple[BypassNetwork, tuple[Array]]:
    return BypassNetwork(3, 2, 4, key=jr.key(0)), (jr.normal(jr.key(1), (3,)),)


part("layer", "bypass-network", example=_example)(BypassNetwork)
