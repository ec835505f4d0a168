"""Wells with noise: the exact gradient, and that of a sample."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from attractor.problems import noisy_wells


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
