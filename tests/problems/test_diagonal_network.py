"""The diagonal network against NumPy."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from attractor.problems import diagonal_network


def test_the_loss_and_the_test_error():
    problem, error = diagonal_network(jr.key(1), 2.0, examples=7, features=5, nonzero=2)
    a = 2.0 + np.asarray(jr.normal(jr.key(1), (7, 5)))
    u, v = np.random.default_rng(0).standard_normal((2, 5))
    off = u**2 - v**2 - np.array([1, 1, 0, 0, 0])
    x = jnp.asarray(np.stack([u, v]))
    assert float(problem.loss(x, None)) == pytest.approx(np.mean((a @ off) ** 2) / 2, rel=1e-4)
    assert float(error(x)) == pytest.approx(np.sum(off**2), rel=1e-4)
    np.testing.assert_allclose(problem.init(jax.random.key(0)), np.full((2, 5), 0.1))


@pytest.mark.parametrize("bad", [{"examples": 0}, {"features": 0}, {"nonzero": -1}])
def test_errors_name_the_argument(bad):
    with pytest.raises(ValueError, match=next(iter(bad))):
        diagonal_network(jr.key(0), **bad)
