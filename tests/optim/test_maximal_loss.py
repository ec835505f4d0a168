"""The softmax's bounds, a hand-written ball, and samples of the right frequency."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from scipy.optimize import minimize

from attractor import Minimization, run
from attractor.optim import (
    BallAcceleration,
    BallDescent,
    amplified_categorical,
    categorical,
    minimize_in_ball,
    soft_maximum,
)

ROWS, OFFSETS = np.array([[1.0, 2.0], [-1.0, 0.5], [0.3, -2.0]]), np.array([0.1, 0.2, -0.3])


def test_soft_maximum():
    values = jnp.array([[1.0, 3.0, 2.0], [0.0, 0.0, 0.0]])
    np.testing.assert_allclose(
        soft_maximum(values, 0.5), 0.5 * np.log(np.exp(2 * np.asarray(values)).sum(1)), rtol=1e-6
    )
    np.testing.assert_allclose(soft_maximum(1e4 * values, 0.5)[0], 3e4)
    with pytest.raises(ValueError, match="smoothing"):
        soft_maximum(jnp.asarray(values), 0.0)


@pytest.mark.parametrize("radius", [0.05, 0.5])
def test_a_ball_by_hand(radius):
    def every_third(key, logits, draws):
        return jnp.arange(draws) % 3

    def loss(x, batch):
        return jnp.mean((batch[0] @ x) ** 2 + batch[1])

    with jax.enable_x64(True):
        problem = Minimization(loss, jnp.array([0.5, -0.2]), (ROWS, OFFSETS))
        method = BallDescent(0.7, radius, 6, every_third)
        got = run(problem, method, steps=1, every=1).final[0, 0]
    x = center = np.array([0.5, -0.2])
    values = (ROWS @ center) ** 2 + OFFSETS
    for i in (0, 1, 2, 0, 1, 2):
        inner = ROWS[i] @ x
        weight = np.exp((inner**2 + OFFSETS[i] - values[i]) / 0.7)
        x = x - radius**2 / (0.7 * np.sqrt(6)) * weight * 2 * inner * ROWS[i]
        if np.linalg.norm(x - center) > radius:
            x = center + radius * (x - center) / np.linalg.norm(x - center)
    np.testing.assert_allclose(got, x, rtol=1e-6)


@pytest.mark.parametrize("sampler", [categorical, amplified_categorical])
def test_samples_follow_the_softmax(sampler):
    logits = jnp.log(jnp.array([0.5, 0.3, 0.2])) + 7.0
    drawn = sampler(jr.key(0), logits, 20_000)
    np.testing.assert_allclose(np.bincount(drawn) / 20_000, [0.5, 0.3, 0.2], atol=0.015)


def _soft(z):
    """Of three squares, smoothed by 0.7."""
    return 0.7 * np.log(np.exp(((ROWS @ z) ** 2 + OFFSETS) / 0.7).sum())


def _in_ball(center, radius):
    """By another program; the multiplier from the gradient, by differences."""
    inside = {"type": "ineq", "fun": lambda z: radius**2 - np.sum((z - center) ** 2)}
    z = minimize(_soft, center, constraints=[inside], options={"ftol": 1e-15, "maxiter": 500}, method="SLSQP").x
    gradient = np.array([(_soft(z + s) - _soft(z - s)) / 2e-6 for s in 1e-6 * np.eye(2)])
    return z, gradient, -gradient @ (z - center) / radius**2


@pytest.mark.parametrize(("radius", "on_boundary"), [(0.2, True), (3.0, False)])
def test_the_minimizer_in_a_ball_is_scipys(radius, on_boundary):
    with jax.enable_x64(True):
        center = jnp.array([0.5, -0.6])
        found, multiplier = minimize_in_ball(
            lambda z: soft_maximum((ROWS @ z) ** 2 + OFFSETS, 0.7), center, radius, steps=12
        )
    expected, _, expected_multiplier = _in_ball(np.asarray(center), radius)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    np.testing.assert_allclose(multiplier, expected_multiplier if on_boundary else 0.0, atol=1e-4)
    assert (abs(np.linalg.norm(found - center) - radius) < 1e-9) == on_boundary


def test_accelerated_balls_by_hand():
    with jax.enable_x64(True):
        problem = Minimization(
            lambda x, batch: jnp.mean((batch[0] @ x) ** 2 + batch[1]), jnp.array([1.5, -1.2]), (ROWS, OFFSETS)
        )
        got = run(problem, BallAcceleration(0.7, 0.15, 1.5, 12), steps=6, every=6).final[0, 0]
    x = v = np.array([1.5, -1.2])
    weight, guess, shares = 0.0, None, []
    for _ in range(6):
        if guess is None:
            found, gradient, guess = _in_ball(x, 0.15)
            multiplier, added = guess, 1 / guess
        else:
            added = (1 + np.sqrt(1 + 4 * guess * weight)) / (2 * guess)
            found, gradient, multiplier = _in_ball((weight * x + added * v) / (weight + added), 0.15)
        share = min(1, guess / multiplier)
        shares.append(share)
        new = weight + share * added
        x = ((1 - share) * weight * x + share * (weight + added) * found) / new
        v, weight = v - share * added * gradient, new
        guess = guess / 1.5 if multiplier <= guess else guess * 1.5
    assert min(shares) < 1, "no guess was too small: the test sees half of the rule only"
    np.testing.assert_allclose(got, x, atol=1e-5)
