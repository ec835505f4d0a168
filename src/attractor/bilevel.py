"""Minimization at two levels: the upper one chooses x, and pays for what the lower one then makes of it."""

from collections.abc import Callable, Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from attractor.probe import Probe
from attractor.problem import Problem, as_arrays, as_init, as_probes, with_batch
from attractor.trees import norm


class Bilevel(Problem):
    r"""Minimize $F(x, y)$ over x, where y is what a lower level chooses: a minimizer of $g(x, \cdot)$.

    The iterate is the pair ``(x, y)``. Recorded are ``value``, $\Phi(x) = F(x, y^*(x))$, and ``hypergradient``,
    $\lVert \nabla\Phi(x) \rVert$, where ``solve`` gives $y^*$; then ``upper`` $F(x, y)$, and ``lower_gradient``
    $\lVert \nabla_y g(x, y) \rVert$, or with constraints ``violation`` $\lVert c(x, y)_+ \rVert$.

    Arguments:
        upper: F, ``upper(x, y, batch) -> scalar``, or ``upper(x, y)``.
        lower: g, ``lower(x, y, batch) -> scalar``, or ``lower(x, y)``.
        init: Start, a pair ``(x, y)`` of pytrees of arrays, or a function ``key -> (x, y)``.
        data: A pair (upper, lower) such as validation and training data: pytrees whose leaves have the samples along
            the leading axis. `None`: no data at either level.
        batch_size: Samples per stochastic oracle call at each level, drawn with replacement; `None`: all.
        constraint: ``constraint(x, y) -> (m,)``, at most 0 where y is feasible at the lower level; `None`: any y is.
        project: ``project(x, y) -> (x, y)``, onto simple sets that x and y are restricted to; `None`: all is allowed.
        solve: ``solve(x) -> y``, the lower level's minimizer on the full data (the best for F among several), where it
            is known; differentiable.
        probes: Extra measurements by name.

    Raises:
        ValueError: if ``init`` is a tuple but no pair, ``data`` is no pair, the leaves of a level disagree about the
            number of samples, or ``batch_size`` is outside 1 … the smaller of both numbers.

    !!! example
        ```python
        start = jnp.zeros(2), jnp.zeros(2)
        Bilevel(lambda x, y: jnp.sum((y - 1) ** 2), lambda x, y: jnp.sum((y - 2 * x) ** 2), start)
        ```
    """

    upper: Callable[[PyTree, PyTree, PyTree], Float[Array, ""]]
    lower: Callable[[PyTree, PyTree, PyTree], Float[Array, ""]]
    init: Callable[[PRNGKeyArray], tuple[PyTree, PyTree]]
    full: tuple[PyTree, PyTree]
    batch_size: int | None = eqx.field(static=True)
    constraint: Callable[[PyTree, PyTree], Float[Array, " m"]] | None
    restrict: Callable[[PyTree, PyTree], tuple[PyTree, PyTree]] | None
    solve: Callable[[PyTree], PyTree] | None
    probes: dict[str, Probe]

    def __init__(
        self,
        upper: Callable,
        lower: Callable,
        init: PyTree,
        data: PyTree = None,
        *,
        batch_size: int | None = None,
        constraint: Callable | None = None,
        project: Callable | None = None,
        solve: Callable | None = None,
        probes: Mapping[str, Any] | None = None,
    ):
        if isinstance(init, tuple | list) and len(init) != 2:
            raise ValueError(f"init: expected a pair (x, y) of pytrees of arrays, got {len(init)} entries")
        if data is not None and not (isinstance(data, tuple | list) and len(data) == 2):
            raise ValueError(f"data: expected a pair (upper, lower) of pytrees of arrays, got {type(data).__name__}")
        self.upper, self.lower = with_batch(upper, 2), with_batch(lower, 2)
        self.init = as_init(tuple(init) if isinstance(init, list) else init)
        of_upper, of_lower = (as_arrays("data", part) for part in data or (None, None))
        self.full = of_upper, of_lower
        sizes = [{leaf.shape[:1] for leaf in jax.tree.leaves(part)} for part in self.full]
        if any(len(part) > 1 or () in part or (0,) in part for part in sizes):
            raise ValueError(f"data: every leaf of a level needs the same leading axis, not empty, got {sizes}")
        smallest = min((n for part in sizes for (n,) in part), default=None)
        if batch_size is not None and (smallest is None or not 1 <= batch_size <= smallest):
            known = f"1 … {smallest} (samples of the smaller level)" if smallest else "None, as there is no data"
            raise ValueError(f"batch_size: expected {known}, got {batch_size}")
        self.batch_size, self.constraint, self.restrict, self.solve = batch_size, constraint, project, solve
        known = {"value": Probe(_value), "hypergradient": Probe(_hypergradient)} if solve else {}
        lower_probe = {"violation": Probe(_lower_violation)} if constraint else {"lower_gradient": Probe(_lower_slope)}
        self.probes = known | {"upper": Probe(_upper)} | lower_probe | as_probes(probes or {})

    @classmethod
    def example(cls, dtype: DTypeLike = jnp.float32) -> Problem:
        """Penalties of a small ridge regression, one a feature; see `Problem.example`."""
        rng = np.random.default_rng(0)
        features, noise = rng.standard_normal((24, 3)), rng.standard_normal(24)
        targets = features @ np.array([1.0, -2.0, 0.0]) + 0.3 * noise
        data = [(jnp.asarray(features[i], dtype), jnp.asarray(targets[i], dtype)) for i in (slice(12), slice(12, 24))]

        def error(x: PyTree, y: PyTree, batch: PyTree) -> Array:
            return jnp.mean((batch[0] @ y["w"] + y["b"] - batch[1]) ** 2)

        def penalized(x: PyTree, y: PyTree, batch: PyTree) -> Array:
            return error(x, y, batch) + jnp.sum(jnp.exp(x) * y["w"] ** 2) + 0.1 * y["b"] ** 2

        start = jnp.asarray([-1.0, 0.5, 0.0], dtype), {"w": jnp.full(3, 0.1, dtype), "b": jnp.asarray(0.2, dtype)}
        return Bilevel(
            error, penalized, start, (data[0], data[1]), batch_size=4, constraint=lambda x, y: y["w"] + y["b"] - 1.0
        )

    def sample(self, key: PRNGKeyArray) -> tuple[PyTree, PyTree]:
        """A minibatch of each level, drawn apart, uniformly with replacement; all when ``batch_size`` is `None`."""
        if self.batch_size is None:
            return self.full
        each = []
        for part, own in zip(self.full, jr.split(key), strict=True):
            leaves = jax.tree.leaves(part)
            index = jr.randint(own, (self.batch_size,), 0, leaves[0].shape[0]) if leaves else None
            each.append(jax.tree.map(lambda leaf, index=index: leaf[index], part))
        return each[0], each[1]

    def project(self, x: PyTree, y: PyTree) -> tuple[PyTree, PyTree]:
        """The point of the simple sets nearest to ``(x, y)``, which is the point itself where there are none."""
        return (x, y) if self.restrict is None else self.restrict(x, y)

    def value(self, x: PyTree) -> Float[Array, ""]:
        r"""$\Phi(x) = F(x, y^*(x))$ on the full data, of which `jax.grad` is the exact hypergradient.

        Raises:
            ValueError: if the problem has no ``solve``.
        """
        if self.solve is None:
            raise ValueError("solve: this problem does not know its lower level's solution; give solve=, x -> y")
        return self.upper(x, self.solve(x), self.full[0])


def _value(problem: Bilevel, z: tuple[PyTree, PyTree], key: PRNGKeyArray) -> Array:
    return problem.value(z[0])


def _hypergradient(problem: Bilevel, z: tuple[PyTree, PyTree], key: PRNGKeyArray) -> Array:
    return norm(jax.grad(problem.value)(z[0]))


def _upper(problem: Bilevel, z: tuple[PyTree, PyTree], key: PRNGKeyArray) -> Array:
    return problem.upper(*z, problem.full[0])


def _lower_slope(problem: Bilevel, z: tuple[PyTree, PyTree], key: PRNGKeyArray) -> Array:
    return norm(jax.grad(problem.lower, 1)(*z, problem.full[1]))


def _lower_violation(problem: Bilevel, z: tuple[PyTree, PyTree], key: PRNGKeyArray) -> Array:
    assert problem.constraint is not None  # the probe is there only then
    return norm(jnp.maximum(problem.constraint(*z), 0.0))
