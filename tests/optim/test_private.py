"""Private descent: the accountant, sensitivities, one step against NumPy, and errors."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from attractor import Minimization, run
from attractor.optim import PrivateDescent, gaussian_noise, normalized_mean, zcdp_budget, zcdp_epsilon

ROWS = np.random.default_rng(0).standard_normal((50, 3)).astype(np.float32)


def problem():
    return Minimization(lambda x, rows: jnp.mean(jnp.sum((x["w"] - rows) ** 2, -1)) + x["b"] ** 2, start(), ROWS)


def start():
    return {"w": jnp.ones(3), "b": jnp.asarray(0.5)}


@pytest.mark.parametrize("epsilon", [1e-2, 1.0, 8.0])
def test_budget_and_epsilon_are_inverse(epsilon):
    assert float(zcdp_epsilon(zcdp_budget(epsilon, 1e-5), 1e-5)) == pytest.approx(epsilon, rel=1e-5)


def test_releases_spend_the_budget():
    # A Gaussian release of sensitivity s and deviation d costs s^2 / (2 d^2).
    deviation = float(gaussian_noise(0.3, 0.02, releases=7))
    assert 7 * 0.3**2 / (2 * deviation**2) == pytest.approx(0.02, rel=1e-5)


def test_normalized_mean_agrees_with_numpy():
    gradients = np.concatenate([ROWS, ROWS[:, :1]], 1) * np.linspace(0, 2, 50)[:, None]
    expected = (gradients / np.maximum(1, np.linalg.norm(gradients, axis=1, keepdims=True) / 0.7)).mean(0)
    found = normalized_mean({"w": jnp.asarray(gradients[:, :3]), "b": jnp.asarray(gradients[:, 3])}, 0.7)
    np.testing.assert_allclose(np.append(found["w"], found["b"]), expected, atol=1e-6)


@pytest.mark.parametrize("normalize", [True, False])
def test_steps_have_the_right_mean_and_noise(normalize):
    method, task = PrivateDescent(0.5, steps=9, normalize=normalize), problem()
    gradients = np.concatenate([2 * (1 - ROWS), np.ones((50, 1))], 1)
    norms = np.linalg.norm(gradients, axis=1, keepdims=True)
    mean = (gradients / np.maximum(1, norms) if normalize else gradients).mean(0)

    def move(seed):
        x, _ = method.step(task, start(), jnp.asarray(0), jr.key(seed))
        return jnp.append(x["w"] - 1, x["b"] - 0.5)

    moves = np.asarray(jax.jit(jax.vmap(move))(jnp.arange(400)))
    deviation = 0.5 * 2 / 50 * np.sqrt(9 / (2 * float(zcdp_budget(1.0, 1e-5))))
    np.testing.assert_allclose(np.std(moves, axis=0), deviation, rtol=0.15)
    np.testing.assert_allclose(np.mean(moves, axis=0), -0.5 * mean, atol=4 * deviation / 20)


def test_stops_when_the_budget_is_spent():
    probes = {"w": lambda problem, x, key: x["w"]}
    path = run(problem(), PrivateDescent(0.1, steps=3), steps=6, every=1, probes=probes)["w"].values[0, 0]
    assert (path[1:4] != path[:3]).all()
    np.testing.assert_array_equal(path[4:], path[3:6])


@pytest.mark.parametrize("bad", [{"sensitivity": -1.0}, {"rho": 0.0}, {"releases": 0}])
def test_noise_names_the_bad_argument(bad):
    with pytest.raises(ValueError, match=next(iter(bad))):
        gaussian_noise(**{"sensitivity": 1.0, "rho": 1.0, "releases": 1, **bad})
