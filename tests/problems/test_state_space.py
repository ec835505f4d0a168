"""A linear system against its recursion, step by step."""

import jax.numpy as jnp
import numpy as np
import pytest

from attractor.problems import impulse_response, linear_system

RNG = np.random.default_rng(0)


def respond(system, inputs):
    """Outputs of the recursion itself."""
    a, c, d = (np.asarray(system[k], float) for k in "acd")
    companion = np.vstack([np.eye(len(a))[1:], -a])
    h, outputs = np.zeros(len(a)), []
    for u in inputs:
        outputs.append(c @ h + d * u)
        h = companion @ h + np.eye(len(a))[-1] * u
    return np.array(outputs)


def test_the_loss_is_that_of_the_recursion():
    problem = linear_system(order=4, sequences=6, length=12, radius=0.7, batch_size=2, seed=3)
    shifted, outputs = (np.asarray(a, float) for a in problem.full)
    inputs = shifted[:, :, 0]  # no lag
    np.testing.assert_allclose(outputs, [respond(problem.solution, u) for u in inputs], rtol=1e-4, atol=1e-5)
    other = {"a": 0.2 * RNG.standard_normal(4), "c": RNG.standard_normal(4), "d": np.array(0.3)}
    mine = np.array([respond(other, u) for u in inputs])
    found = float(problem.loss({k: jnp.asarray(v, float) for k, v in other.items()}, problem.full))
    assert found == pytest.approx(np.mean((mine - outputs) ** 2) / 2, rel=1e-4)
    assert float(problem.loss(problem.solution, problem.full)) == pytest.approx(0, abs=1e-10)


def test_the_poles_are_stable_pairs():
    a = np.asarray(linear_system(order=6, radius=0.8, seed=1).solution["a"], float)
    poles = np.roots(np.append(1.0, a[::-1]))
    assert (np.abs(poles) <= 0.8 + 5e-3).all()
    assert (np.abs(poles) >= 0.4 - 5e-3).all()


def test_outputs_have_variance_one():
    problem = linear_system(order=2, sequences=2_000, length=30, radius=0.6, seed=5)
    assert np.var(np.asarray(problem.full[1])[:, -1]) == pytest.approx(1, rel=0.15)


def test_the_impulse_response():
    system = {"a": jnp.array([0.5, -0.2]), "c": jnp.array([1.0, 2.0]), "d": jnp.array(3.0)}
    np.testing.assert_allclose(impulse_response(system, 5), respond(system, [1.0, 0, 0, 0, 0]), rtol=1e-5)


@pytest.mark.parametrize(("name", "value"), [("order", 3), ("length", 1), ("radius", 1.0)])
def test_rejects(name, value):
    with pytest.raises(ValueError, match=name):
        linear_system(**{name: value})
