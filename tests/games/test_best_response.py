"""Learned best responses: against ridge regression in closed form, and step by step against NumPy."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from attractor import Bilevel
from attractor.games import Response, SelfTuning, gated_ridge


def test_gated_ridge_is_ridge_regression():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(9, 4)), rng.normal(size=9)
    with jax.enable_x64(True):
        plain, gated, gates = map(np.asarray, gated_ridge(jnp.asarray(a), jnp.asarray(b)))
    for penalty in (-6.0, 0.3, 4.0):
        gate = 1 / (1 + np.exp(-gates @ [penalty, 1.0]))
        expected = np.linalg.solve(a.T @ a / 9 + np.exp(penalty) * np.eye(4), a.T @ b / 9)
        np.testing.assert_allclose(gated.T @ (gate * plain), expected, rtol=1e-9)


def test_rows_share_a_gate():
    rng = np.random.default_rng(1)
    w, u, v, x = rng.normal(size=(3, 2)), rng.normal(size=(3, 2)), rng.normal(size=(3, 4)), rng.normal(size=4)
    given = ({"w": w, "b": 2.0}, {"w": u, "b": 3.0}, {"w": v, "b": v[:1]})
    at = Response(*jax.tree.map(jnp.asarray, given)).at(jnp.asarray(x))
    np.testing.assert_allclose(at["w"], w + np.diag(v @ x) @ u, rtol=1e-5)
    np.testing.assert_allclose(at["b"], 2.0 + v[0] @ x * 3.0, rtol=1e-5)


def test_three_steps_are_numpys():
    """With minibatches, two steps of the response each, and a warm-up of one."""
    b = np.random.default_rng(2).normal(size=(3, 2))

    def upper(x, y, batch):
        return jnp.sum((y - batch.mean(0)) ** 2) / 2 + 0.3 * x @ x

    def lower(x, y, batch):
        return jnp.sum((y - jnp.tanh(b @ x) - batch.mean(0)) ** 2) / 2

    with jax.enable_x64(True):
        data = tuple(jnp.asarray(np.random.default_rng(i).normal(size=(9, 3))) for i in (0, 1))
        problem = Bilevel(upper, lower, (jnp.array([0.3, -1.0]), jnp.array([1.0, 0.2, -0.5])), data, batch_size=4)
        method = SelfTuning(0.05, 0.2, width=0.4, entropy=0.1, inner_steps=2, warmup=1)
        start = problem.init(jr.key(0))
        carry, step = (start, method.init(problem, start, jr.key(9))), jax.jit(lambda c, k: method.step(problem, *c, k))
        place = np.concatenate([np.asarray(start[0]), np.log([0.4, 0.4])])
        plain, gated, gates = map(np.asarray, carry[1].response)
        first, second, count = np.zeros(4), np.zeros(4), 0
        for k in range(3):
            key = jr.key(k)
            carry = step(carry, key)
            for_fit, for_x = jr.split(jr.fold_in(key, 1))
            for own in jr.split(for_fit, 2):
                for_batch, for_noise = jr.split(own)
                at = place[:2] + np.exp(place[2:]) * np.asarray(jr.normal(for_noise, (2,), jnp.float64))
                batch = np.asarray(problem.sample(for_batch)[1])
                off = plain + gates @ at * gated - np.tanh(b @ at) - batch.mean(0)
                plain, gated, gates = (
                    plain - 0.2 * off, gated - 0.2 * off * (gates @ at), gates - 0.2 * np.outer(off * gated, at),
                )  # fmt: skip
            if k == 0:
                continue
            noise = np.asarray(jr.normal(for_x, (2,), jnp.float64))
            at = place[:2] + np.exp(place[2:]) * noise
            off = plain + gates @ at * gated - np.asarray(problem.sample(key)[0]).mean(0)
            slope = gates.T @ (gated * off) + 0.6 * at
            slope, count = np.concatenate([slope, slope * np.exp(place[2:]) * noise - 0.1]), count + 1
            first, second = 0.9 * first + 0.1 * slope, 0.999 * second + 0.001 * slope**2
            place = place - 0.05 * first / (1 - 0.9**count) / (np.sqrt(second / (1 - 0.999**count)) + 1e-8)
        (x, y), state = carry
        ends = (x, place[:2]), (state.width, place[2:]), (state.response.gates, gates)
        for found, expected in (*ends, (y, plain + gates @ place[:2] * gated)):
            np.testing.assert_allclose(found, expected, rtol=1e-8)


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match="width"):
        SelfTuning(0.1, 0.1, width=0.0)
    with pytest.raises(ValueError, match="features"):
        gated_ridge(jnp.zeros((2, 3)), jnp.zeros(2))
