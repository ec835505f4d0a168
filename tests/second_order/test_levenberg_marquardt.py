"""Levenberg-Marquardt, classic and with damping by powers of the residual, and the mass-action network it solves."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from scipy.optimize import least_squares

from attractor import problems, run
from attractor.objectives import Composite
from attractor.second_order import LevenbergMarquardt, ResidualLevenbergMarquardt, damped_step
from attractor.second_order.levenberg_marquardt import model_step

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("diagonal", [False, True])
@pytest.mark.parametrize("shape", [(7, 4), (4, 4), (3, 6)])
def test_step_is_that_of_a_dense_solve(shape, diagonal):
    jacobian, gradient = RNG.standard_normal(shape), RNG.standard_normal(shape[1])
    if shape[0] < shape[1]:
        gradient = jacobian.T @ RNG.standard_normal(shape[0])
    hessian = jacobian.T @ jacobian
    weights = np.diag(np.diag(hessian)) if diagonal else np.eye(shape[1])
    with jax.enable_x64(True):
        found = damped_step(jnp.asarray(jacobian), jnp.asarray(gradient), 0.3, diagonal)
    np.testing.assert_allclose(found, -np.linalg.solve(hessian + 0.3 * weights, gradient), rtol=1e-10)


def test_small_singular_values_are_not_lost():
    with jax.enable_x64(True):
        jacobian = jnp.diag(jnp.asarray([1.0, 1e-12]))
        np.testing.assert_allclose(damped_step(jacobian, jacobian.T @ jnp.ones(2), 0.0), [-1, -1e12], rtol=1e-8)


def test_repeated_samples_give_the_shortest_step_and_not_rounding():
    jacobian = np.random.default_rng(0).standard_normal((5, 17)).astype(np.float32)[[0, 1, 2, 3, 4, 4, 2, 0]]
    residuals = np.arange(1.0, 9.0, dtype=np.float32)[[0, 1, 2, 3, 4, 4, 2, 0]]
    found = damped_step(jnp.asarray(jacobian), jnp.asarray(jacobian.T @ residuals), 0.0)
    expected = np.linalg.lstsq(jacobian.astype(float), -residuals.astype(float), rcond=1e-6)[0]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_no_curvature_and_no_damping_means_no_step():
    for diagonal in (False, True):
        np.testing.assert_array_equal(damped_step(jnp.zeros((2, 3)), jnp.zeros(3), 0.0, diagonal), np.zeros(3))


def _valley(x):
    return np.array([20**0.5 * (x[1] - x[0] ** 2), 1 - x[0]])


def _slope(x):
    return np.array([[-2 * 20**0.5 * x[0], 20**0.5], [-1, 0]])


def _problem():
    return Composite.least_squares(
        lambda x: jnp.array([20**0.5 * (x[1] - x[0] ** 2), 1 - x[0]]), jnp.array([-1.2, 1.0])
    )


def test_power_damping_by_hand():
    x = np.array([-1.2, 1.0])
    for _ in range(10):
        h, jacobian = _valley(x), _slope(x)
        gradient = jacobian.T @ h
        damping = 0.5 * np.linalg.norm(h) ** 1.5 + 0.2 * np.linalg.norm(gradient) ** 1.5
        x = x - np.linalg.solve(jacobian.T @ jacobian + damping * np.eye(2), gradient)
    with jax.enable_x64(True):
        found = run(_problem(), ResidualLevenbergMarquardt(0.5, 0.2, 1.5), steps=10).final
    np.testing.assert_allclose(found[0, 0], x, rtol=1e-8)


def test_the_square_keeps_no_damping_below_the_root_of_the_precision():
    jacobian, gradient = np.diag([1.0, 1e-2]).astype(np.float32), np.array([0.3, -0.2], np.float32)
    root = np.finfo(np.float32).eps ** 0.5  # 3.5e-4, beside a curvature of 1e-4
    for damping in (0.0, 1e-6):
        found = damped_step(jnp.asarray(jacobian), jnp.asarray(gradient), damping, solve="cholesky")
        np.testing.assert_allclose(found, -gradient / (np.diag(jacobian) ** 2 + root), rtol=1e-4)
    found = damped_step(jnp.asarray(jacobian), jnp.asarray(gradient), 1e-3, solve="cholesky")
    np.testing.assert_allclose(found, -gradient / (np.diag(jacobian) ** 2 + 1e-3), rtol=1e-4)


@pytest.mark.parametrize("solve", ["svd", "cholesky"])
@pytest.mark.parametrize("diagonal", [False, True])
def test_a_step_solves_the_damped_system_and_says_what_it_promises(diagonal, solve):
    jacobian, residuals = RNG.standard_normal((6, 4)) * [1.0, 0.1, 3.0, 0.5], RNG.standard_normal(6)
    gradient, hessian = jacobian.T @ residuals, jacobian.T @ jacobian
    weights = np.diag(np.diag(hessian)) if diagonal else np.eye(4)
    expected = -np.linalg.solve(hessian + 0.3 * weights, gradient)
    with jax.enable_x64(True):
        step, promised = model_step(jnp.asarray(jacobian), jnp.asarray(gradient), 0.3, diagonal, solve)
    np.testing.assert_allclose(step, expected, rtol=1e-9)
    lower = np.sum((residuals + jacobian @ expected) ** 2) / 2
    np.testing.assert_allclose(promised, np.sum(residuals**2) / 2 - lower, rtol=1e-9)


@pytest.mark.parametrize("diagonal", [False, True])
def test_classic_rule_by_hand(diagonal):
    x, damping = np.array([-1.2, 1.0]), 1e-3
    for _ in range(10):
        h, jacobian = _valley(x), _slope(x)
        hessian = jacobian.T @ jacobian
        weights = np.diag(np.diag(hessian)) if diagonal else np.eye(2)
        new = x - np.linalg.solve(hessian + damping * weights, jacobian.T @ h)
        accepted = np.sum(_valley(new) ** 2) < np.sum(h**2)
        x, damping = (new, damping / 10) if accepted else (x, damping * 10)
    with jax.enable_x64(True):
        found = run(_problem(), LevenbergMarquardt(diagonal=diagonal), steps=10).final
    np.testing.assert_allclose(found[0, 0], x, rtol=1e-8)


def test_the_loss_never_rises_and_the_damping_stays_finite():
    losses = run(_problem(), LevenbergMarquardt(), steps=200, every=1)["loss"].values[0, 0]
    assert (np.diff(losses) <= 0).all()
    assert losses[-1] < 1e-10


def test_other_outer_losses_take_their_gauss_newton_matrix():
    rows, labels = RNG.standard_normal((20, 3)), RNG.integers(0, 2, 20)

    def cross_entropy(z, batch):  # and a share of the softmax of all, so that its Hessian is not diagonal
        return jnp.sum(jnp.logaddexp(0.0, z) - batch[1] * z) + 3 * jax.nn.logsumexp(z * jnp.arange(20.0) / 10)

    with jax.enable_x64(True):
        problem = Composite(lambda x, batch: batch[0] @ x, cross_entropy, jnp.zeros(3), (rows, labels.astype(float)))
        found = run(problem, LevenbergMarquardt(damping=0.1), steps=1).final[0, 0]
    scale = np.arange(20) / 10
    outer = np.eye(20) / 4 + 3 * (np.diag(scale**2) / 20 - np.outer(scale, scale) / 400)
    gradient, hessian = rows.T @ (0.5 - labels + 3 * scale / 20), rows.T @ outer @ rows
    np.testing.assert_allclose(found, -np.linalg.solve(hessian + 0.1 * np.eye(3), gradient), rtol=1e-8)


def test_steady_states_are_those_that_scipy_finds():
    with jax.enable_x64(True):
        problem = problems.mass_action_network(receptors=2, ligands=2, share=0.9, seed=1)
        trace = run(problem, ResidualLevenbergMarquardt(0.1, 0.1), steps=60)
        start = problem.init(jr.key(5))
        residuals, slopes = (
            jax.jit(lambda x: problem.inner(x, None)),
            jax.jit(jax.jacfwd(lambda x: problem.inner(x, None))),
        )
        expected = least_squares(residuals, start, slopes, xtol=1e-14)
        assert trace.last("loss").item() < 1e-20
        np.testing.assert_allclose(trace.final[0, 0], expected.x, rtol=1e-6)
        assert problem.inner(start, None).shape == start.shape


def test_refuses_bad_hyperparameters():
    for name in ("residual_weight", "gradient_weight", "power"):
        with pytest.raises(ValueError, match=name):
            ResidualLevenbergMarquardt(**{name: -1.0})
    with pytest.raises(ValueError, match="factor"):
        LevenbergMarquardt(factor=0.5)
    with pytest.raises(ValueError, match="solve"):
        LevenbergMarquardt(solve="lu")
    with pytest.raises(ValueError, match="share"):
        problems.mass_action_network(share=1.5)
