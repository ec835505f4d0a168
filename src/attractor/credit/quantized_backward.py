"""Activations that keep a few bits per number for the backward pass: derivatives as step functions."""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float, PyTree, UInt8

from attractor.checks import in_range
from attractor.credit.layered import Activation


class Steps(NamedTuple):
    """A step function: ``values[i]`` between ``edges[i - 1]`` and ``edges[i]``; see `step_approximation`."""

    edges: Float[np.ndarray, " levels-1"]
    values: Float[np.ndarray, " levels"]
    error: float  # the root mean square error over the interval

    def __call__(self, x: Array) -> Array:
        return jnp.asarray(self.values)[jnp.searchsorted(jnp.asarray(self.edges), x)]


def step_approximation(
    f: Callable[[Array], Array],
    levels: int,
    low: float = -8.0,
    high: float = 8.0,
    points: int = 1_000,
    placing: str = "optimal",
) -> Steps:
    r"""The step function with so many values that is nearest to a function, by dynamic programming.

    It minimizes $\sum_j (f(x_j) - q(x_j))^2$ over step functions q with jumps halfway between points of an even grid:
    $T_{i,k} = \min_{l < i} T_{l,k-1} + c(l, i)$ with c the squared error of the mean of f from point l to point i.

    Arguments:
        f: Of an array, elementwise, such as the derivative of an activation.
        levels: How many values, at least 1 and at most ``points``.
        low: Begin of the interval; below it, q has its first value.
        high: End of the interval, above ``low``.
        points: Of the grid, at least 2.
        placing: ``"optimal"``; ``"uniform"`` for steps of equal width, ``"quantile"`` for those over which f varies
            equally much.

    Raises:
        ValueError: if an argument is out of range.

    Paper: Few-Bit Backward: Quantized Gradients of Activation Functions for Memory Footprint Reduction.
    """
    in_range("points", points, 2)
    in_range("levels", levels, 1, points)
    if not -math.inf < low < high < math.inf:
        raise ValueError(f"low, high: expected finite low < high, got {low}, {high}")
    with jax.ensure_compile_time_eval():
        x = np.linspace(low, high, points)
        y = np.asarray(f(jnp.asarray(x, jnp.float32)), float)
    if not np.isfinite(y).all():
        raise ValueError(f"f: expected finite values between {low:g} and {high:g}, got others; choose another interval")
    sums, squares = (np.concatenate([[0.0], np.cumsum(v)]) for v in (y, y * y))
    if placing == "optimal":
        ends = _best_ends(sums, squares, levels)
    elif placing == "uniform":
        ends = np.round(np.linspace(0, points, levels + 1)).astype(int)[1:]
    elif placing == "quantile":
        path = np.concatenate([[0.0], np.cumsum(np.abs(np.diff(y)))])
        inner = np.searchsorted(path, path[-1] * np.arange(1, levels) / levels)
        ends = np.append(np.clip(inner, np.arange(1, levels), points - levels + np.arange(1, levels)), points)
    else:
        raise ValueError(f"placing: expected 'optimal', 'uniform' or 'quantile', got {placing!r}")
    starts = np.concatenate([[0], ends[:-1]])
    counts = np.maximum(ends - starts, 1)
    values = (sums[ends] - sums[starts]) / counts
    error = max((squares[-1] - (values**2 * (ends - starts)).sum()) / points, 0.0) ** 0.5
    return Steps((x[ends[:-1] - 1] + x[ends[:-1]]) / 2, values, error)


def _best_ends(sums: np.ndarray, squares: np.ndarray, levels: int) -> np.ndarray:
    """Where each of the steps ends, as numbers of points."""
    n = len(sums) - 1
    begin, end = np.arange(n)[:, None], np.arange(1, n + 1)[None]
    with np.errstate(invalid="ignore", divide="ignore"):
        cost = squares[end] - squares[begin] - (sums[end] - sums[begin]) ** 2 / (end - begin)
    cost = np.where(begin < end, cost, np.inf)
    best, chosen = cost[0], []  # of the first i + 1 points with one step
    for _ in range(levels - 1):
        total = np.concatenate([[np.inf], best[:-1]])[:, None] + cost
        chosen.append(total.argmin(0))
        best = total.min(0)
    ends = [n]
    for begins in reversed(chosen):
        ends.append(int(begins[ends[-1] - 1]))
    return np.array(ends[::-1])


def pack(codes: Array, bits: int) -> UInt8[Array, " bytes"]:
    """Numbers below 2 to the power of ``bits`` in ⌈size · bits / 8⌉ bytes."""
    each = (codes.ravel()[:, None] >> jnp.arange(bits, dtype=codes.dtype)) & 1
    return jnp.packbits(each.astype(jnp.uint8).ravel())


def unpack(packed: UInt8[Array, " bytes"], bits: int, shape: tuple[int, ...]) -> Array:
    """What `pack` has packed."""
    each = jnp.unpackbits(packed, count=math.prod(shape) * bits).reshape(-1, bits)
    return (each << jnp.arange(bits, dtype=jnp.uint8)).sum(1, dtype=jnp.uint8).reshape(shape)


def few_bit(
    activation: Activation, bits: int = 3, low: float = -8.0, high: float = 8.0, placing: str = "optimal"
) -> Activation:
    r"""The activation, whose backward pass needs ``bits`` per number instead of its input.

    Forward $f(x)$; stored is the step i that x is in; backward $g\, y_i$ with the values y of `step_approximation` of
    $f'$ with $2^\text{bits}$ steps.

    Arguments:
        activation: f, elementwise.
        bits: Per number, 1 to 8.
        low: Begin of the interval on which $f'$ is approximated.
        high: End of it, above ``low``.
        placing: As in `step_approximation`.

    Raises:
        ValueError: if an argument is out of range.

    Paper: Few-Bit Backward: Quantized Gradients of Activation Functions for Memory Footprint Reduction. Its interval
    and weight are not known to us; ours is even, from -8 to 8.
    """
    in_range("bits", bits, 1, 8)
    slope = jax.vmap(jax.grad(lambda x: activation(x)))
    steps = step_approximation(slope, 2**bits, low, high, placing=placing)
    return functools.partial(_few_bit, activation, bits, tuple(steps.edges.tolist()), tuple(steps.values.tolist()))


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1, 2, 3))
def _few_bit(activation: Activation, bits: int, edges: tuple[float, ...], values: tuple[float, ...], x: Array) -> Array:
    return activation(x)


def _few_bit_forward(
    activation: Activation, bits: int, edges: tuple[float, ...], values: tuple[float, ...], x: Array
) -> tuple[Array, Array]:
    codes = jnp.searchsorted(jnp.asarray(edges, x.dtype), x).astype(jnp.uint8)
    return activation(x), pack(codes, bits)


def _few_bit_backward(
    activation: Activation, bits: int, edges: tuple[float, ...], values: tuple[float, ...], packed: Array, g: Array
) -> tuple[Array]:
    return (g * jnp.asarray(values, g.dtype)[unpack(packed, bits, g.shape)],)


_few_bit.defvjp(_few_bit_forward, _few_bit_backward)


def stored_bytes(f: Callable[..., Any], *arguments: PyTree) -> int:
    """How many bytes the backward pass of ``f(*arguments)`` keeps of the forward pass, its arguments left out.

    Counted from what `jax.vjp` returns, each array once, without running it.

    Arguments:
        f: What is to be differentiated.
        *arguments: Arrays or their shapes (`jax.ShapeDtypeStruct`).
    """

    def kept(*given: PyTree) -> list[Array]:
        outside = {id(leaf) for leaf in jax.tree.leaves(given)}
        found = {id(a): a for a in jax.tree.leaves(jax.vjp(f, *given)[1]) if isinstance(a, Tracer)}
        return [a for name, a in found.items() if name not in outside]

    return sum(a.size * a.dtype.itemsize for a in jax.eval_shape(kept, *arguments))
