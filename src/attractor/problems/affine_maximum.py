"""The largest of many affine functions, and its least value by linear programming."""

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray, PyTree
from scipy.optimize import linprog

from attractor.checks import in_range
from attractor.probe import Probe
from attractor.problem import Minimization


def least_maximum(
    rows: Float[np.ndarray, "n d"], offsets: Float[np.ndarray, " n"]
) -> tuple[Float[np.ndarray, " d"], float]:
    r"""The minimizer of $\max_i \langle a_i, x \rangle + b_i$ and the value there, by linear programming.

    Arguments:
        rows: a.
        offsets: b.

    Raises:
        ValueError: if the maximum has no least value.
    """
    n, dim = rows.shape
    bounds = [(None, None)] * (dim + 1)
    found = linprog(np.r_[np.zeros(dim), 1.0], np.c_[rows, -np.ones(n)], -offsets, bounds=bounds)
    if not found.success:
        raise ValueError(f"rows, offsets: expected a maximum that is bounded below; {found.message}")
    return found.x[:-1], float(found.fun)


def affine_maximum(losses: int = 256, dim: int = 10, seed: int = 0) -> Minimization:
    r"""Affine losses with unit gradients, the largest of which is to be small; ``gap`` records that, less its minimum.

    $$ f_i(x) = \langle a_i, x \rangle + b_i, \qquad \lVert a_i \rVert = 1, \quad b_i \sim N(0, 0.3^2) $$

    As a `Minimization` it is their mean, which says nothing of the largest: it is for methods that look at single
    losses, such as `attractor.optim.BallDescent`.

    Arguments:
        losses: n, more than ``dim``; few more, and the largest may not be bounded below.
        dim: d, at least 1.
        seed: Of a and b.

    Raises:
        ValueError: for an argument out of range.
    """
    in_range("dim", dim, 1)
    in_range("losses", losses, dim + 1)
    rng = np.random.default_rng(seed)
    rows, offsets = rng.standard_normal((losses, dim)), 0.3 * rng.standard_normal(losses)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    gap = Probe(eqx.Partial(_gap, least_maximum(rows, offsets)[1]))
    return Minimization(_mean, jnp.zeros(dim), (jnp.asarray(rows), jnp.asarray(offsets)), probes={"gap": gap})


def _mean(x: Float[Array, " d"], batch: PyTree) -> Float[Array, ""]:
    return jnp.mean(batch[0] @ x + batch[1])


def _gap(best: float, problem: Minimization, x: Float[Array, " d"], key: PRNGKeyArray) -> Float[Array, ""]:
    return jnp.max(problem.full[0] @ x + problem.full[1]) - best
