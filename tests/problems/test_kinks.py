"""The kinked loss against NumPy."""

import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from attractor.problems import kinked_maximum, kinked_parabolas, kinked_valley, kinked_waves, relu_misfit


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


def test_waves_valley_and_misfit():
    x = np.array([0.3, -1.2, 2.0])
    expected = np.sum(np.abs(np.sin(3 * x)) - 0.3 * np.abs(x - 1))
    assert float(kinked_waves(jnp.asarray(x))) == pytest.approx(expected, rel=1e-5)
    noise = np.array([[0.5, 0.0], [0.0, -1.0]])
    tilted = abs(0.3 - 1.44) + 0.5 * 2.2 + np.mean(noise @ [0.3, -1.2])
    assert float(kinked_valley(jnp.array([0.3, -1.2]), jnp.asarray(noise))) == pytest.approx(tilted, rel=1e-5)
    assert float(kinked_valley(jnp.ones(2), jnp.zeros((1, 2)))) == 0
    w = np.random.default_rng(1).standard_normal(80)
    output = sum(w[64 + i] * max(0.0, w[4 * i : 4 * i + 4] @ [1.0, -0.5, 0.3, 2.0]) for i in range(16))
    assert float(relu_misfit(jnp.asarray(w))) == pytest.approx(abs(output - 1), rel=1e-4)


def test_the_parabolas_share_their_kink():
    found = kinked_parabolas(jnp.array([-0.2, 3.0]))
    np.testing.assert_allclose(found, [2 + 9, 2 + 4], rtol=1e-5)
