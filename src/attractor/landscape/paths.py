"""The loss along lines and planes, barriers between solutions, and training in random subspaces."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from attractor.checks import in_range
from attractor.trees import as_vector

Loss = Callable[[PyTree], Float[Array, ""]]


def loss_slice(
    loss: Loss, params: PyTree, directions: tuple[PyTree, ...], *offsets: Float[Array, " _"]
) -> Float[Array, "..."]:
    r"""The loss on a line or a plane, $L(\theta + \sum_i a_i d_i)$, for every combination of offsets.

    Arguments:
        loss: Scalar function of the parameters.
        params: $\theta$.
        directions: One, two or more pytrees like it; `filter_normalized` makes comparable ones.
        *offsets: The $a_i$, an array for each direction.

    Returns:
        An axis for each direction.

    Raises:
        ValueError: if there are not as many arrays as directions, or none.
    """
    if not directions or len(directions) != len(offsets):
        raise ValueError(f"offsets: expected one array per direction, got {len(offsets)} for {len(directions)}")

    def at(shifts: Array) -> Array:
        moved = params
        for shift, direction in zip(shifts, directions, strict=True):
            moved = jax.tree.map(lambda p, d, a=shift: (p + a * d).astype(p.dtype), moved, direction)
        return loss(moved)

    grid = jnp.stack([g.ravel() for g in jnp.meshgrid(*offsets, indexing="ij")], 1)
    return jax.lax.map(at, grid).reshape([len(o) for o in offsets])


def filter_normalized(params: PyTree, key: PRNGKeyArray) -> PyTree:
    """A random direction whose rows have the lengths of the parameters' rows; vectors and scalars do not move.

    Slices along it can be compared between networks whose layers are scaled differently (Li et al. 2018, 1712.09913).

    Arguments:
        params: Pytree of arrays whose first axis counts filters or output units, as in Equinox and PyTorch.
        key: Of the normal entries.
    """

    def scaled(p: Array, d: Array) -> Array:
        if p.ndim < 2:
            return jnp.zeros_like(p)
        axes = tuple(range(1, p.ndim))
        sizes = [jnp.sqrt(jnp.sum(a**2, axes, keepdims=True)) for a in (p, d)]
        return d * sizes[0] / jnp.where(sizes[1] > 0, sizes[1], 1)

    return jax.tree.map(scaled, params, optax.tree.random_like(key, params))


class Barrier(NamedTuple):
    """The loss on the segment between two points.

    Attributes:
        height: Largest excess over the straight line between the losses of the ends; 0 where they are connected.
        losses: On the segment, ends included.
    """

    height: Float[Array, ""]
    losses: Float[Array, " n"]


def linear_barrier(loss: Loss, a: PyTree, b: PyTree, points: int = 21) -> Barrier:
    """The barrier between two solutions on a straight line (Frankle et al. 2020, 1912.05671).

    Units may be permuted between networks that compute the same: see `attractor.landscape.match_units`.

    Arguments:
        loss: Scalar function of the parameters.
        a: One solution.
        b: The other, of the same structure.
        points: On the segment, at least 3.

    Raises:
        ValueError: if ``points < 3``.
    """
    in_range("points", points, 3.0)
    at = jnp.linspace(0.0, 1.0, points)
    losses = loss_slice(loss, a, (jax.tree.map(jnp.subtract, b, a),), at)
    return Barrier(jnp.max(losses - ((1 - at) * losses[0] + at * losses[-1])), losses)


def random_subspace(params: PyTree, dimension: int, key: PRNGKeyArray) -> Callable[[Float[Array, " d"]], PyTree]:
    r"""An affine map $z \mapsto \theta_0 + P z$ into the parameters, with orthonormal columns P drawn at random.

    Training z alone shows how many dimensions a task needs: the intrinsic dimension is the least d at which nine tenths
    of the full performance are reached. P has p d numbers.

    Arguments:
        params: $\theta_0$, p numbers in all.
        dimension: d, 1 … p.
        key: Of P.

    Raises:
        ValueError: if ``dimension`` is out of range.

    Paper: Measuring the Intrinsic Dimension of Objective Landscapes.
    """
    flat, restore = as_vector(params)
    in_range("dimension", dimension, 1.0, float(flat.size))
    columns = jnp.linalg.qr(jr.normal(key, (flat.size, dimension), flat.dtype))[0]
    return lambda z: restore(flat + columns @ z)


def intrinsic_dimension(
    dimensions: Sequence[float] | Float[np.ndarray, " n"],
    scores: Sequence[float] | Float[np.ndarray, "... n"],
    full: float | Float[np.ndarray, "..."],
    share: float = 0.9,
) -> Float[np.ndarray, "..."]:
    """Where a score, as a function of the dimension of a random subspace, first reaches a share of the full one.

    Between two tried dimensions it is interpolated, linearly over their logarithms; infinite where no dimension is
    enough, and the first one where that is enough.

    Arguments:
        dimensions: Tried in `random_subspace`, ``(n,)``, increasing, each at least 1.
        scores: Reached in each, such as accuracies, ``(…, n)``.
        full: Reached by training all parameters; broadcastable to ``(…)``.
        share: Of it, in (0, 1].

    Raises:
        ValueError: if the dimensions do not increase, or ``share`` is out of range.

    Paper: Measuring the Intrinsic Dimension of Objective Landscapes.
    """
    d, values = np.asarray(dimensions, float), np.asarray(scores, float)
    in_range("dimensions", d, 1.0)
    if (np.diff(d) <= 0).any():
        raise ValueError(f"dimensions: expected increasing ones, got {d}")
    in_range("share", share, 0.0, 1.0, open_low=True)
    short = values - share * np.asarray(full, float)[..., None]
    at = (short >= 0).argmax(-1)[..., None]
    after, before = (np.take_along_axis(short, i, -1)[..., 0] for i in (at, np.maximum(at - 1, 0)))
    with np.errstate(divide="ignore", invalid="ignore"):
        part = np.where(at[..., 0] > 0, before / (before - after), 1.0)
    logs = np.log(d)
    low, high = logs[np.maximum(at - 1, 0)[..., 0]], logs[at[..., 0]]
    return np.where((short >= 0).any(-1), np.exp(low + part * (high - low)), np.inf)
