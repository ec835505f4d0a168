"""Cases for theorems: their solutions are stationary, and their constants are those of the loss."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from attractor.problems import rate_cases as cases


@pytest.mark.parametrize(("l1", "l2"), [(0.0, 0.0), (0.0, 0.1), (0.1, 0.0), (0.05, 0.2)])
def test_the_penalized_solution_is_optimal(l1, l2):
    with jax.enable_x64(True):
        problem, objective, w, constants = cases.penalized_least_squares(l1=l1, l2=l2)
        slope = np.asarray(jax.grad(problem.loss)(jnp.asarray(w), problem.full))
        used = np.abs(w) > 1e-12
        np.testing.assert_allclose(slope[used], -l1 * np.sign(w[used]), atol=1e-6)
        assert np.abs(slope).max() <= l1 + 1e-6
        assert float(objective(jnp.asarray(w))) == pytest.approx(
            float(problem.loss(jnp.asarray(w), problem.full)) + l1 * np.abs(w).sum()
        )
        each = np.asarray(problem.oracles(jnp.asarray(w), problem.full)["per_example"]())
    noise = np.mean(np.sum((each - each.mean(0)) ** 2, 1))
    assert constants["noise"] == pytest.approx(noise, rel=1e-5)


def test_interpolation_fits_every_example():
    problem, objective, w, constants = cases.interpolating_least_squares(seed=2)
    rows, targets = (np.asarray(a) for a in problem.full)
    assert rows.shape == (8, 20)
    np.testing.assert_allclose(rows @ w, targets, atol=1e-4)
    assert float(objective(jnp.asarray(w))) < 1e-8
    assert constants["misfit"] == constants["noise"] == 0
    assert constants["mu"] > 0


def test_the_wave_is_pl_and_not_convex():
    problem, objective, w, constants = cases.wave_in_a_bowl()
    x = np.linspace(-6, 6, 2_001)
    slope, curvature = 2 * x + 3 * np.sin(2 * x), 2 + 6 * np.cos(2 * x)
    value = x**2 + 3 * np.sin(x) ** 2
    assert float(objective(jnp.array([1.3]))) == pytest.approx(1.3**2 + 3 * np.sin(1.3) ** 2, rel=1e-6)
    assert (np.abs(curvature).max(), float(objective(jnp.asarray(w)))) == (pytest.approx(constants["L"]), 0.0)
    assert curvature.min() < 0
    assert (slope**2 >= 2 * constants["mu"] * value).all()
    np.testing.assert_array_equal(problem.init(jax.random.key(0)), [5.0])


def test_absolute_deviations_are_no_smaller_beside_the_solution():
    problem, objective, w, constants = cases.absolute_deviations(step=0.03)
    least = float(objective(jnp.asarray(w)))
    assert least == pytest.approx(float(problem.optimum), rel=1e-5)
    for direction in np.random.default_rng(0).standard_normal((20, len(w))):
        assert float(objective(jnp.asarray(w + 0.01 * direction))) >= least - 1e-6
    assert constants["step"] == 0.03


@pytest.mark.parametrize(
    ("make", "bad"), [(cases.penalized_least_squares, {"l1": -1.0}), (cases.absolute_deviations, {"step": 0.0})]
)
def test_errors_name_the_argument(make, bad):
    with pytest.raises(ValueError, match=next(iter(bad))):
        make(**bad)
