"""What a Fourier neural operator is compared with: networks of its size without global convolutions."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray

from attractor.operators.fourier import FNO


class LocalConv(eqx.Module):
    """Circular convolution on one axis with a kernel of a few neighboring points, by its Fourier transform.

    Arguments:
        n_in: Channels of the input.
        n_out: Channels of the output.
        points: Grid points of the kernel, on whatever grid.
        key: Draws the kernel, normal with variance 1 / (n_in · points).
    """

    weight: Float[Array, "n_out n_in points"]

    def __init__(self, n_in: int, n_out: int, points: int, *, key: PRNGKeyArray):
        self.weight = jr.normal(key, (n_out, n_in, points)) / (n_in * points) ** 0.5

    def __call__(self, v: Float[Array, "n_in n"]) -> Float[Array, "n_out n"]:
        n = v.shape[1]
        return jnp.fft.irfft(jnp.einsum("oik,ik->ok", jnp.fft.rfft(self.weight, n), jnp.fft.rfft(v)), n)


def pointwise_network(model: FNO) -> FNO:
    """The operator without its convolutions: every grid point on its own."""
    return eqx.tree_at(lambda m: m.layers.kernel, model, eqx.nn.Lambda(jnp.zeros_like))


def convolutional_network(model: FNO, *, key: PRNGKeyArray) -> FNO:
    """A one-dimensional operator with `LocalConv` for its Fourier convolutions, of as many parameters each.

    Arguments:
        model: Gives the sizes, and all other parameters; not changed.
        key: Draws the kernels.
    """
    depth, _, width, _, modes = model.layers.kernel.weight.shape  # pyright: ignore[reportFunctionMemberAccess]
    kernel = jax.vmap(lambda key: LocalConv(width, width, 2 * modes, key=key))(jr.split(key, depth))
    return eqx.tree_at(lambda m: m.layers.kernel, model, kernel)


def dense_network(model: FNO, points: int, *, key: PRNGKeyArray) -> eqx.nn.Sequential:
    """A network with two hidden layers on the values at all points of one grid, of as many parameters as a model.

    Arguments:
        model: Gives the number of parameters.
        points: Of the grid.
        key: Draws the parameters.
    """
    size = sum(leaf.size for leaf in jax.tree.leaves(eqx.filter(model, eqx.is_inexact_array)))
    hidden = round((points**2 + size) ** 0.5 - points)  # h² + 2·points·h parameters, but for biases
    dense = eqx.nn.MLP(points, points, hidden, 2, jax.nn.gelu, key=key)
    return eqx.nn.Sequential([eqx.nn.Lambda(jnp.ravel), dense, eqx.nn.Lambda(lambda u: u[None])])
