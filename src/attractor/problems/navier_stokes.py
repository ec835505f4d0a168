"""Two-dimensional incompressible flow on the unit torus, by its vorticity: random starts and what becomes of them."""

from collections.abc import Callable

import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, Int, PRNGKeyArray

from attractor.checks import in_range
from attractor.problems.burgers import integrating_factor_rk4


def vorticity_field(
    key: PRNGKeyArray, samples: int, points: int, *, tau: float = 7.0, sigma: float = 7.0**1.5, alpha: float = 2.5
) -> Float[Array, "samples points points"]:
    """Draws of the centered Gaussian field on the unit torus with covariance σ² (τ² − Δ)^(−α), without its mean.

    Arguments:
        key: Of the draws.
        samples: How many.
        points: Grid points per axis, equally spaced on [0, 1), at least 4.
        tau: Inverse length scale, at least 0.
        sigma: Amplitude, at least 0.
        alpha: Smoothness, greater than 1.

    Raises:
        ValueError: for an argument out of range.

    Paper: Fourier Neural Operator for Parametric Partial Differential Equations.
    """
    in_range("samples", samples, 1)
    in_range("points", points, 4)
    in_range("tau", tau, 0.0)
    in_range("sigma", sigma, 0.0)
    in_range("alpha", alpha, 1.0, open_low=True)
    kx, ky = _wave_numbers(points)
    square = (kx**2 + ky**2).at[0, 0].set(1.0)
    deviation = (sigma * (square + tau**2) ** (-alpha / 2)).at[0, 0].set(0.0)
    white = jnp.fft.rfft2(jr.normal(key, (samples, points, points)), norm="ortho")  # coefficients of variance 1
    return jnp.fft.irfft2(deviation * white, (points, points), norm="forward")


def wave_force(x: Float[Array, "*grid"], y: Float[Array, "*grid"]) -> Float[Array, "*grid"]:
    r"""The paper's force, $0.1 (\sin 2\pi(x + y) + \cos 2\pi(x + y))$, by its curl."""
    phase = 2 * jnp.pi * (x + y)
    return 0.1 * (jnp.sin(phase) + jnp.cos(phase))


def solve_navier_stokes(
    w0: Float[Array, "*batch n n"],
    steps: int | Int[Array, ""],
    *,
    viscosity: float = 1e-3,
    time: float = 1.0,
    force: Float[Array, "n n"] | float | Callable[[Float[Array, "n 1"], Float[Array, " n"]], Array] = 0.0,
) -> Float[Array, "*batch n n"]:
    r"""Solve $w_t + u \cdot \nabla w = \nu \Delta w + f$ on the unit torus from w0 to a time.

    The velocity is $u = (\psi_y, -\psi_x)$ with $-\Delta \psi = w$; the mean vorticity does not move anything.
    Pseudo-spectral with the 2/3 rule, in time `integrating_factor_rk4`: stable up to a step of about
    $2.8 / (\max|u| \cdot 2\pi n/3)$, and for larger ones where diffusion helps.

    Arguments:
        w0: Initial vorticity at n × n equally spaced points (x, y), any batch axes before.
        steps: Time steps, at least 1.
        viscosity: ν, at least 0.
        time: Final time, greater than 0.
        force: The curl f of the force, constant in time; or a function ``(x, y) -> f`` such as `wave_force`.

    Raises:
        ValueError: for an argument out of range.

    Paper: Fourier Neural Operator for Parametric Partial Differential Equations (where it makes the data, with another
    method in time).
    """
    in_range("steps", steps, 1)
    in_range("viscosity", viscosity, 0.0)
    in_range("time", time, 0.0, open_low=True)
    n = w0.shape[-1]
    kx, ky = _wave_numbers(n)
    square = kx**2 + ky**2
    kept = jnp.maximum(abs(kx), abs(ky)) <= 2 * jnp.pi * (n // 3)
    inverse = jnp.where(square > 0, 1 / jnp.where(square > 0, square, 1), 0)
    if callable(force):
        force = force(jnp.arange(n)[:, None] / n, jnp.arange(n) / n)
    pushed = jnp.fft.rfft2(jnp.broadcast_to(jnp.asarray(force, w0.dtype), (n, n)))

    def nonlinear(v: Array) -> Array:
        v = kept * v
        stream = inverse * v
        parts = jnp.stack([1j * ky * stream, -1j * kx * stream, 1j * kx * v, 1j * ky * v])
        ux, uy, wx, wy = jnp.fft.irfft2(parts, (n, n))
        return pushed - kept * jnp.fft.rfft2(ux * wx + uy * wy)

    v = integrating_factor_rk4(nonlinear, -viscosity * square, jnp.fft.rfft2(w0), time / steps, steps)
    return jnp.fft.irfft2(v, (n, n))


def _wave_numbers(n: int) -> tuple[Float[Array, "n 1"], Float[Array, " m"]]:
    return 2 * jnp.pi * n * jnp.fft.fftfreq(n)[:, None], 2 * jnp.pi * n * jnp.fft.rfftfreq(n)
