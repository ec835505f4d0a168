"""Single-loop bilevel methods against NumPy, step by step."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from attractor import Bilevel
from attractor.games import AveragedMultipliers, NormalizedMomentum
from attractor.problems import two_level_quadratic


def test_averaged_multipliers_step_as_in_numpy():
    with jax.enable_x64(True):
        problem, method = two_level_quadratic(4, 6, rank=4, seed=3), AveragedMultipliers(0.05, 0.2, 0.3, 0.4, 0.5)
        start = problem.init(jr.key(0))
        step, carry = (
            jax.jit(lambda c: method.step(problem, *c, jr.key(0))),
            (start, method.init(problem, start, jr.key(0))),
        )
        (x, y), v = map(np.asarray, start), np.zeros(6)
        q, target, c, rho = map(np.asarray, problem.upper.args)
        h, b, offset = map(np.asarray, problem.lower.args)
        for k in range(4):
            carry, mu = step(carry), 0.4 * (1 + k) ** -0.5
            of_y, of_x = q @ (y - target) + c.T @ x, c @ y + rho * x
            slope = mu * of_y + (1 - mu) * (h @ y - b @ x - offset)
            through, product = (mu * c - (1 - mu) * b.T) @ v, (mu * q + (1 - mu) * h) @ v
            x, y, v = x - 0.05 * (of_x - through), y - 0.2 * slope, v - 0.3 * (product - of_y)
        for found, expected in zip((*carry[0], carry[1][0]), (x, y, v), strict=True):
            np.testing.assert_allclose(found, expected, rtol=1e-9)


def test_normalized_momentum_steps_as_in_numpy():
    """Three steps with a period of two and a ball that binds, the lower level's minibatches drawn as it draws them."""
    a = np.random.default_rng(2).normal(size=(3, 2))
    data = tuple(jnp.asarray(np.random.default_rng(i).normal(size=(9, 3))) for i in (0, 1))

    def upper(x, y, batch):
        return jnp.sum(jnp.cosh(y)) + batch.mean(0) @ y + x[0] * x[1]

    def lower(x, y, batch):
        return (1 + batch.mean() ** 2) * jnp.sum((y - a @ x) ** 2) / 2 + batch.mean(0) @ y

    with jax.enable_x64(True):
        data = tuple(jnp.asarray(part, float) for part in data)
        problem = Bilevel(upper, lower, (jnp.array([0.3, -1.0]), jnp.array([1.0, 0.2, -0.5])), data, batch_size=4)
        method = NormalizedMomentum(0.1, 0.3, momentum=0.7, period=2, inner_steps=3, warmup=4, radius=0.05, terms=2)
        carry = problem.init(jr.key(0))
        (x, y), m = map(np.asarray, carry), np.zeros(2)
        carry, step = (carry, method.init(problem, carry, jr.key(0))), jax.jit(lambda c, k: method.step(problem, *c, k))
        for k in range(3):
            carry, key, around = step(carry, jr.key(k)), jr.key(k), y
            for t in range((4, 0, 3)[k]):
                g = np.asarray(problem.sample(jr.fold_in(jr.fold_in(key, 1), t))[1])
                y = y - 0.3 * ((1 + g.mean() ** 2) * (y - a @ x) + g.mean(0))
                if k:
                    y = around + (y - around) * min(1, 0.05 / np.linalg.norm(y - around))
            f, g = map(np.asarray, problem.sample(key))
            h, of_y = 1 + g.mean() ** 2, np.sinh(y) + f.mean(0)
            slope = x[::-1] + h * a.T @ (0.3 * (2 - 0.3 * h) * of_y)
            m = 0.7 * m + 0.3 * slope
            x = x - 0.1 * m / np.linalg.norm(m)
        for found, expected in zip((*carry[0], carry[1][0]), (x, y, m), strict=True):
            np.testing.assert_allclose(found, expected, rtol=1e-9)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: AveragedMultipliers(0.1, 0.1, 0.1, mix=1.0), "mix"),
        (lambda: NormalizedMomentum(0.1, 0.1, momentum=1.0), "momentum"),
    ],
)
def test_bad_arguments_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()
