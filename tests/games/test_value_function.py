"""Penalty methods against NumPy: closed forms on quadratics, and steps on minibatches."""

from functools import partial

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from attractor import Bilevel
from attractor.games import BilevelPenalty, SingleLoopPenalty, penalty_hypergradient
from attractor.problems import two_level_quadratic


def test_penalty_gradient_is_that_of_the_closed_form():
    sigma = 0.05
    with jax.enable_x64(True):
        problem = two_level_quadratic(4, 6, rank=4, seed=3)
        levels = partial(problem.upper, batch=None), partial(problem.lower, batch=None)
        x, start = np.random.default_rng(0).normal(size=4), jnp.zeros(6)
        found = jax.jit(lambda x: penalty_hypergradient(*levels, x, start, sigma=sigma, step_size=0.3, steps=6_000))(x)
    q, target, c, rho = map(np.asarray, problem.upper.args)
    h, b, offset = map(np.asarray, problem.lower.args)
    y = np.linalg.solve(h + sigma * q, b @ x + offset + sigma * (q @ target - c.T @ x))
    z = np.linalg.pinv(h) @ (b @ x + offset)
    np.testing.assert_allclose(found.gradient, c @ y + rho * x - b.T @ (y - z) / sigma, rtol=1e-6)
    np.testing.assert_allclose(found.y, z, atol=1e-9)


B = np.random.default_rng(5).normal(size=(3, 2))


def noisy():
    """Quadratics whose linear terms are the minibatch's means."""

    def upper(x, y, batch):
        return jnp.sum((y - batch.mean(0)) ** 2) / 2 + batch.mean() * x @ x

    def lower(x, y, batch):
        return (1 + batch.mean() ** 2) * y @ y / 2 - y @ (B @ x + batch.mean(0))

    data = tuple(jnp.asarray(np.random.default_rng(i).normal(size=(9, 3))) for i in (0, 1))
    return Bilevel(upper, lower, (jnp.array([0.3, -1.0]), jnp.array([1.0, 0.2, -0.5])), data, batch_size=4)


def slopes(batches, x, y, z, sigma):
    """`penalty_slopes` of the noisy quadratics in NumPy: y, z, x."""
    f, g = map(np.asarray, batches)
    scale, mean = 1 + g.mean() ** 2, g.mean(0)
    own = [scale * at - B @ x - mean for at in (y, z)]
    return sigma * (y - f.mean(0)) + own[0], own[1], 2 * f.mean() * x - B.T @ (y - z) / sigma


def test_double_loop_steps_as_in_numpy():
    with jax.enable_x64(True):
        problem, method = noisy(), BilevelPenalty(0.1, 0.2, sigma=0.4, decay=0.5, inner_steps=2)
        carry = problem.init(jr.key(0))
        carry = carry, method.init(problem, carry, jr.key(0))
        x, y = map(np.asarray, carry[0])
        z, step = y, jax.jit(lambda c, k: method.step(problem, *c, k))
        for k in range(3):
            carry = step(carry, jr.key(k))
            batches, sigma = problem.sample(jr.key(k)), 0.4 * (1 + k) ** -0.5
            for _ in range(2):
                of_y, of_z, _ = slopes(batches, x, y, z, sigma)
                y, z = y - 0.2 * of_y, z - 0.2 * of_z
            x = x - 0.1 * slopes(batches, x, y, z, sigma)[2]
        for found, expected in zip((*carry[0], carry[1][0]), (x, y, z), strict=True):
            np.testing.assert_allclose(found, expected, rtol=1e-9)


def test_single_loop_steps_as_in_numpy():
    with jax.enable_x64(True):
        problem, method = noisy(), SingleLoopPenalty(0.1, 0.2, momentum=0.3, sigma=0.4, decay=0.5)
        carry = problem.init(jr.key(0))
        carry = carry, method.init(problem, carry, jr.key(0))
        (x, y), step = map(np.asarray, carry[0]), jax.jit(lambda c, k: method.step(problem, *c, k))
        z, before, kept = y, None, None
        for k in range(4):
            carry = step(carry, jr.key(k))
            batches, sigma = problem.sample(jr.key(k)), 0.4 * (1 + k) ** -0.5
            now = slopes(batches, x, y, z, sigma)
            if before is not None:
                then = slopes(batches, *before, sigma)
                now = tuple(n + 0.7 * (d - o) for n, d, o in zip(now, kept, then, strict=True))
            before, kept = (x, y, z), now
            y, z, x = y - 0.2 * now[0], z - 0.2 * now[1], x - 0.1 * now[2]
        for found, expected in zip((*carry[0], carry[1].z), (x, y, z), strict=True):
            np.testing.assert_allclose(found, expected, rtol=1e-9)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: BilevelPenalty(0.1, 0.1, sigma=0.0), "sigma"),
        (lambda: SingleLoopPenalty(0.1, 0.1, momentum=0.0), "momentum"),
        (lambda: penalty_hypergradient(max, max, 0.0, 0.0, sigma=-1.0, step_size=0.1, steps=1), "sigma"),
    ],
)
def test_bad_arguments_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()
