"""The vorticity solver against exponax, exact flows and itself; the random field's spectrum."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from attractor.problems.navier_stokes import solve_navier_stokes, vorticity_field


def grid(n):
    return np.meshgrid(np.arange(n) / n, np.arange(n) / n, indexing="ij")


def start(n=32):
    """Smooth, and without symmetry between the axes."""
    x, y = (2 * np.pi * a for a in grid(n))
    return np.sin(x) * np.cos(2 * y) + 0.7 * np.cos(3 * x + y) - 0.4 * np.sin(y + 0.3)


def test_solver_agrees_with_exponax():
    exponax = pytest.importorskip("exponax")
    with jax.enable_x64(True):
        w0 = jnp.asarray(start())
        stepper = exponax.stepper.NavierStokesVorticity(2, 1.0, 32, 1 / 200, diffusivity=0.005, order=4)
        theirs = exponax.repeat(stepper, 200)(w0[None])[0]
        moved = np.abs(theirs - w0 * np.exp(-0.005 * 4 * np.pi**2)).max()
        assert moved > 0.1  # advection does something
        np.testing.assert_allclose(solve_navier_stokes(w0, 200, viscosity=0.005), theirs, atol=1e-6)


def test_the_first_change_is_that_of_the_equation():
    with jax.enable_x64(True):
        x, y = grid(32)
        modes = [(1, 2, 0.5, 0.4), (3, 1, 0.7, -1.0), (0, 1, -0.4, 0.3), (2, -1, 0.3, 2.0)]  # kx, ky, size, phase
        w, ux, uy, wx, wy, spread, force = np.zeros((7, 32, 32))
        for kx, ky, size, phase in modes:
            kx, ky = 2 * np.pi * kx, 2 * np.pi * ky
            cosine, sine = size * np.cos(kx * x + ky * y + phase), size * np.sin(kx * x + ky * y + phase)
            w, wx, wy, spread = w + cosine, wx - kx * sine, wy - ky * sine, spread - (kx**2 + ky**2) * cosine
            ux, uy = ux - ky * sine / (kx**2 + ky**2), uy + kx * sine / (kx**2 + ky**2)
        force += 0.3 * np.sin(2 * np.pi * (x - 2 * y))
        expected = force + 0.02 * spread - ux * wx - uy * wy
        assert np.abs(ux * wx + uy * wy).max() > 0.1

        def moved(h):
            return (solve_navier_stokes(jnp.asarray(w), 1, viscosity=0.02, time=h, force=jnp.asarray(force)) - w) / h

        found = 2 * moved(1e-5) - moved(2e-5)  # without the term of first order in h
        np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max())


def test_a_single_mode_grows_towards_the_balance_of_force_and_diffusion():
    with jax.enable_x64(True):
        x, y = grid(16)
        mode, viscosity, time = np.cos(2 * np.pi * (2 * x + y)), 0.01, 0.7
        rate = viscosity * 4 * np.pi**2 * 5
        w = solve_navier_stokes(
            jnp.asarray(0.3 * mode),
            40,
            viscosity=viscosity,
            time=time,
            force=lambda x, y: jnp.cos(2 * jnp.pi * (2 * x + y)),
        )
        expected = (0.3 * np.exp(-rate * time) + (1 - np.exp(-rate * time)) / rate) * mode
        np.testing.assert_allclose(w, expected, atol=1e-7)


def test_solver_is_of_order_four_takes_batches_and_keeps_the_mean():
    with jax.enable_x64(True):
        w0 = jnp.asarray(np.stack([4 * start(), 0.3 + 2 * start().T]))
        reference = solve_navier_stokes(w0, 320, force=0.2)
        coarse, fine = (np.abs(solve_navier_stokes(w0, n, force=0.2) - reference).max() for n in (20, 40))
        assert 3.5 < np.log2(coarse / fine) < 4.7
        np.testing.assert_allclose(reference.mean((1, 2)), w0.mean((1, 2)) + 0.2, atol=1e-10)


def test_field_has_the_stated_covariance():
    w = np.asarray(vorticity_field(jr.key(0), 4_000, 8, tau=3.0, sigma=5.0, alpha=2.0))
    power = (np.abs(np.fft.rfft2(w, norm="forward")) ** 2).mean(0)
    k = 2 * np.pi * 8 * np.fft.fftfreq(8)
    expected = 25 / (k[:, None] ** 2 + k[:5] ** 2 + 9) ** 2
    expected[0, 0] = 0
    np.testing.assert_allclose(power, expected, rtol=0.12, atol=1e-12)


@pytest.mark.parametrize(("argument", "value"), [("steps", 0), ("viscosity", -1.0), ("time", 0.0)])
def test_solver_refuses(argument, value):
    with pytest.raises(ValueError, match=argument):
        solve_navier_stokes(jnp.zeros((8, 8)), **{"steps": 1, argument: value})


@pytest.mark.parametrize(
    ("argument", "value"), [("samples", 0), ("points", 2), ("tau", -1.0), ("sigma", -1.0), ("alpha", 1.0)]
)
def test_field_refuses(argument, value):
    with pytest.raises(ValueError, match=argument):
        vorticity_field(jr.key(0), **{"samples": 1, "points": 8, argument: value})
