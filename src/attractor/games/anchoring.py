"""Anchored iterations on sums of fields: steps drawn back to the start, with fields estimated from samples."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import jax.random as jr
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree

from attractor.checks import Scalar, in_range
from attractor.method import Method, hyper, when_due
from attractor.probe import Probe
from attractor.problem import Game, Problem, as_arrays
from attractor.registry import LogUniform, method
from attractor.trees import norm, wide_dtype


class FiniteSum(Game):
    r"""A `Game` whose field is a mean over samples, $F(z) = \frac1n \sum_i F_i(z)$; ``residual`` is of all of them.

    Arguments:
        field: ``field(z, samples) -> z-like``, the mean of these samples' fields.
        init: Starting point, as in `Game`.
        data: What the samples are: leaves ``(n, …)``.
        batch_size: How many samples a batch has, from 1 to n, drawn with replacement; `None`: about the root of n.
        **kwargs: As in `Game`.

    Raises:
        ValueError: for data without samples, or of several lengths; for a ``batch_size`` out of range.
    """

    full: PyTree
    batch_size: int

    def __init__(self, field: Callable, init: PyTree, data: PyTree, batch_size: int | None = None, **kwargs: Any):
        super().__init__(field, init, **kwargs)
        self.probes |= {"residual": Probe(_whole_residual)}
        self.full = as_arrays("data", data)
        lengths = {leaf.shape[:1] for leaf in jax.tree.leaves(self.full)}
        if len(lengths) != 1 or not next(iter(lengths)) or not next(iter(lengths))[0]:
            raise ValueError(f"data: expected leaves with one common leading axis of samples, got {sorted(lengths)}")
        n = next(iter(lengths))[0]
        self.batch_size = round(n**0.5) if batch_size is None else batch_size
        if not 1 <= self.batch_size <= n:
            raise ValueError(f"batch_size: expected 1 … {n} (the number of samples), got {batch_size}")

    @classmethod
    def example(cls, dtype: DTypeLike = jnp.float32) -> Problem:
        """Small games between two vectors, nine samples; see `Problem.example`."""
        rows = jnp.linspace(-1, 1, 36, dtype=dtype).reshape(9, 4)
        return FiniteSum(_example_field, (jnp.asarray([0.5, -0.3], dtype), jnp.asarray([0.2, 0.1], dtype)), rows)

    @property
    def samples(self) -> int:
        """n."""
        return len(jax.tree.leaves(self.full)[0])

    def sample(self, key: PRNGKeyArray) -> PyTree:
        """A batch of samples."""
        index = jr.randint(key, (self.batch_size,), 0, self.samples)
        return jax.tree.map(lambda leaf: leaf[index], self.full)


def _whole_residual(problem: FiniteSum, z: PyTree, key: PRNGKeyArray) -> Array:
    return norm(problem.field(z, problem.full))


def _example_field(z: tuple[Array, Array], rows: Float[Array, "b 4"]) -> tuple[Array, Array]:
    x, y = z
    along, across = rows[:, :2].T @ rows[:, :2] / len(rows), rows[:, :2].T @ rows[:, 2:] / len(rows)
    return along @ x + across @ y + x, along @ y - across.T @ x + y


def plane_games(key: PRNGKeyArray, samples: int, dim: int) -> tuple[FiniteSum, Float[Array, "d d"], Float[Array, " d"]]:
    r"""A mean of games, each played in a plane of its own: a pull to a point of the plane and a turn of equal strength.

    $$ F_i(z) = P_i (R P_i^\top z - b_i), \qquad R = \begin{pmatrix} 1 & -1 \\ 1 & 1 \end{pmatrix} $$

    with orthonormal $P_i$, ``(d, 2)``: each 1/2-cocoercive, so that L = 2. The planes lie mostly along few directions,
    with deviations of the coordinates from 1 down to 1/5, which makes the mean ill conditioned.

    Arguments:
        key: What is drawn.
        samples: n, at least 1.
        dim: d, at least 2.

    Returns:
        The game, and the matrix and the vector of its field, $F(z) = Mz + v$. Player one has the first half of z.

    Raises:
        ValueError: for an argument out of its range.
    """
    in_range("samples", samples, 1)
    in_range("dim", dim, 2)
    for_planes, for_targets = jr.split(key)
    planes = jnp.linalg.qr(jnp.geomspace(1.0, 0.2, dim)[:, None] * jr.normal(for_planes, (samples, dim, 2)))[0]
    start = jnp.split(jnp.zeros(dim), [dim // 2])
    game = FiniteSum(_in_planes, tuple(start), (planes, jr.normal(for_targets, (samples, 2))))
    turned = planes + jnp.stack([planes[..., 1], -planes[..., 0]], -1)
    matrix = jnp.einsum("nij,nkj->ik", turned, planes) / samples
    return game, matrix, jnp.concatenate(game.field(tuple(start), game.full))


def _in_planes(z: tuple[Array, Array], data: tuple[Array, Array]) -> tuple[Array, Array]:
    planes, targets = data
    seen = jnp.einsum("nij,i->nj", planes, jnp.concatenate(z))
    turned = seen + jnp.stack([-seen[:, 1], seen[:, 0]], 1) - targets
    first, second = jnp.split(jnp.einsum("nij,nj->i", planes, turned) / len(planes), [len(z[0])])
    return first, second


class VarianceReducedState(NamedTuple):
    """State of `VarianceReducedHalpern`."""

    steps: Int[Array, ""]
    anchor: PyTree  # where it started
    before: PyTree  # the point before
    estimate: PyTree  # of the field there
    calls: Float[Array, ""]  # how many samples' fields were taken so far


@method("variance-reduced-halpern", {"learning_rate": LogUniform(1e-2, 10.0)}, paper="vr-halpern")
class VarianceReducedHalpern(Method):
    r"""Steps drawn back to the start, with a field that is corrected by small batches and renewed now and then.

    $$
    \tilde F_k = \begin{cases} F(u_k) & \text{with probability } p_k \\
    \tilde F_{k-1} + F_B(u_k) - F_B(u_{k-1}) & \text{otherwise} \end{cases} \qquad
    u_{k+1} = \lambda_k u_0 + (1 - \lambda_k) u_k - \eta \tilde F_k, \qquad \lambda_k = \frac2{k + 4}
    $$

    with $p_0 = 1$ and $p_k = 4 / (\min(k, \sqrt n) + 5)$. Where the samples' fields are 1/L-cocoercive on average, and
    with batches of about $\sqrt n$, the expected length of the field falls as L/k at a cost of about $\sqrt n$
    samples' fields a step: $n + \sqrt n L / \epsilon$ in all. The constants are quoted from memory of the paper. Its
    second method, for fields that are Lipschitz and monotone only, is not here.

    Arguments:
        learning_rate: Step size η > 0; 1/4L in theory.
        probability: p in (0, 1], the same at all steps; `None`: the schedule above.

    Raises:
        ValueError: for an argument out of its range.

    Paper: Variance Reduced Halpern Iteration for Finite-Sum Monotone Inclusions (Cai, Alacaoglu and Diakonikolas, 2024)
    """

    learning_rate: Scalar = hyper(0.25, low=0.0, open_low=True)
    probability: Scalar | None = hyper(None, low=0.0, high=1.0, open_low=True)

    def init(self, problem: FiniteSum, x: PyTree, key: PRNGKeyArray) -> VarianceReducedState:
        anchor, before, estimate = (jax.tree.map(jnp.array, x) for _ in range(3))
        return VarianceReducedState(jnp.zeros([], jnp.int32), anchor, before, estimate, jnp.zeros([]))

    def step(
        self, problem: FiniteSum, x: PyTree, state: VarianceReducedState, key: PRNGKeyArray
    ) -> tuple[PyTree, VarianceReducedState]:
        k, n = state.steps, problem.samples
        probability = 4 / (jnp.minimum(k, n**0.5) + 5) if self.probability is None else self.probability
        whole = jr.bernoulli(jr.fold_in(key, 1), probability) | (k == 0)

        def from_batch() -> PyTree:
            batch = problem.sample(key)
            fields = problem.field(x, batch), problem.field(state.before, batch)
            return jax.tree.map(self.corrected, *fields, state.estimate)

        estimate = when_due(whole, lambda: problem.field(x, problem.full), from_batch)
        share = 2 / (k.astype(wide_dtype(x)) + 4)
        moved = jax.tree.map(
            lambda a, u, e: (share * a + (1 - share) * u - self.learning_rate * e).astype(u.dtype),
            state.anchor, x, estimate,
        )  # fmt: skip
        calls = state.calls + jnp.where(whole, n, 2 * problem.batch_size)
        return moved, VarianceReducedState(k + 1, state.anchor, x, estimate, calls)

    def corrected(self, now: Array, before: Array, estimate: Array) -> Array:
        """The recursive estimate, from a batch's fields here and at the point before, and the last estimate."""
        return estimate + now - before
