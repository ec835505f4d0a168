"""The linear dynamics of SGD against the average over all batches, and its threshold against the dense map."""

from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from attractor.landscape import diagonal_network_sgd, sgd_second_moment, sgd_stability_threshold

RNG = np.random.default_rng(0)
ROWS = RNG.standard_normal((4, 3)) * np.array([1.0, 0.4, 2.0])


def averaged(rows, moment, rate, batch):
    """Over all batches with replacement."""
    batches = [rows[list(chosen)] for chosen in product(range(len(rows)), repeat=batch)]
    keep = [np.eye(rows.shape[1]) - rate * a.T @ a / batch for a in batches]
    return np.mean([k @ moment @ k.T for k in keep], axis=0)


@pytest.mark.parametrize("batch", [1, 3])
def test_second_moments(batch):
    half = RNG.standard_normal((3, 3))
    moment = half @ half.T
    with jax.enable_x64(True):
        found = sgd_second_moment(jnp.asarray(ROWS), jnp.asarray(moment), 0.3, batch)
    np.testing.assert_allclose(found, averaged(ROWS, moment, 0.3, batch), rtol=1e-10)


@pytest.mark.parametrize(("rows", "batch"), [(ROWS, 1), (ROWS, 3), (np.hstack([ROWS[:2], ROWS[2:]]), 2)])
def test_threshold(rows, batch):
    p = rows.shape[1]
    range_of = np.linalg.svd(rows, full_matrices=False)[2]  # other directions stay at an eigenvalue of 1

    def radius(rate):
        inside = rows @ range_of.T
        r = inside.shape[1]
        units = np.eye(r * r).reshape(-1, r, r)
        return np.abs(np.linalg.eigvals([averaged(inside, unit, rate, batch).ravel() for unit in units])).max()

    with jax.enable_x64(True):
        found = float(jax.jit(sgd_stability_threshold)(jnp.asarray(rows), float(batch)))
    assert radius(found) == pytest.approx(1, abs=1e-9)
    assert radius(0.99 * found) < 1 - 1e-4 < 1 + 1e-4 < radius(1.01 * found)
    assert range_of.shape[0] <= p


def test_limits_in_closed_form():
    hessian = ROWS.T @ ROWS / 4
    with jax.enable_x64(True):
        rows = jnp.asarray(ROWS)
        threshold = jax.jit(sgd_stability_threshold)
        full = threshold(rows, 1e12)
        single = threshold(jnp.asarray(1.5 * ROWS / np.linalg.norm(ROWS, axis=1, keepdims=True)), 1.0)
    np.testing.assert_allclose(full, 2 / np.linalg.eigvalsh(hessian)[-1], rtol=1e-9)
    np.testing.assert_allclose(single, 2 / 1.5**2, rtol=1e-9)


def test_refuses():
    with pytest.raises(ValueError, match=r"^learning_rate"):
        sgd_second_moment(jnp.ones((2, 2)), jnp.eye(2), 0.0)
    with pytest.raises(ValueError, match=r"^batch"):
        sgd_second_moment(jnp.ones((2, 2)), jnp.eye(2), 0.1, 0)
    with pytest.raises(ValueError, match=r"^batch"):
        sgd_stability_threshold(jnp.ones((2, 2)), 0.5)


@pytest.mark.parametrize("full", [False, True])
def test_the_diagonal_network_takes_the_steps_of_sgd(full):
    key, rate, n, d = jax.random.key(3), 0.01, 4, 5
    with jax.enable_x64(True):
        loss, trace, error = jax.jit(lambda k: diagonal_network_sgd(k, rate, full, 30, n, d))(key)
        keys = jax.random.split(key)
        inputs = np.asarray(jax.random.normal(keys[0], (n, d)))
        order = np.asarray(jax.random.randint(keys[1], (30,), 0, n))
    inputs = inputs * np.sqrt(d) / np.linalg.norm(inputs, axis=1, keepdims=True)
    truth, u, v = np.array([1.0, 1, 1, 0, 0]), np.full(d, 0.5), np.full(d, 0.5)
    for i in order:
        rows = inputs if full else inputs[i : i + 1]
        pull = rows.T @ (rows @ (u**2 - v**2 - truth)) / len(rows)
        u, v = u - rate * 2 * u * pull, v + rate * 2 * v * pull
    off = u**2 - v**2 - truth
    np.testing.assert_allclose([loss, error], [np.mean((inputs @ off) ** 2) / 2, off @ off], rtol=1e-9)
    # 2 (u, -v) times the inputs are the rows of the model's Jacobian
    assert float(trace) == pytest.approx(4 * np.sum(inputs**2 @ (u**2 + v**2)) / n, rel=1e-9)


@pytest.mark.parametrize("bad", [{"rate": 0.0}, {"steps": 0}, {"examples": 0}, {"dim": 2}])
def test_the_diagonal_network_names_the_argument(bad):
    with pytest.raises(ValueError, match=next(iter(bad))):
        diagonal_network_sgd(jax.random.key(0), **({"rate": 0.1, "full": False, "steps": 1} | bad))
