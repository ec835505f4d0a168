"""Low-rank matrices from linear measurements: descent on their factors, and the problem lifted to tensor powers."""

from functools import reduce
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from attractor.checks import Scalar, in_range

Factors = tuple[Float[Array, "_ k"]] | tuple[Float[Array, "_ k"], Float[Array, "_ k"]]


def normal_operator(sensors: Float[Array, "m rows columns"]) -> Float[Array, "size size"]:
    r"""What measuring and measuring back does, $E \mapsto \frac1m \sum_i \langle A_i, E \rangle A_i$, on flat matrices.

    For independent standard normal entries it is near the identity where m is large against the degrees of freedom.

    Arguments:
        sensors: The $A_i$.

    Paper: How Over-Parameterization Slows Down Gradient Descent in Matrix Sensing: The Curses of Symmetry and
    Initialization.
    """
    flat = sensors.reshape(len(sensors), -1)
    return flat.T @ flat / len(flat)


def sensing_descent(
    factors: Factors,
    target: Float[Array, "rows columns"],
    rate: Scalar,
    steps: int,
    every: int = 1,
    normal: Float[Array, "size size"] | None = None,
) -> tuple[Factors, Float[Array, " records"]]:
    r"""Gradient descent on the factors of a matrix that is measured linearly.

    With $E = X X^\top - M$ and $\mathcal N$ of `normal_operator`: $X \leftarrow X - \eta\,\mathcal N(E) X$ (its
    symmetric part) for one factor, which is the gradient of $\frac1{4m} \sum_i \langle A_i, E \rangle^2$; and with
    $E = F G^\top - M$: $F \leftarrow F - \eta\,\mathcal N(E) G$, $G \leftarrow G - \eta\,\mathcal N(E)^\top F$ for two.

    Arguments:
        factors: ``(X,)`` or ``(F, G)`` where descent starts; k columns.
        target: M; symmetric for one factor.
        rate: $\eta$, at least 0; stable below about 1 over twice the largest singular value of M.
        steps: How many in all, at least 1.
        every: A record after so many, at least 1.
        normal: Default: the identity, every entry observed.

    Returns:
        The factors, and $\|E\|_F^2$ at the records.

    Raises:
        ValueError: for an argument out of range.

    Paper: How Over-Parameterization Slows Down Gradient Descent in Matrix Sensing: The Curses of Symmetry and
    Initialization.
    """
    in_range("rate", rate, 0.0)
    in_range("every", every, 1)
    in_range("steps", steps, every)
    if len(factors) not in (1, 2):
        raise ValueError(f"factors: expected 1 or 2 of them, got {len(factors)}")

    def error(factors: Factors) -> Array:
        return factors[0] @ factors[-1].T - target

    def step(_: Any, factors: Factors) -> Factors:
        miss = error(factors)
        seen = miss if normal is None else (normal @ miss.ravel()).reshape(miss.shape)
        if len(factors) == 1:
            return (factors[0] - rate * (seen + seen.T) @ factors[0] / 2,)
        return factors[0] - rate * seen @ factors[1], factors[1] - rate * seen.T @ factors[0]

    def record(factors: Factors, _: None) -> tuple[Factors, Array]:
        factors = jax.lax.fori_loop(0, every, step, factors)
        return factors, jnp.sum(error(factors) ** 2)

    return jax.lax.scan(record, factors, length=steps // every)


def unbalanced_factors(
    f: Float[Array, "rows k"], g: Float[Array, "columns k"], beta: Scalar
) -> tuple[Float[Array, "rows k"], Float[Array, "columns k"]]:
    r"""Other factors of the same matrix, the first with all singular values equal: $F = A S B^\top$ becomes $\beta A$.

    $G$ becomes $G B S / \beta$. Near the solution descent then contracts at the rate $\eta \beta^2$ in the directions
    that the target does not need, however small they were; one such step is all that is changed.

    Arguments:
        f: F, at least as many rows as columns.
        g: G.
        beta: $\beta > 0$; about the root of the target's smallest singular value.

    Raises:
        ValueError: if ``beta`` is not positive, or F has fewer rows than columns.

    Paper: How Over-Parameterization Slows Down Gradient Descent in Matrix Sensing: The Curses of Symmetry and
    Initialization.
    """
    in_range("beta", beta, 0.0, open_low=True)
    if f.shape[0] < f.shape[1]:
        raise ValueError(f"f: expected at least as many rows as columns, got {f.shape}")
    left, values, right = jnp.linalg.svd(f, full_matrices=False)
    return beta * left, (g @ right.T) * values / beta


def perturbed_completion(n: int, eps: float) -> tuple[Float[Array, "n n"], Float[Array, "n n"]]:
    r"""Weights and target of a rank-one completion problem that has spurious minima.

    Counted from 1, the diagonal and all pairs with an even index have weight 1, the pairs of two odd indices
    $\epsilon^2$. The target is $z z^\top$ with $z = (1, 0, 1, 0, …)$: only the faint pairs tell the signs of z.

    Arguments:
        n: Rows and columns, at least 3.
        eps: $\epsilon$ in [0, 1].

    Raises:
        ValueError: for an argument out of range.

    Paper: Over-parametrization via Lifting for Low-rank Matrix Sensing: Conversion of Spurious Solutions to Strict
    Saddle Points.
    """
    in_range("n", n, 3)
    in_range("eps", eps, 0.0, 1.0)
    odd = jnp.arange(n) % 2 == 0  # counted from 1
    faint = odd[:, None] & odd & ~jnp.eye(n, dtype=bool)
    return jnp.where(faint, eps**2, 1.0), (odd[:, None] & odd).astype(float)


def weighted_factor_loss(
    x: Float[Array, " n"], weights: Float[Array, "n n"], target: Float[Array, "n n"]
) -> Float[Array, ""]:
    r"""Rank-one completion, $f(x) = \frac14 \sum_{ij} W_{ij} (x_i x_j - M_{ij})^2$.

    Its lift of order l is the same function of $w \in \mathbb R^{n^l}$ with the `kronecker_power` of both matrices: the
    objective of the measurements $\sqrt{W_{ij}} e_i e_j^\top$, taken l times.

    Arguments:
        x: The factor.
        weights: W, symmetric.
        target: M, symmetric.

    Paper: Over-parametrization via Lifting for Low-rank Matrix Sensing: Conversion of Spurious Solutions to Strict
    Saddle Points.
    """
    return jnp.sum(weights * (jnp.outer(x, x) - target) ** 2) / 4


def weighted_factor_hessian(
    x: Float[Array, " n"], weights: Float[Array, "n n"], target: Float[Array, "n n"]
) -> Float[Array, "n n"]:
    r"""The Hessian of `weighted_factor_loss`, $W \circ (2 x x^\top - M) + \operatorname{diag}(W x^2)$.

    Arguments:
        x: The factor.
        weights: W, symmetric.
        target: M, symmetric.

    Paper: Over-parametrization via Lifting for Low-rank Matrix Sensing: Conversion of Spurious Solutions to Strict
    Saddle Points.
    """
    return weights * (2 * jnp.outer(x, x) - target) + jnp.diag(weights @ x**2)


def kronecker_power(a: Float[Array, "..."], order: int) -> Float[Array, "..."]:
    """A vector's or matrix's Kronecker product with itself, ``order`` factors in all.

    Arguments:
        a: Vector or matrix.
        order: At least 1.

    Raises:
        ValueError: if ``order < 1``.

    Paper: Over-parametrization via Lifting for Low-rank Matrix Sensing: Conversion of Spurious Solutions to Strict
    Saddle Points.
    """
    in_range("order", order, 1)
    return reduce(jnp.kron, [a] * order)


def spurious_completion(
    n: int, eps: float, steps: int = 2_000
) -> tuple[Float[Array, " n"], Float[Array, "n n"], Float[Array, "n n"]]:
    """Of the minima of `perturbed_completion` that descent finds from the corners of a cube, that of the largest loss.

    It starts at all points of -0.9 and 1.1, and ends with five of Newton's steps; for double precision.

    Arguments:
        n: Variables, at least 3; there are 2^n corners.
        eps: As of `perturbed_completion`.
        steps: Of descent, of size 0.1, at least 1.

    Returns:
        The point; the weights and the target of the problem.

    Raises:
        ValueError: for an argument out of range.
    """
    in_range("steps", steps, 1)
    weights, target = perturbed_completion(n, eps)
    x = np.stack(np.meshgrid(*[[-0.9, 1.1]] * n), -1).reshape(-1, n)
    w, m = np.asarray(weights), np.asarray(target)
    for _ in range(steps):
        x = x - 0.1 * np.einsum("ij,bij,bj->bi", w, x[:, :, None] * x[:, None] - m, x)
    point = jnp.asarray(x[np.argmax([float(weighted_factor_loss(p, weights, target)) for p in jnp.asarray(x)])])
    slope = jax.jit(jax.grad(weighted_factor_loss))
    step = jax.jit(lambda x, w, m: x - jnp.linalg.solve(weighted_factor_hessian(x, w, m), slope(x, w, m)))
    for _ in range(5):
        point = step(point, weights, target)
    return point, weights, target
