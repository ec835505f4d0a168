"""How long, how monotone and how turning a game's field is: the constants that step sizes and theorems ask for."""

from typing import NamedTuple

import jax
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Float, PyTree

from attractor.problem import Game

RANK = 1e-6  # singular values below this share of the largest are zero: single precision leaves no more


class FieldConstants(NamedTuple):
    r"""Constants of a field F; those of a nonlinear one are what was seen at the points, and may be worse elsewhere."""

    lipschitz: float  # L, at least: |F(z) - F(w)| <= L |z - w|
    monotonicity: float  # μ, at most: <F(z) - F(w), z - w> >= μ |z - w|²; negative: not monotone
    comonotonicity: float  # ρ, at least: <F(z) - F(w), z - w> >= -ρ |F(z) - F(w)|²; negative: cocoercive by -ρ
    rotation: float  # share of the Jacobian's squared norm that is skew: 0 is a gradient, 1 turns only


def field_constants(game: Game, points: PyTree, batch: PyTree = None) -> FieldConstants:
    r"""Measure Lipschitz constant, monotonicity, comonotonicity and rotation from the field's Jacobians J.

    .. math::
        L = \max \lVert J \rVert_2, \quad \mu = \min \lambda_{\min}(\tfrac{J + J^\top}{2}), \quad
        \rho = \max \min \{ r : \tfrac{J + J^\top}{2} + r J^\top J \succeq 0 \}

    over the points. A field with such Jacobians everywhere on a convex set has L and μ there; ρ is so for linear
    fields, and near an equilibrium. What they say: `Extragradient` wants steps below 1/L on monotone fields (μ ≥ 0); on
    those that are only ρ-negatively comonotone, ρL < 1/2 and two steps; cocoercive ones (ρ < 0) take plain steps up to
    -2ρ. Where the kernel of J is not orthogonal to its range no ρ will do, and it is infinite.

    Arguments:
        game: A `Game` with a differentiable field.
        points: Iterates with a leading axis, ``(n, …)`` each, such as starts, ``jax.vmap(game.init)(keys)``.
        batch: What a stochastic field takes; `None`: an exact field.

    Raises:
        ValueError: if the points have no common leading axis, or the field or its derivative is not finite at one.
    """
    lengths = {np.shape(leaf)[:1] for leaf in jax.tree.leaves(points)}
    if len(lengths) != 1 or not next(iter(lengths)) or not next(iter(lengths))[0]:
        raise ValueError(f"points: expected iterates with one common leading axis, got {sorted(lengths)}")
    back = ravel_pytree(jax.tree.map(lambda leaf: leaf[0], points))[1]

    @jax.jit
    def jacobians(points: PyTree) -> Float[jax.Array, "n d d"]:
        flat = jax.vmap(lambda z: ravel_pytree(z)[0])(points)
        return jax.vmap(jax.jacrev(lambda z: ravel_pytree(game.field(back(z), batch))[0]))(flat)

    found = np.asarray(jacobians(points), float)
    bad = np.flatnonzero(~np.isfinite(found).all((1, 2)))
    if bad.size:
        raise ValueError(
            f"points: the field's derivative is not finite at point {bad[0]}; choose points inside its domain"
        )
    transposed = found.swapaxes(1, 2)
    squared = np.maximum((found**2).sum(), np.finfo(float).tiny)
    return FieldConstants(
        float(np.linalg.norm(found, 2, (1, 2)).max()),
        float(np.linalg.eigvalsh((found + transposed) / 2).min()),
        max(map(_comonotonicity, found)),
        float(((found - transposed) ** 2).sum() / 4 / squared),
    )


def _comonotonicity(jacobian: Float[np.ndarray, "d d"]) -> float:
    """Least ρ for one Jacobian: on its range, -ρ is the least eigenvalue of its inverse's symmetric part."""
    u, s, vt = np.linalg.svd(jacobian)
    rank = int((s > RANK * s[0]).sum())
    if rank == 0:
        return -np.inf  # a field that does not move is cocoercive by any constant
    seen = u[:, :rank]
    if np.linalg.norm(vt[rank:] @ seen) > RANK**0.5:
        return np.inf
    inverse = seen.T @ (vt[:rank].T / s[:rank])
    return float(-np.linalg.eigvalsh((inverse + inverse.T) / 2)[0])
