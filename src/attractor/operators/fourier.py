"""Fourier neural operators: layers that act on the low Fourier modes of a function, whatever grid it is sampled on."""

import math
from collections.abc import Callable, Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray

from attractor.checks import in_range
from attractor.registry import part


class SpectralConv(eqx.Module):
    r"""Circular convolution with a trained, band-limited kernel, on any number of periodic axes.

    $$
    (Kv)_o(x) = \sum_{|k_j| < m_j} \sum_i R_{oi}(k)\, \hat v_i(k)\, e^{2\pi\mathrm{i}\,k\cdot x}
    = \sum_i \int \kappa_{oi}(x - y)\, v_i(y)\, dy
    $$

    where $\hat v(k)$ are the Fourier coefficients of v on the unit torus (the discrete transform divided by the
    number of points), so that one R serves every grid. Modes with ``-m_j`` are kept too on all axes but the last,
    where the output is real by construction.

    Arguments:
        n_in: Channels of the input.
        n_out: Channels of the output.
        modes: Frequencies kept per axis, each at least 1; an integer is one axis.
        key: Draws R: real and imaginary parts uniform in ``[0, 1) / (n_in · n_out)``, as the authors do.

    Raises:
        ValueError: for an argument out of range; when called, for an input whose grid cannot hold the modes.

    Paper: Fourier Neural Operator for Parametric Partial Differential Equations.
    """

    weight: Float[Array, "2 n_out n_in *modes"]  # real and imaginary part of R: optimizers see real numbers only
    modes: tuple[int, ...] = eqx.field(static=True)

    def __init__(self, n_in: int, n_out: int, modes: int | Sequence[int], *, key: PRNGKeyArray):
        for name, count in (("n_in", n_in), ("n_out", n_out)):
            in_range(name, count, 1)
        self.modes = _modes(modes)
        *others, last = self.modes
        shape = (2, n_out, n_in, *(2 * m for m in others), last)
        flat = jr.uniform(key, (math.prod(shape),))  # drawn flat, which compiles many times faster
        self.weight = flat.reshape(shape) / (n_in * n_out)

    def __call__(self, v: Float[Array, "n_in *grid"]) -> Float[Array, "n_out *grid"]:
        grid, axes = v.shape[1:], tuple(range(1, v.ndim))
        if len(grid) != len(self.modes) or any(n < 2 * m for n, m in zip(grid, self.modes, strict=True)):
            needed = ", ".join(str(2 * m) for m in self.modes)
            raise ValueError(f"v: expected a grid of at least ({needed}) points for modes {self.modes}, got {grid}")
        *others, last = self.modes
        low = jnp.ix_(*(jnp.r_[0:m, -m:0] for m in others), jnp.arange(last))
        spectrum = jnp.fft.rfftn(v, axes=axes, norm="forward")
        kernel = jax.lax.complex(self.weight[0], self.weight[1])
        mixed = jnp.einsum("i...,oi...->o...", spectrum[:, *low], kernel)
        padded = jnp.zeros((len(mixed), *spectrum.shape[1:]), mixed.dtype).at[:, *low].set(mixed)
        return jnp.fft.irfftn(padded, grid, axes, norm="forward").astype(v.dtype)


class Pointwise(eqx.Module):
    """An affine map of the channels, the same at every point of the grid: ``W v + b``.

    A convolution of width one; as a matrix product it stays fast where many networks are trained side by side.

    Arguments:
        n_in: Channels of the input.
        n_out: Channels of the output.
        key: Draws W and b, uniform in ±1/√n_in.
    """

    weight: Float[Array, "n_out n_in"]
    bias: Float[Array, " n_out"]

    def __init__(self, n_in: int, n_out: int, *, key: PRNGKeyArray):
        linear = eqx.nn.Linear(n_in, n_out, key=key)
        self.weight, self.bias = linear.weight, linear.bias  # pyright: ignore[reportAttributeAccessIssue]

    def __call__(self, v: Float[Array, "n_in *grid"]) -> Float[Array, "n_out *grid"]:
        return jnp.tensordot(self.weight, v, 1) + self.bias.reshape(-1, *[1] * (v.ndim - 1))


class FourierLayer(eqx.Module):
    """The sum of a convolution and a pointwise affine map, before the nonlinearity: ``K v + W v + b``.

    Arguments:
        width: Channels.
        modes: Frequencies kept per axis.
        key: Draws the parameters.
    """

    kernel: Callable[[Array], Array]
    pointwise: Pointwise

    def __init__(self, width: int, modes: int | Sequence[int], *, key: PRNGKeyArray):
        for_kernel, for_pointwise = jr.split(key)
        self.kernel = SpectralConv(width, width, modes, key=for_kernel)
        self.pointwise = Pointwise(width, width, key=for_pointwise)

    def __call__(self, v: Float[Array, "width *grid"]) -> Float[Array, "width *grid"]:
        return self.kernel(v) + self.pointwise(v)


class FNO(eqx.Module):
    r"""Fourier neural operator: an input function on a periodic grid to an output function on the same grid.

    $$ v_0 = P(a(x), x), \quad v_{l+1} = \sigma(K_l v_l + W_l v_l + b_l), \quad u = Q(v_L) $$

    with a pointwise affine map P, `FourierLayer`s, and a pointwise network Q with one hidden layer. The parameters do
    not know the grid: a model trained on one is evaluated on another as it is. The activation is GELU by default, as
    in the authors' code (their text has ReLU), and follows every layer, as in their text (their code omits the last).

    Arguments:
        n_in: Channels of the input function.
        n_out: Channels of the output function.
        modes: Frequencies kept per axis; an integer is one axis.
        width: Channels of the hidden functions.
        depth: Number of Fourier layers L.
        hidden: Hidden units of Q.
        activation: The nonlinearity σ.
        key: Draws the parameters.

    Raises:
        ValueError: for an argument out of range; when called, for a grid that cannot hold the modes.

    Paper: Fourier Neural Operator for Parametric Partial Differential Equations.
    """

    lift: Pointwise
    layers: FourierLayer  # all of them: its arrays have a leading axis of length depth, so that one is compiled
    project: tuple[Pointwise, Pointwise]
    activation: Callable[[Array], Array] = eqx.field(static=True)

    def __init__(
        self,
        n_in: int = 1,
        n_out: int = 1,
        modes: int | Sequence[int] = 16,
        width: int = 64,
        depth: int = 4,
        hidden: int = 128,
        *,
        activation: Callable[[Array], Array] = jax.nn.gelu,
        key: PRNGKeyArray,
    ):
        for name, count in (
            ("n_in", n_in), ("n_out", n_out), ("width", width), ("depth", depth), ("hidden", hidden)
        ):  # fmt: skip
            in_range(name, count, 1)
        dim = len(_modes(modes))
        for_lift, for_layers, into, out = jr.split(key, 4)
        self.lift = Pointwise(n_in + dim, width, key=for_lift)
        self.layers = jax.lax.map(lambda k: FourierLayer(width, modes, key=k), jr.split(for_layers, depth))
        self.project = Pointwise(width, hidden, key=into), Pointwise(hidden, n_out, key=out)
        self.activation = activation

    def __call__(self, a: Float[Array, "n_in *grid"]) -> Float[Array, "n_out *grid"]:
        x = jnp.stack(jnp.meshgrid(*(jnp.arange(n) / n for n in a.shape[1:]), indexing="ij"))
        arrays, static = eqx.partition(self.layers, eqx.is_array)

        def layer(v: Array, arrays: FourierLayer) -> tuple[Array, None]:
            return self.activation(eqx.combine(arrays, static)(v)), None

        v, _ = jax.lax.scan(layer, self.lift(jnp.concatenate([a, x.astype(a.dtype)])), arrays)
        into, out = self.project
        return out(self.activation(into(v)))


def _modes(modes: int | Sequence[int]) -> tuple[int, ...]:
    kept = (modes,) if isinstance(modes, int) else tuple(modes)
    if not kept or any(m < 1 for m in kept):
        raise ValueError(f"modes: expected whole numbers >= 1, one per axis, got {modes!r}")
    return kept


def _wave(channels: int, n: int) -> Float[Array, "channels n"]:
    """Band-limited, and without symmetry."""
    x = 2 * jnp.pi * jnp.arange(n) / n
    return jnp.stack([jnp.cos(x + c) + 0.5 * jnp.sin(2 * x) + 0.3 for c in range(channels)])


part("operator", "spectral-conv", example=lambda: (SpectralConv(2, 3, 4, key=jr.key(0)), eqx.Partial(_wave, 2)))(
    SpectralConv
)
part(
    "operator",
    "fno",
    example=lambda: (FNO(1, 2, modes=4, width=5, depth=2, hidden=6, key=jr.key(0)), eqx.Partial(_wave, 1)),
)(FNO)
