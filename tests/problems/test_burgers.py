"""The Burgers solver against exponax, the Cole-Hopf solution and conservation laws; the random field's spectrum."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from attractor.problems.burgers import burgers_pairs, gaussian_random_field, relative_l2, solve_burgers


def test_solver_agrees_with_exponax():
    exponax = pytest.importorskip("exponax")
    with jax.enable_x64(True):
        u0 = jnp.asarray(np.asarray(gaussian_random_field(jr.key(0), 2, 128)), dtype=jnp.float64)
        stepper = exponax.stepper.Burgers(1, 1.0, 128, 1 / 800, diffusivity=0.02, convection_scale=1.0, order=4)
        for start, end in zip(u0, solve_burgers(u0, 800, viscosity=0.02), strict=True):
            theirs = exponax.repeat(stepper, 800)(start[None])[0]
            np.testing.assert_allclose(end, theirs, atol=1e-6)


def test_solver_agrees_with_the_cole_hopf_solution():
    with jax.enable_x64(True):
        n, viscosity, time = 128, 0.05, 0.3
        x, k = np.arange(n) / n, 2 * np.pi * np.fft.fftfreq(n, 1 / n)
        u0 = np.sin(2 * np.pi * x)
        # u = -2ν (log φ)' where φ solves the heat equation from exp(-∫u0 / 2ν).
        phi = np.exp((np.cos(2 * np.pi * x) - 1) / (2 * np.pi) / (2 * viscosity))
        spectrum = np.fft.fft(phi) * np.exp(-viscosity * k**2 * time)
        expected = -2 * viscosity * np.fft.ifft(1j * k * spectrum).real / np.fft.ifft(spectrum).real
        np.testing.assert_allclose(
            solve_burgers(jnp.asarray(u0), 400, viscosity=viscosity, time=time), expected, atol=1e-8
        )


def test_solver_is_of_order_four_and_conserves_the_mean():
    with jax.enable_x64(True):
        u0 = jnp.asarray(np.asarray(gaussian_random_field(jr.key(1), 3, 64)), dtype=jnp.float64) + 0.3
        reference = solve_burgers(u0, 1_600)
        coarse, fine = (relative_l2(solve_burgers(u0, n), reference).mean() for n in (100, 200))
        assert 3.5 < np.log2(coarse / fine) < 4.7
        np.testing.assert_allclose(reference.mean(1), 0.3, atol=1e-10)


def test_field_has_the_stated_covariance():
    u = np.asarray(gaussian_random_field(jr.key(0), 4_000, 16))
    power = (np.abs(np.fft.rfft(u, axis=1) / 16) ** 2).mean(0)
    k = 2 * np.pi * np.arange(9)
    expected = np.where((k == 0) | (np.arange(9) == 8), 0.0, 625 / (k**2 + 25) ** 2)
    np.testing.assert_allclose(power, expected, rtol=0.1, atol=1e-12)


def test_pairs_are_inputs_and_solutions():
    u0, u = burgers_pairs(jr.key(0), 3, 64, viscosity=0.05)
    assert u0.shape == u.shape == (3, 1, 64)
    np.testing.assert_allclose(u[:, 0], solve_burgers(u0[:, 0], 256, viscosity=0.05), atol=1e-5)


@pytest.mark.parametrize(("argument", "value"), [("steps", 0), ("viscosity", -1.0), ("time", 0.0)])
def test_solver_refuses(argument, value):
    with pytest.raises(ValueError, match=argument):
        solve_burgers(jnp.zeros(8), **{"steps": 1, argument: value})


@pytest.mark.parametrize(
    ("argument", "value"), [("samples", 0), ("points", 2), ("tau", -1.0), ("sigma", -1.0), ("alpha", 0.5)]
)
def test_field_refuses(argument, value):
    with pytest.raises(ValueError, match=argument):
        gaussian_random_field(jr.key(0), **{"samples": 1, "points": 8, argument: value})
