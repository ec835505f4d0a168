"""Primal-dual methods against a loop in NumPy, the saddle point of a linear solve, and the bound of the docstring."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from attractor.games import AcceleratedPrimalDual, LinearizedPrimalDual, SaddlePoint

RNG = np.random.default_rng(0)
A, C, X, Y, MU = RNG.normal(size=(3, 4)), RNG.normal(size=4), RNG.normal(size=4), RNG.normal(size=3), 0.7
Q = np.diag([3.0, 1.0, 0.2, 0.0])


def problem(bend=0.0):
    """h = mu |y|²/2, and a coupling that is nonlinear in x where ``bend`` is not 0."""
    return SaddlePoint(
        lambda x: (x - C) @ Q @ (x - C) / 2,
        lambda x, y: y @ (A @ x) + bend * jnp.sum(jnp.sin(x)) * y[0],
        lambda y: MU * y @ y / 2,
        lambda y, step: y / (1 + MU * step),
        (jnp.asarray(X), jnp.asarray(Y)),
    )


def loop(steps_of, accelerated, count, bend):
    x, y, mean_x, mean_y = X, Y, X, Y
    before = A @ x + bend * np.sin(x).sum() * np.eye(3)[0]
    for k in range(1, count + 1):
        beta, theta, sigma, tau = steps_of(k)
        slope = A @ x + bend * np.sin(x).sum() * np.eye(3)[0]
        y = (y + sigma * (slope + theta * (slope - before))) / (1 + MU * sigma)
        middle = (1 - 1 / beta) * mean_x + x / beta if accelerated else x
        x, before = x - tau * (Q @ (middle - C) + A.T @ y + bend * np.cos(x) * y[0]), slope
        mean_x, mean_y = (1 - 1 / beta) * mean_x + x / beta, (1 - 1 / beta) * mean_y + y / beta
    return x, y, mean_x, mean_y


@pytest.mark.parametrize(
    ("method", "steps_of", "accelerated"),
    [
        (AcceleratedPrimalDual, lambda k: ((k + 1) / 2, (k - 1) / k, 3 / (MU * k), k / (2 * 3 + 3 * 4 / MU)), True),
        (LinearizedPrimalDual, lambda k: (k, 1.0, 1 / MU, 1 / (3 + 4 / MU)), False),
    ],
)
def test_steps_are_those_of_numpy(method, steps_of, accelerated):
    with jax.enable_x64(True):
        game, own = problem(0.3), method(3.0, 2.0, MU)
        z = game.init(jr.key(0))
        state, step = own.init(game, z, jr.key(0)), jax.jit(lambda z, s: own.step(game, z, s, jr.key(0)))
        for _ in range(9):
            z, state = step(z, state)
        found = np.concatenate([*z, *own.readout(z, state)])
        np.testing.assert_allclose(found, np.concatenate(loop(steps_of, accelerated, 9, 0.3)), atol=1e-12)


@pytest.mark.parametrize("method", [AcceleratedPrimalDual, LinearizedPrimalDual])
def test_reaches_the_saddle_point_of_the_linear_solve_and_keeps_its_bound(method):
    with jax.enable_x64(True):
        game, norm = problem(), np.linalg.norm(A, 2)
        saddle = np.linalg.solve(np.block([[Q, A.T], [A, -MU * np.eye(3)]]), np.concatenate([Q @ C, np.zeros(3)]))
        best_x, best_y = saddle[:4], saddle[4:]
        own, z = method(3.0, norm, MU), game.init(jr.key(0))

        def step(carry, _):
            carry = own.step(game, *carry, jr.key(0))
            x, y = own.readout(*carry)
            return carry, game.payoff(x, best_y) - game.payoff(best_x, y)

        (z, _), gaps = jax.lax.scan(step, (z, own.init(game, z, jr.key(0))), None, 4_000)
        np.testing.assert_allclose(np.concatenate(z), saddle, atol=1e-6 if method is LinearizedPrimalDual else 1e-3)
        n = np.arange(1, 4_001)
        far = np.sum((X - best_x) ** 2), np.sum((Y - best_y) ** 2)
        accelerated = ((2 * 3 + 3 * norm**2 / MU) * far[0] + MU * far[1] / 3) / (n * (n + 1))
        plain = ((3 + norm**2 / MU) * far[0] + MU * far[1]) / (2 * n)
        assert (np.asarray(gaps) <= (accelerated if method is AcceleratedPrimalDual else plain)).all()


@pytest.mark.parametrize("name", ["smoothness", "coupling", "concavity"])
def test_bad_arguments_are_named(name):
    with pytest.raises(ValueError, match=name):
        AcceleratedPrimalDual(**{name: 0.0})
