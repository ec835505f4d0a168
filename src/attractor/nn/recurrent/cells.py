"""Plain recurrent networks."""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray

from attractor.checks import in_range
from attractor.registry import part


class ElmanCell(eqx.Module):
    r"""A layer of units that see one another's last activations, $x_t = W \sigma(x_{t-1}) + U u_t + b$.

    The state is what goes into the activation, so that its Jacobian is $W \operatorname{diag} \sigma'(x_{t-1})$,
    whatever the input.

    Arguments:
        inputs: Length of u.
        width: Units.
        activation: $\sigma$, elementwise.
        radius: About the largest modulus of an eigenvalue of W, in [0, inf): its entries are independent normal
            numbers of standard deviation ``radius / sqrt(width)``, those of U have standard deviation 0.1.
        key: Of W and U; b starts at 0.

    Raises:
        ValueError: for an argument out of range.
    """

    recurrent: Float[Array, "width width"]
    input: Float[Array, "width inputs"]
    bias: Float[Array, " width"]
    activation: Callable[[Array], Array] = eqx.field(static=True)

    def __init__(
        self,
        inputs: int,
        width: int,
        activation: Callable[[Array], Array] = jnp.tanh,
        radius: float = 0.7,
        *,
        key: PRNGKeyArray,
    ):
        in_range("inputs", inputs, 1)
        in_range("width", width, 1)
        in_range("radius", radius, 0.0)
        for_recurrent, for_input = jr.split(key)
        self.recurrent = radius / width**0.5 * jr.normal(for_recurrent, (width, width))
        self.input = 0.1 * jr.normal(for_input, (width, inputs))
        self.bias = jnp.zeros(width)
        self.activation = activation

    def __call__(self, x: Float[Array, " width"], u: Float[Array, " inputs"]) -> Float[Array, " width"]:
        """The next state."""
        return self.recurrent @ self.activation(x) + self.input @ u + self.bias


def unroll(
    step: Callable[[Array, Array], Array], x: Float[Array, " width"], inputs: Float[Array, "steps ..."]
) -> Float[Array, "steps width"]:
    """The states ``step(x, u)`` goes through, without the first.

    Arguments:
        step: ``(x, u) -> x``, such as an `ElmanCell`.
        x: First state.
        inputs: One per step.
    """

    def body(x: Array, u: Array) -> tuple[Array, Array]:
        x = step(x, u)
        return x, x

    return jax.lax.scan(body, x, inputs)[1]


part(
    "layer",
    "elman-cell",
    example=lambda: (ElmanCell(2, 3, key=jr.key(0)), (jnp.array([0.5, -1.0, 0.2]), jnp.array([1.0, -0.5]))),
)(ElmanCell)
