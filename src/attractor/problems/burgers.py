"""Viscous Burgers' equation on the unit circle: random initial conditions and what becomes of them."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Complex, Float, Int, PRNGKeyArray

from attractor.checks import in_range
from attractor.problem import Minimization
from attractor.problems.held_out import held_out

Pairs = tuple[Float[Array, "samples 1 points"], Float[Array, "samples 1 points"]]


def gaussian_random_field(
    key: PRNGKeyArray, samples: int, points: int, *, tau: float = 5.0, sigma: float = 25.0, alpha: float = 2.0
) -> Float[Array, "samples points"]:
    """Draws of the centered Gaussian field on the unit circle with covariance σ² (τ² − Δ)^(−α), without its mean.

    The field is drawn mode by mode, up to the frequency ``points // 2 - 1``. The constant mode is left out: Burgers'
    equation only carries it along (Galilean invariance).

    Arguments:
        key: Of the draws.
        samples: How many.
        points: Grid points, equally spaced on [0, 1), at least 4.
        tau: Inverse length scale, at least 0.
        sigma: Amplitude, at least 0.
        alpha: Smoothness, greater than 1/2.

    Raises:
        ValueError: for an argument out of range.
    """
    in_range("samples", samples, 1)
    in_range("points", points, 4)
    in_range("tau", tau, 0.0)
    in_range("sigma", sigma, 0.0)
    in_range("alpha", alpha, 0.5, open_low=True)
    k = 2 * jnp.pi * jnp.arange(1, points // 2)
    deviation = sigma * (k**2 + tau**2) ** (-alpha / 2)
    real, imaginary = jr.normal(key, (2, samples, len(k)))
    coefficients = jax.lax.complex(real, imaginary) * deviation / jnp.sqrt(2)
    return jnp.fft.irfft(jnp.pad(coefficients, ((0, 0), (1, 1))), points, norm="forward")


def solve_burgers(
    u0: Float[Array, "*batch n"],
    steps: int | Int[Array, ""],
    *,
    viscosity: float = 0.01,
    time: float = 1.0,
) -> Float[Array, "*batch n"]:
    r"""Solve $u_t + (u^2/2)_x = \nu u_{xx}$ on the unit circle from u0 to a time.

    Pseudo-spectral in space with the 2/3 rule against aliasing; in time, the classical Runge-Kutta method of order
    four after an integrating factor has taken care of the diffusion exactly. Advection limits the step: it is stable
    up to about $2.8 / (\max|u| \cdot 2\pi n/3)$, and for larger ones where diffusion helps.

    Arguments:
        u0: Initial values at n equally spaced points, any batch axes before.
        steps: Time steps, at least 1.
        viscosity: ν, at least 0.
        time: Final time, greater than 0.

    Raises:
        ValueError: for an argument out of range.
    """
    in_range("steps", steps, 1)
    in_range("viscosity", viscosity, 0.0)
    in_range("time", time, 0.0, open_low=True)
    n, h = u0.shape[-1], time / steps
    frequency = jnp.arange(n // 2 + 1)
    k = 2 * jnp.pi * frequency
    kept = frequency <= n // 3

    def flux(v: Array) -> Array:
        return -0.5j * k * kept * jnp.fft.rfft(jnp.fft.irfft(v * kept, n) ** 2)

    return jnp.fft.irfft(integrating_factor_rk4(flux, -viscosity * k**2, jnp.fft.rfft(u0), h, steps), n)


def integrating_factor_rk4(
    nonlinear: Callable[[Array], Array],
    linear: Float[Array, "*modes"],
    v: Complex[Array, "*batch_and_modes"],
    h: float | Float[Array, ""],
    steps: int | Int[Array, ""],
) -> Complex[Array, "*batch_and_modes"]:
    r"""Steps of the classical Runge-Kutta method for $\dot v = Lv + N(v)$, with the diagonal L solved exactly.

    The method of order four in the variable $e^{-tL} v$ (Lawson's).

    Arguments:
        nonlinear: N.
        linear: The diagonal of L, such as -ν k² for diffusion.
        v: Start, whose last axes are those of L.
        h: Step size in time.
        steps: How many.
    """
    decay = jnp.exp(linear * h / 2)  # over half a step

    def step(_: Array, v: Array) -> Array:
        a = nonlinear(v)
        b = nonlinear(decay * (v + h / 2 * a))
        c = nonlinear(decay * v + h / 2 * b)
        d = nonlinear(decay * (decay * v + h * c))
        return decay**2 * (v + h / 6 * a) + h / 3 * decay * (b + c) + h / 6 * d

    return jax.lax.fori_loop(0, steps, step, v)


def burgers_pairs(key: PRNGKeyArray, samples: int, points: int, *, viscosity: float = 0.01) -> Pairs:
    """Random initial conditions (`gaussian_random_field`) and the solutions at time 1, one channel each.

    Solved with as many time steps as grid points, several times more than stability needs.

    Arguments:
        key: Of the draws.
        samples: How many pairs.
        points: Grid points.
        viscosity: ν. At 0.1 nothing but one sinusoid of a sixtieth of the size is left; 0.01 leaves steep fronts.
    """

    @jax.jit
    def draw(key: PRNGKeyArray) -> Pairs:
        u0 = gaussian_random_field(key, samples, points)
        return u0[:, None], solve_burgers(u0, points, viscosity=viscosity)[:, None]

    return draw(key)


def burgers_operator(
    build: Callable[[PRNGKeyArray], Any],
    train: Pairs,
    test: Pairs,
    *,
    validation: Pairs | None = None,
    batch_size: int | None = 20,
) -> Minimization:
    """Learn the map from initial condition to solution: minimize the mean relative L2 error over the training pairs.

    Records the training loss and ``test_error``, the same on the test pairs; with validation pairs,
    ``validation_error`` too, by which `attractor.compare` then chooses.

    Arguments:
        build: ``key -> model``, with ``model(u0 (1, points)) -> u (1, points)``.
        train: Pairs from `burgers_pairs`.
        test: The same, held out.
        validation: The same again, to choose a learning rate by.
        batch_size: Pairs per step; `None`: all.
    """
    blank = Minimization.of_model(build, operator_loss, train, batch_size=batch_size)
    parts = {"test": test} if validation is None else {"validation": validation, "test": test}
    probes = held_out(parts, {"error": (blank.loss, "min")})
    return Minimization(blank.loss, blank.init, train, batch_size=batch_size, probes=probes)


def operator_loss(model: Callable, pairs: Pairs) -> Float[Array, ""]:
    """Mean of `relative_l2` over ``(input, target)`` pairs."""
    inputs, targets = pairs
    return relative_l2(jax.vmap(model)(inputs), targets).mean()


def relative_l2(
    prediction: Float[Array, "samples *shape"], target: Float[Array, "samples *shape"]
) -> Float[Array, " samples"]:
    """L2 distance from the target over the target's L2 norm, sample by sample."""
    difference, target = (f.reshape(len(f), -1) for f in (prediction - target, target))
    return jnp.linalg.norm(difference, axis=1) / jnp.linalg.norm(target, axis=1)
