"""Learned arithmetic that has to extrapolate: combine the sums of two subsets of a vector."""

import operator
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from attractor.nn.arithmetic.units import NAU, NMU, sparsity_error
from attractor.probe import Probe
from attractor.problem import Minimization
from attractor.registry import problem

OPERATIONS = {"+": operator.add, "-": operator.sub, "*": operator.mul}
TRAINING, BEYOND = (1.0, 2.0), ((2.0, 6.0), (-2.0, 2.0))
HELD_OUT = 1_000


def arithmetic_units(operation: str, size: int, key: PRNGKeyArray) -> eqx.nn.Sequential:
    """Two arithmetic units that can solve the task exactly: a `NAU`, then another (+, -) or a `NMU` (*)."""
    first, second = jr.split(key)
    top = NMU if operation == "*" else NAU
    return eqx.nn.Sequential([NAU(size, 2, key=first), top(2, 1, key=second)])


@problem("arithmetic-extrapolation", metric="extrapolation", steps=20_000)
def arithmetic_extrapolation(
    operation: str = "*",
    size: int = 20,
    build: Callable[[PRNGKeyArray], Any] | None = None,
    batch_size: int = 64,
    samples: int = 20_000,
    seed: int = 0,
) -> Minimization:
    r"""Combine the sums of two subsets of x: learn it from x in [1, 2], then test it on [2, 6] and [-2, 2].

    The target is $(\sum_{i \in A} x_i) \circ (\sum_{i \in B} x_i)$ with an operation of choice.
    A and B hold a quarter of the inputs each and share half of that. Which inputs does not matter to units that are
    initialized alike, so it is the first ones. Loss: mean squared error. Probes: ``interpolation``, the error on fresh
    x in [1, 2]; ``extrapolation``, the larger of the errors on the two other ranges, each divided by what a solution
    makes whose weights are off by 1e-5 (at most 1: solved); ``sparsity_error``, see `attractor.nn.sparsity_error`.

    Arguments:
        operation: ``"+"``, ``"-"`` or ``"*"``.
        size: Length of x, at least 4.
        build: ``key -> model`` with ``model(x (size,)) -> (1,)``; default: `arithmetic_units`.
        batch_size: Samples per step.
        samples: Size of the training pool.
        seed: Of the data.

    Raises:
        ValueError: for an unknown operation or a size below 4.
    """
    if operation not in OPERATIONS:
        raise ValueError(f"operation: expected one of {', '.join(OPERATIONS)}, got {operation!r}")
    if size < 4:
        raise ValueError(f"size: expected a whole number >= 4, got {size}")
    build = build or eqx.Partial(arithmetic_units, operation, size)
    random = np.random.default_rng(seed)
    subset = size // 4
    chosen = np.zeros((2, size))
    chosen[0, :subset] = chosen[1, subset - subset // 2 : 2 * subset - subset // 2] = 1

    def draw(bounds: tuple[float, float], n: int) -> tuple[np.ndarray, np.ndarray]:
        x = random.uniform(*bounds, (n, size))
        return x, OPERATIONS[operation](*(chosen @ x.T))

    def nearly(x: np.ndarray) -> np.ndarray:
        return OPERATIONS[operation](*(np.abs(chosen - 1e-5) @ x.T))

    train, inside = draw(TRAINING, samples), draw(TRAINING, HELD_OUT)
    outside = [draw(bounds, HELD_OUT) for bounds in BEYOND]
    tolerance = jnp.asarray([np.mean((nearly(x) - y) ** 2) for x, y in outside], dtype=float)
    task = Minimization.of_model(build, _squared_error, _as_arrays(train), batch_size=min(batch_size, samples))
    probes = {
        "interpolation": Probe.on(_as_arrays(inside), task.loss),
        "extrapolation": Probe.on((_as_arrays(outside), tolerance), eqx.Partial(_worst, task.loss)),
        "sparsity_error": Probe(_sparsity_error),
    }
    return eqx.tree_at(lambda p: p.probes, task, task.probes | probes)


def _as_arrays(data: PyTree) -> PyTree:
    return jax.tree.map(lambda a: jnp.asarray(a, dtype=float), data)


def _squared_error(model: Callable, batch: tuple[Float[Array, "n d"], Float[Array, " n"]]) -> Array:
    x, y = batch
    return jnp.mean((jax.vmap(model)(x)[:, 0] - y) ** 2)


def _worst(loss: Callable, params: PyTree, data: PyTree) -> Array:
    sets, tolerance = data
    return jnp.max(jnp.stack([loss(params, batch) for batch in sets]) / tolerance)


def _sparsity_error(problem: Minimization, x: PyTree, key: PRNGKeyArray) -> Array:
    return sparsity_error(x)
