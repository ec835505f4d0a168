"""The problems with several losses: a solution known otherwise, and pictures made of two."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from attractor.problems import bilevel_quadratic, burgers_pinn, burgers_wave, digits, overlaid_digits
from attractor.problems.burgers import solve_burgers
from attractor.problems.multitask import overlaid


def test_the_wave_agrees_with_a_spectral_solver():
    # x in [-1, 1] and time t correspond to the unit circle with u/2, and a quarter of the viscosity.
    x = np.linspace(-1, 1, 256, endpoint=False)
    with jax.enable_x64(True):
        spectral = 2 * solve_burgers(jnp.asarray(-np.sin(np.pi * x)) / 2, 2_000, viscosity=0.05 / 4, time=0.7)
    np.testing.assert_allclose(burgers_wave(np.full(256, 0.7), x, 0.05), spectral, atol=1e-7)


def test_the_losses_vanish_for_the_solution_and_not_otherwise():
    problem = burgers_pinn(batch_size=None, points=64)
    losses = problem.losses(problem.init(jr.key(0)), problem.full)
    assert losses.shape == (3,)
    assert (losses > 0).all()
    with pytest.raises(ValueError, match="viscosity"):
        burgers_pinn(viscosity=1e-3)


def test_the_residual_is_that_of_the_equation():
    """Against finite differences of the untrained network, in double precision."""
    with jax.enable_x64(True):
        problem = burgers_pinn(viscosity=0.3, points=4, batch_size=None)
        params = jax.tree.map(lambda a: a.astype(jnp.float64), problem.init(jr.key(0)))
        t, x = np.asarray(problem.full["inside"], float).T
        h = 1e-4

        def u(t, x):
            z = jnp.stack([jnp.asarray(t), jnp.asarray(x)], 1)
            for layer in params.layers[:-1]:
                z = jnp.tanh(z @ layer.weight.T + layer.bias)
            return np.asarray(z @ params.layers[-1].weight.T + params.layers[-1].bias)[:, 0]

        u_t, u_x = (u(t + h, x) - u(t - h, x)) / (2 * h), (u(t, x + h) - u(t, x - h)) / (2 * h)
        u_xx = (u(t, x + h) - 2 * u(t, x) + u(t, x - h)) / h**2
        expected = np.mean((u_t + u(t, x) * u_x - 0.3 * u_xx) ** 2)
        assert problem.losses(params, problem.full)[0] == pytest.approx(expected, rel=1e-5)


def test_overlaid_pictures_hold_both_digits():
    images, labels = digits()[1]
    pictures, both = overlaid(images, labels, pairs=50, seed=3)
    left, right = np.random.default_rng(3).integers(len(images), size=(2, 50))
    canvas = np.asarray(pictures).reshape(50, 8, 12)
    np.testing.assert_array_equal(canvas[:, :, :4], images[left].reshape(50, 8, 8)[:, :, :4])
    np.testing.assert_array_equal(canvas[:, :, 8:], images[right].reshape(50, 8, 8)[:, :, 4:])
    np.testing.assert_array_equal(both, np.stack([labels[left], labels[right]], 1))


def test_the_losses_are_those_of_the_two_labels():
    problem = overlaid_digits(width=4, pairs=32, batch_size=None)
    x = problem.init(jr.key(0))
    both = problem.losses(x, problem.full)
    assert float(problem.loss(x, problem.full)) == pytest.approx(float(both.sum()), rel=1e-6)
    swapped = (problem.full[0], problem.full[1][:, ::-1])
    assert not np.allclose(problem.losses(x, swapped), both)


def test_the_bilevel_quadratic_has_the_optimum_it_says():
    problem, optimum = bilevel_quadratic(seed=1, dim=6, samples=40)
    main, auxiliary = problem.gradients(jnp.zeros(6), problem.full)
    np.testing.assert_allclose(main, 0, atol=1e-6)  # the noise has mean 0
    best = -auxiliary * (jnp.arange(6) >= 3)  # c in the flat half
    assert problem.losses(best, problem.full) == pytest.approx([0, optimum], abs=1e-5)
    one = jax.tree.map(lambda a: a[:1], problem.full)
    np.testing.assert_allclose(problem.gradients(jnp.zeros(6), one)[0], problem.full[0], rtol=1e-6)
    with pytest.raises(ValueError, match="dim"):
        bilevel_quadratic(dim=5)
