"""Singular values under noise against Ito's formula, loops in NumPy and a step of SGD written out."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from scipy.integrate import quad

from attractor.landscape import (
    coulomb_drift,
    singular_value_langevin,
    singular_value_phase,
    student_singular_values,
    wigner_surmise,
)

VALUES = np.array([2.1, 1.4, 0.3])


@pytest.fixture(autouse=True)
def double_precision():
    with jax.enable_x64(True):
        yield


def test_the_drift_is_the_sum_and_the_mean_square_grows_as_that_of_the_entries():
    found = np.asarray(coulomb_drift(jnp.asarray(VALUES), 5, 0.7))
    for i, a in enumerate(VALUES):
        pairs = sum(1 / (a - b) + 1 / (a + b) for j, b in enumerate(VALUES) if j != i)
        np.testing.assert_allclose(found[i], 0.35 * (2 / a + pairs), rtol=1e-10)
    # d |W|^2 = sum 2 xi dxi + n sigma^2 dt, and 15 entries bring sigma^2 dt each.
    np.testing.assert_allclose(np.sum(2 * VALUES * found) + 3 * 0.7, 15 * 0.7, rtol=1e-10)


def test_a_path_is_that_of_a_loop():
    path = singular_value_langevin(jnp.asarray(VALUES), lambda x: -2 * x, 5, 0.7, 1e-3, 3, jr.key(1))
    values = VALUES
    for i, key in enumerate(jr.split(jr.key(1), 3)):
        push = 1e-3 * np.asarray(coulomb_drift(jnp.asarray(values), 5, 0.7))
        push = push / np.sqrt(1 + push**2 / 0.7e-3)
        noise = np.sqrt(0.7e-3) * np.asarray(jr.normal(key, (3,), jnp.float64))
        values = np.sort(np.abs(values - 2e-3 * values + push + noise))[::-1]
        np.testing.assert_allclose(path[i], values, rtol=1e-10)
    still = singular_value_langevin(jnp.asarray(VALUES), lambda x: -2 * x, 5, 0.0, 0.1, 2, jr.key(1))
    np.testing.assert_allclose(still[1], VALUES * 0.8**2)


def test_student_follows_sgd_on_the_examples_that_count():
    rng = np.random.default_rng(0)
    start, teacher = ([rng.standard_normal((3, 2)), rng.standard_normal((4, 3))] for _ in range(2))
    how = {"rate": 0.3, "batch": 2, "largest": 5, "steps": 2, "every": 2, "noise": 0.4, "second": 0.5}
    weights = tuple(map(jnp.asarray, start))
    found = student_singular_values(weights, tuple(map(jnp.asarray, teacher)), jr.key(3), **how)
    first, second = start
    for i in range(2):
        keys = jr.split(jr.fold_in(jr.key(3), i))
        x, blur = (np.asarray(jr.normal(k, shape))[:2] for k, shape in zip(keys, [(5, 2), (5, 4)], strict=True))
        hidden = np.tanh(x @ first.T)
        miss = hidden @ second.T - np.tanh(x @ teacher[0].T) @ teacher[1].T - 0.4 * blur
        back = miss @ second * (1 - hidden**2)
        first, second = first - 0.3 * back.T @ x / 2, second - 0.3 * 0.5 * miss.T @ hidden / 2
    np.testing.assert_allclose(found, [np.linalg.svd(first, compute_uv=False)], rtol=1e-6)


def test_surmise_has_mass_and_mean_one():
    for power in (0, 1):
        np.testing.assert_allclose(quad(lambda s, p=power: s**p * float(wigner_surmise(s)), 0, 12)[0], 1, rtol=1e-6)
    np.testing.assert_allclose(wigner_surmise(1.3), np.pi * 0.65 * np.exp(-np.pi * 1.69 / 4))


def test_phases():
    before = jnp.asarray([[3.0, 4.0]] * 5)
    after = jnp.asarray([[3.0, 4.4], [3.0, 4.6], [3.0, 53.0], [3.0, 60.0], [jnp.nan, 1.0]])
    assert singular_value_phase(before, after).tolist() == [0, 1, 1, 2, 2]


WEIGHTS = (jnp.eye(2), jnp.eye(2))


@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("rows", lambda: coulomb_drift(jnp.ones(3), 2, 1.0)),
        ("variance", lambda: coulomb_drift(jnp.ones(3), 3, -1.0)),
        ("step", lambda: singular_value_langevin(jnp.ones(2), jnp.negative, 2, 1.0, 0.0, 1, jr.key(0))),
        ("batch", lambda: student_singular_values(WEIGHTS, WEIGHTS, jr.key(0), rate=1, batch=3, largest=2, steps=1)),
        ("diverged", lambda: singular_value_phase(jnp.ones(2), jnp.ones(2), 0.5, 0.4)),
    ],
)
def test_refuses(name, call):
    with pytest.raises(ValueError, match=f"^{name}:"):
        call()
