"""Singular values of weights under noise: the Langevin equation they obey, their spacings, their phases."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import jax.random as jr
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int, PRNGKeyArray

from attractor.checks import Count, Scalar, in_range


def coulomb_drift(values: Float[Array, " n"], rows: Scalar, variance: Scalar) -> Float[Array, " n"]:
    r"""How noise alone moves singular values apart, and away from zero.

    Where the entries of an m x n matrix diffuse with variance $\sigma^2$ per unit of time, the singular values drift by

    $$ \frac{\sigma^2}{2} \Bigl( \frac{m - n}{\xi_i} + \sum_{j \ne i} \frac{1}{\xi_i - \xi_j} +
    \frac{1}{\xi_i + \xi_j} \Bigr) $$

    and diffuse with variance $\sigma^2$ each (Dyson's Brownian motion of $W^\top W$, in $\xi = \sqrt x$). For SGD
    with gradient noise of variance $s^2$ an example, learning rate $\eta$ and batches of B, $\sigma^2 = \eta^2 s^2 / B$
    a step.

    Arguments:
        values: $\xi_i > 0$, distinct.
        rows: m, at least n.
        variance: $\sigma^2$, in [0, inf).

    Raises:
        ValueError: if there are fewer rows than values, or the variance is negative.

    Paper: Phase diagram and eigenvalue dynamics of stochastic gradient descent in multilayer neural networks.
    """
    in_range("rows", rows, values.shape[0])
    in_range("variance", variance, 0.0)
    square = values**2
    apart = square[:, None] - square + jnp.diag(jnp.full_like(values, jnp.inf))
    return variance * ((rows - len(values)) / (2 * values) + jnp.sum(values[:, None] / apart, 1))


def singular_value_langevin(
    start: Float[Array, " n"],
    force: Callable[[Float[Array, " n"]], Float[Array, " n"]],
    rows: Scalar,
    variance: Scalar,
    step: Scalar,
    steps: int,
    key: PRNGKeyArray,
    *,
    drift: Callable[[Float[Array, " n"], Scalar, Scalar], Float[Array, " n"]] = coulomb_drift,
) -> Float[Array, "steps n"]:
    r"""A path of singular values under a force and noise, $d\xi_i = (F_i + \text{drift}_i)\,dt + \sigma\,dB_i$.

    By the Euler-Maruyama scheme; values are sorted after each step, largest first, and reflected at 0. Where values
    come too close for the step, the drift is tamed: its displacement d becomes $d / (1 + d^2 / \sigma^2 dt)^{1/2}$,
    never more than the noise's.

    Arguments:
        start: n values, distinct and positive.
        force: F, such as minus the gradient in the direction $u_i v_i^\top$ of each.
        rows: m of the m x n matrix, at least n.
        variance: $\sigma^2$, in [0, inf), of an entry per unit of time.
        step: Of time, above 0.
        steps: How many, at least 1.
        key: Of the noise.
        drift: What noise adds to the force.

    Raises:
        ValueError: for an argument out of range.

    Paper: Phase diagram and eigenvalue dynamics of stochastic gradient descent in multilayer neural networks.
    """
    in_range("step", step, 0.0, open_low=True)
    in_range("steps", steps, 1)
    in_range("variance", variance, 0.0)

    def advance(values: Array, key: Any) -> tuple[Array, Array]:
        noise = jnp.sqrt(variance * step) * jr.normal(key, values.shape, values.dtype)
        spread = jnp.maximum(jnp.sqrt(variance * step), jnp.finfo(values.dtype).tiny)
        pushed = step * drift(values, rows, variance) / spread
        # Values that rounding makes equal push each other infinitely hard.
        pushed = jnp.nan_to_num(pushed, posinf=1e6, neginf=-1e6)
        pushed = spread * pushed / jnp.sqrt(1 + pushed**2)
        moved = values + step * force(values) + pushed + noise
        moved = -jnp.sort(-jnp.abs(moved))
        return moved, moved

    return jax.lax.scan(advance, start, jr.split(key, steps))[1]


def student_singular_values(
    start: tuple[Float[Array, "h n"], Float[Array, "k h"]],
    teacher: tuple[Float[Array, "h n"], Float[Array, "k h"]],
    key: PRNGKeyArray,
    *,
    rate: Scalar,
    batch: Count,
    largest: int,
    steps: int,
    every: int = 1,
    noise: Scalar = 0.5,
    second: Scalar = 1.0,
) -> Float[Array, "records values"]:
    r"""Singular values of the first layer of a student, $W_2 \tanh(W_1 x)$, while SGD follows a teacher of that form.

    Every step draws fresh inputs, standard normal, and labels with normal noise; the loss is half the squared distance
    averaged over the batch.

    Arguments:
        start: $W_1, W_2$ of the student.
        teacher: Those of the teacher.
        key: Of inputs and noise.
        rate: Learning rate, at least 0.
        batch: B, 1 … ``largest``; it may be traced, so that one program serves all.
        largest: How many examples are drawn a step.
        steps: How many in all, at least ``every``.
        every: A record after so many, at least 1.
        noise: Standard deviation of the labels' noise, at least 0.
        second: The second layer's learning rate over the first's, in [0, inf); 0 keeps it as it is.

    Raises:
        ValueError: for an argument out of range.

    Paper: Phase diagram and eigenvalue dynamics of stochastic gradient descent in multilayer neural networks.
    """
    in_range("rate", rate, 0.0)
    in_range("batch", batch, 1, largest)
    in_range("noise", noise, 0.0)
    in_range("second", second, 0.0)
    in_range("every", every, 1)
    in_range("steps", steps, every)
    counted = jnp.arange(largest) < batch
    inputs, outputs = start[0].shape[1], start[1].shape[0]

    def predicted(weights: Any, x: Array) -> Array:
        return jnp.tanh(x @ weights[0].T) @ weights[1].T

    def step(i: Any, weights: Any) -> Any:
        draw, blur = jr.split(jr.fold_in(key, i))
        x = jr.normal(draw, (largest, inputs))
        y = predicted(teacher, x) + noise * jr.normal(blur, (largest, outputs))

        def loss(weights: Any) -> Array:
            missed = jnp.sum((predicted(weights, x) - y) ** 2, 1)
            return jnp.sum(jnp.where(counted, missed, 0)) / (2 * batch)

        slopes = jax.grad(loss)(weights)
        return weights[0] - rate * slopes[0], weights[1] - rate * second * slopes[1]

    def record(weights: Any, i: Any) -> tuple[Any, Array]:
        weights = jax.lax.fori_loop(i * every, (i + 1) * every, step, weights)
        return weights, jnp.linalg.svd(weights[0], compute_uv=False)

    return jax.lax.scan(record, start, jnp.arange(steps // every))[1]


def wigner_surmise(spacing: ArrayLike) -> Float[Array, "..."]:
    r"""The density of spacings of neighboring levels that repel each other, $\frac{\pi s}{2} e^{-\pi s^2 / 4}$.

    Spacings are in units of their mean. Levels that do not know of each other have $e^{-s}$ instead. It is exact for
    two levels of a real symmetric matrix of independent normal entries, on the diagonal of twice the variance.

    Arguments:
        spacing: s, at least 0.

    Paper: Phase diagram and eigenvalue dynamics of stochastic gradient descent in multilayer neural networks.
    """
    s = jnp.asarray(spacing)
    return jnp.pi * s / 2 * jnp.exp(-jnp.pi * s**2 / 4)


def singular_value_phase(
    before: Float[Array, "*runs n"], after: Float[Array, "*runs n"], frozen: Scalar = 0.1, diverged: Scalar = 10.0
) -> Int[Array, "*runs"]:
    r"""In which of three regimes training has moved singular values, by $\|\xi_T - \xi_0\| / \|\xi_0\|$.

    0 where they are frozen, 1 where they have moved, 2 where they diverge or are no numbers. The bounds are a choice.

    Arguments:
        before: $\xi_0$, at the start.
        after: $\xi_T$.
        frozen: Below this relative change, 0; at least 0.
        diverged: From this on, 2; above ``frozen``.

    Raises:
        ValueError: if the bounds are not in order.

    Paper: Phase diagram and eigenvalue dynamics of stochastic gradient descent in multilayer neural networks.
    """
    in_range("frozen", frozen, 0.0)
    in_range("diverged", diverged, float(frozen), open_low=True)
    moved = jnp.linalg.norm(after - before, axis=-1) / jnp.linalg.norm(before, axis=-1)
    moved = jnp.where(jnp.isfinite(moved), moved, jnp.inf)
    return (moved >= frozen).astype(int) + (moved >= diverged)
