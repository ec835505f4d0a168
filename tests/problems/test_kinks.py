"""The kinked loss against NumPy."""

import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from attractor.problems import kinked_maximum


def test_the_loss():
    problem = kinked_maximum(pieces=6, dim=3, seed=2)
    rng = np.random.default_rng(2)
    rows, shifts = rng.standard_normal((6, 3)) / 3**0.5, rng.uniform(-1, 1, 6)
    for x in np.random.default_rng(0).standard_normal((10, 3)):
        t = rows @ x + shifts
        expected = max(np.abs(np.sin(3 * t[:3])).max(), t[3:].max(), 0)
        assert float(problem.loss(jnp.asarray(x), None)) == pytest.approx(expected, rel=1e-4, abs=1e-5)
    starts = np.stack([problem.init(jr.key(i)) for i in range(300)])
    np.testing.assert_allclose(starts.std(0), 1, atol=0.15)


@pytest.mark.parametrize("name", ["pieces", "dim"])
def test_rejects(name):
    with pytest.raises(ValueError, match=name):
        kinked_maximum(**{name: 0})
