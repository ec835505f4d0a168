"""The softmax's bounds, a hand-written ball, and samples of the right frequency."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from attractor import Minimization, run
from attractor.optim import BallDescent, amplified_categorical, categorical, soft_maximum

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
