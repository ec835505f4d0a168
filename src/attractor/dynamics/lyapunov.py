"""Lyapunov exponents: how fast a flow stretches, from its variational equation."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from attractor.checks import in_range
from attractor.dynamics.chaos import Field, rk4_step

Frame = Float[Array, "*batch d k"]


def orthonormalize(frame: Frame) -> tuple[Frame, Float[Array, "*batch k"]]:
    """An orthonormal frame with the same nested spans, and how much each direction had grown (the QR factors)."""
    columns, growth = [], []
    for i in range(frame.shape[-1]):  # Gram-Schmidt compiles in a fraction of the time that LAPACK's QR takes
        v = frame[..., i]
        for q in columns:
            v = v - jnp.sum(q * v, -1, keepdims=True) * q
        growth.append(jnp.linalg.norm(v, axis=-1))
        columns.append(v / growth[-1][..., None])
    return jnp.stack(columns, -1), jnp.stack(growth, -1)


def variational_flow(field: Field) -> Callable[[tuple[Array, Frame]], tuple[Array, Frame]]:
    r"""The flow of a point together with tangent vectors: $\dot x = f(x),\ \dot V = Df(x) V$."""

    def flow(state: tuple[Array, Frame]) -> tuple[Array, Frame]:
        x, frame = state
        return jax.vmap(lambda v: jax.jvp(field, (x,), (v,)), -1, (None, -1))(frame)

    return flow


def lyapunov_spectrum(
    field: Field,
    x0: Float[Array, "*batch d"],
    *,
    dt: float,
    steps: int,
    every: int = 10,
    exponents: int | None = None,
    discard: float = 0.1,
    flow: Callable[[Field], Callable] = variational_flow,
    renormalize: Callable[[Array], tuple[Array, Array]] = orthonormalize,
) -> Float[Array, "*batch k"]:
    r"""The largest Lyapunov exponents of a flow, in decreasing order up to sampling error, per unit of time.

    A point and k tangent vectors are integrated together, $\dot V = Df(x)V$; every few steps
    $V = QR$, the logarithms of $|R_{ii}|$ are collected and V starts again from Q:
    $\lambda_i = \frac1T \sum \log|R_{ii}|$.

    Arguments:
        field: ``x (…, d) -> dx/dt (…, d)``, pointwise over the leading axes.
        x0: Starting points, ``(…, d)``; several give several estimates.
        dt: Step of the Runge-Kutta integrator, positive.
        steps: Steps in all, a multiple of ``every``.
        every: Steps between two orthonormalizations.
        exponents: How many, 1 … d; `None`: all d.
        discard: Share of the time, in [0, 1), during which the tangent vectors only settle.
        flow: Makes the vector field of ``(x, V)``.
        renormalize: Splits V into a new frame and growth factors.

    Raises:
        ValueError: for an argument out of its range.

    Paper: the method of Benettin and others (1980), as used to annotate the systems of "Chaos as an interpretable
    benchmark for forecasting and data-driven modelling".
    """
    d = x0.shape[-1]
    k = d if exponents is None else exponents
    in_range("dt", dt, 0, open_low=True)
    in_range("every", every, 1)
    in_range("exponents", k, 1, d)
    in_range("discard", discard, 0, 1, open_high=True)
    if steps < every or steps % every:
        raise ValueError(f"steps: expected a positive multiple of every ({every}), got {steps}")
    # Random directions: a coordinate axis may be an invariant direction of the linearized flow.
    directions = jnp.linalg.qr(jax.random.normal(jax.random.key(0), (d, k), x0.dtype))[0]
    rates = flow(field)

    def record(state: tuple[Array, Frame], _: None) -> tuple[tuple[Array, Frame], Array]:
        x, frame = lax.fori_loop(0, every, lambda _, s: rk4_step(rates, s, dt), state)
        frame, growth = renormalize(frame)
        return (x, frame), jnp.log(growth)

    frames = jnp.broadcast_to(directions, (*x0.shape, k))
    _, logs = lax.scan(record, (x0, frames), length=steps // every)
    return logs[int(discard * len(logs)) :].mean(0) / (every * dt)
