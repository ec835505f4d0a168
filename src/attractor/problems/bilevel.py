"""Problems of two levels: penalties of a regression, one a feature, and quadratics whose solution is known."""

from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from sklearn.datasets import load_breast_cancer, load_diabetes
from sklearn.model_selection import train_test_split

from attractor.bilevel import Bilevel
from attractor.checks import in_range
from attractor.probe import Probe
from attractor.registry import problem

Samples = tuple[Float[Array, "n d"], Float[Array, " n"]]


@problem("feature-penalties", metric="value", steps=200)
def feature_penalties(
    data: str = "diabetes",
    *,
    noise: int = 0,
    batch_size: int | None = None,
    seed: int = 0,
) -> Bilevel:
    r"""Choose a ridge penalty for every feature by the loss on validation data.

    x is the logarithm of each penalty, from -10 to 2, y the weights: the lower level is the training loss
    $+ \frac12 \sum_i e^{x_i} y_i^2$. On diabetes the loss is half the squared error, on breast_cancer the logistic
    loss. Half the rows train, a quarter each is for validation (upper level) and for test (``test_loss``, at y).

    Arguments:
        data: ``"diabetes"`` (442 rows, 10 features) or ``"breast_cancer"`` (569 rows, 30), standardized.
        noise: Features of pure noise to add, at least 0.
        batch_size: As in `Bilevel`.
        seed: Of the split and the noise.

    Raises:
        ValueError: for another ``data``, or a negative ``noise``.
    """
    in_range("noise", noise, 0)
    if data not in ("diabetes", "breast_cancer"):
        raise ValueError(f"data: expected 'diabetes' or 'breast_cancer', got {data!r}")
    loaded: Any = (load_diabetes if data == "diabetes" else load_breast_cancer)(return_X_y=True)
    rows, targets = loaded
    rows = np.hstack([rows, np.random.default_rng(seed).standard_normal((len(rows), noise))])
    rows = (rows - rows.mean(0)) / rows.std(0)
    targets = (targets - targets.mean()) / targets.std() if data == "diabetes" else 2.0 * targets - 1
    train, rest = train_test_split(np.arange(len(rows)), test_size=0.5, random_state=seed)
    split = train, rest[::2], rest[1::2]
    train, validation, test = ((jnp.asarray(rows[i], float), jnp.asarray(targets[i], float)) for i in split)
    loss = _half_square if data == "diabetes" else _logistic
    d = rows.shape[1]
    return Bilevel(
        eqx.Partial(_loss_of_weights, loss),
        eqx.Partial(_penalized, loss),
        (jnp.zeros(d), jnp.zeros(d)),
        (validation, train),
        batch_size=batch_size,
        project=_clipped,
        solve=eqx.Partial(_newton, loss, train),
        probes={"test_loss": Probe(eqx.Partial(_held_out_loss, loss, test))},
    )


def _half_square(outputs: Float[Array, " n"], targets: Float[Array, " n"]) -> Float[Array, ""]:
    return jnp.mean((outputs - targets) ** 2) / 2


def _logistic(outputs: Float[Array, " n"], targets: Float[Array, " n"]) -> Float[Array, ""]:
    return jnp.mean(jax.nn.softplus(-targets * outputs))


def _loss_of_weights(loss, x: Float[Array, " d"], y: Float[Array, " d"], batch: Samples) -> Float[Array, ""]:
    return loss(batch[0] @ y, batch[1])


def _penalized(loss, x: Float[Array, " d"], y: Float[Array, " d"], batch: Samples) -> Float[Array, ""]:
    return loss(batch[0] @ y, batch[1]) + jnp.sum(jnp.exp(x) * y**2) / 2


def _clipped(x: Float[Array, " d"], y: Float[Array, " d"]) -> tuple[Float[Array, " d"], Float[Array, " d"]]:
    return jnp.clip(x, -10.0, 2.0), y


def _held_out_loss(loss, test: Samples, problem: Bilevel, z, key) -> Float[Array, ""]:
    return loss(test[0] @ z[1], test[1])


def _newton(loss, train: Samples, x: Float[Array, " d"]) -> Float[Array, " d"]:
    """The minimizer of a smooth convex lower level, of which a last step carries the derivative."""
    lower = partial(_penalized, loss, batch=train)
    slope, curvature = jax.grad(lower, 1), jax.hessian(lower, 1)

    def step(x: Float[Array, " d"], y: Float[Array, " d"]) -> Float[Array, " d"]:
        return y - jax.scipy.linalg.solve(jax.lax.stop_gradient(curvature(x, y)), slope(x, y), assume_a="pos")

    count = 1 if loss is _half_square else 12
    fixed = jax.lax.stop_gradient(x)
    return step(x, jax.lax.fori_loop(0, count, lambda _, y: step(fixed, y), jnp.zeros_like(x)))


@problem("two-level-quadratic", metric="value", steps=1_000)
def two_level_quadratic(n: int = 4, m: int = 6, rank: int | None = None, seed: int = 0) -> Bilevel:
    r"""Quadratics at both levels, generic, their solution known.

    $$ F = \tfrac12 (y - t)^\top Q (y - t) + x^\top C y + \tfrac12 \rho \lVert x \rVert^2, \qquad
       g = \tfrac12 y^\top H y - y^\top (B x + b) $$

    Arguments:
        n: Numbers in x, at least 1.
        m: Numbers in y, at least 1.
        rank: Of H, in [1, m], whose other eigenvalues are from 0.5 to 2; below m the lower level has many minimizers,
            of which the value takes the one that is best for F. `None`: m.
        seed: Of all the matrices.

    Raises:
        ValueError: for an argument out of its range.
    """
    for name, value, high in (("n", n, np.inf), ("m", m, np.inf), ("rank", m if rank is None else rank, m)):
        in_range(name, value, 1, high)
    rng, r = np.random.default_rng(seed), m if rank is None else rank
    frame = np.linalg.qr(rng.standard_normal((m, m)))[0]
    curved, free = frame[:, :r], frame[:, r:]
    h = (curved * np.linspace(0.5, 2.0, r)) @ curved.T
    root = rng.standard_normal((m, m))
    q = root @ root.T / m + 0.5 * np.eye(m)
    b, c = h @ rng.standard_normal((m, n)) / np.sqrt(n), 0.3 * rng.standard_normal((n, m))
    return quadratic_levels(
        h, b, h @ rng.standard_normal(m), q, rng.standard_normal(m), c, 3.0, free, rng.standard_normal(n)
    )


def free_lower_level(n: int = 2, target: float = 1.0) -> Bilevel:
    r"""Half of y does not enter the lower level: the solution is $x = y_1 = y_2 = t$, one number n times each.

    $$ F = \tfrac12 \lVert x - y_2 \rVert^2 + \tfrac12 \lVert y_1 - t \rVert^2, \qquad
       g = \tfrac12 \lVert y_1 \rVert^2 - x^\top y_1 $$

    Methods that look at g alone never move $y_2$.

    Arguments:
        n: Numbers in each of x, $y_1$ and $y_2$, at least 1.
        target: t.

    Raises:
        ValueError: for ``n`` below 1.
    """
    in_range("n", n, 1)
    one, zero = np.eye(n), np.zeros((n, n))
    return quadratic_levels(
        np.diag([1.0] * n + [0.0] * n), np.vstack([one, zero]), np.zeros(2 * n), np.eye(2 * n),
        np.array([target] * n + [0.0] * n), np.hstack([zero, -one]), 1.0, np.vstack([zero, one]), np.zeros(n),
    )  # fmt: skip


def quadratic_levels(h, b, offset, q, target, c, rho, free, start) -> Bilevel:
    """The quadratics of `two_level_quadratic` from their parts.

    Arguments:
        h: H (m, m), symmetric and positive semidefinite.
        b: B (m, n), whose columns lie in the range of H.
        offset: b (m,), in the range of H.
        q: Q (m, m), symmetric and positive definite.
        target: t (m,).
        c: C (n, m).
        rho: ρ.
        free: A basis of the kernel of H, (m, m - rank of H).
        start: x to start from, (n,); y starts at 0.
    """
    h, b, offset, q, target, c, free, start = (jnp.asarray(a, float) for a in (h, b, offset, q, target, c, free, start))
    inverse = jnp.asarray(np.linalg.pinv(np.asarray(h, np.float64), rcond=1e-6), float)
    return Bilevel(
        eqx.Partial(_quadratic_upper, q, target, c, jnp.asarray(rho, float)),
        eqx.Partial(_quadratic_lower, h, b, offset),
        (start, jnp.zeros(target.shape)),
        solve=eqx.Partial(_quadratic_solution, inverse, b, offset, q, target, c, free),
    )


def _quadratic_upper(q, target, c, rho, x, y, batch=None) -> Float[Array, ""]:
    return (y - target) @ q @ (y - target) / 2 + x @ c @ y + rho * x @ x / 2


def _quadratic_lower(h, b, offset, x, y, batch=None) -> Float[Array, ""]:
    return y @ h @ y / 2 - y @ (b @ x + offset)


def _quadratic_solution(inverse, b, offset, q, target, c, free, x) -> Float[Array, " m"]:
    least = inverse @ (b @ x + offset)
    best = jnp.linalg.solve(free.T @ q @ free, free.T @ (q @ (target - least) - c.T @ x)) if free.shape[1] else 0
    return least + (free @ best if free.shape[1] else 0)
