"""Every system has a root within its bounds; some by hand; errors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import least_squares

from attractor.problems import bounded_systems

KNOWN = {
    "root on the upper bound": np.ones(10),
    "root on the lower bound": np.zeros(10),
    "root in a corner": np.tile([1.0, 0.0], 5),
    "Himmelblau": np.tile([3.0, 2.0], 5),
    "Ferraris and Tronconi": np.tile([0.5, np.pi], 5),
    "almost linear": np.ones(10),
}


def test_known_roots_solve_them_and_lie_within_the_bounds():
    with jax.enable_x64(True):
        systems = bounded_systems()
        for name, root in KNOWN.items():
            residuals, lower, upper = systems[name]
            np.testing.assert_allclose(residuals(jnp.asarray(root)), 0, atol=1e-12, err_msg=name)
            assert ((lower <= root) & (root <= upper)).all(), name
            away = residuals(jnp.asarray(root).at[3].add(0.1))
            assert float(jnp.abs(away).max()) > 1e-3, name


def test_the_others_have_roots_that_another_program_finds():
    with jax.enable_x64(True):
        for name, (residuals, lower, upper) in bounded_systems().items():
            if name in KNOWN:
                continue
            solve, rng = jax.jit(residuals), np.random.default_rng(0)
            starts = [lower + (upper - lower) * rng.uniform(0.05, 0.95, 10) for _ in range(6)]
            costs = [least_squares(lambda x, f=solve: np.asarray(f(x)), x, bounds=(lower, upper)).cost for x in starts]
            assert min(costs) < 1e-10, name


def test_written_out_by_hand():
    x = jnp.linspace(0.2, 0.9, 10)
    systems = bounded_systems()
    broyden = systems["Broyden tridiagonal"].residuals(x)
    assert float(broyden[4]) == pytest.approx(float((3 - 2 * x[4]) * x[4] - x[3] - 2 * x[5] + 1), rel=1e-5)
    assert float(broyden[9]) == pytest.approx(float((3 - 2 * x[9]) * x[9] - x[8] + 1), rel=1e-5)
    t = np.arange(1, 11) / 11
    others = np.asarray(x, float)
    cubes = (others + t + 1) ** 3
    integral = others[3] + ((1 - t[3]) * (t[:4] * cubes[:4]).sum() + t[3] * ((1 - t[4:]) * cubes[4:]).sum()) / 22
    assert float(systems["integral equation"].residuals(x)[3]) == pytest.approx(integral, rel=1e-5)
    mu = (np.arange(10) + 0.5) / 10
    transport = others[2] * (1 - 0.99 / 20 * (mu[2] / (mu[2] + mu) * others).sum()) - 1
    assert float(systems["transport"].residuals(x)[2]) == pytest.approx(transport, rel=1e-5)
    b, c, e = others[[6, 7, 9]]
    third = 2 * b * c**2 + 2 * 0.193 * c**2 - 8 * e + (0.002597 * c + 0.003448 * b * c) / np.sqrt(40)
    assert float(systems["propane"].residuals(x)[7]) == pytest.approx(third, rel=1e-5)
    scaled = systems["badly scaled"].residuals(x)
    assert float(scaled[0]) == pytest.approx(1e4 * others[0] * others[1] - 1, rel=1e-5)
    assert float(scaled[5]) == pytest.approx(np.exp(-others[0]) + np.exp(-others[1]) - 1.0001, rel=1e-4)


def test_errors():
    with pytest.raises(ValueError, match="dim"):
        bounded_systems(12)
