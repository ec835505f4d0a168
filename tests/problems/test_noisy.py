"""Wells with noise: the exact gradient, and that of a sample."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from attractor.problems import linear_noise, noisy_wells


def test_the_noise_adds_up_to_nothing_and_has_the_variance_asked_for():
    problem = noisy_wells(dim=3, samples=2_000, decay=0.5, noise=2.0, seed=1)
    x = np.array([0.3, -1.0, 2.0])
    exact = np.arange(1, 4) ** -0.5 * 2 * x / (1 + x**2) ** 2
    np.testing.assert_allclose(jax.grad(problem.loss)(jnp.asarray(x), problem.full), exact, atol=1e-5)
    each = problem.oracles(jnp.asarray(x), problem.full)["per_example"]()
    np.testing.assert_allclose(each - exact, problem.full, atol=1e-5)
    assert float(jnp.sum(jnp.var(each, 0))) == pytest.approx(2.0, rel=0.05)
    assert float(problem.loss(jnp.zeros(3), problem.full)) == problem.optimum == 0


@pytest.mark.parametrize("bad", [{"dim": 0}, {"samples": 1}, {"decay": -1.0}, {"noise": -1.0}])
def test_errors_name_the_argument(bad):
    with pytest.raises(ValueError, match=next(iter(bad))):
        noisy_wells(**bad)


@pytest.mark.parametrize("heavy", [False, True])
def test_linear_noise_tilts_samples_and_not_the_whole(heavy):
    measured = {"first": lambda problem, x, key: x[0]}
    task = linear_noise(lambda x: jnp.sum(x**4), np.ones(3), 500, heavy, seed=1, probes=measured)
    x = jnp.array([0.5, -1.0, 2.0])
    assert float(task.loss(x, task.full)) == pytest.approx(float(jnp.sum(x**4)), rel=1e-4)
    one = task.full[3:4]
    assert float(task.loss(x, one)) == pytest.approx(float(jnp.sum(x**4) + one[0] @ x), rel=1e-4)
    assert (float(jnp.abs(task.full).max()) > 10) == heavy
    assert heavy or float(jnp.std(task.full)) == pytest.approx(3**-0.5, rel=0.1)
    assert float(task.probes["first"](task, x, jax.random.key(0))) == 0.5
    np.testing.assert_array_equal(task.init(jax.random.key(0)), 1)
    with pytest.raises(ValueError, match="rows"):
        linear_noise(jnp.sum, np.ones(3), 1)
