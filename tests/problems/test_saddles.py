"""The quartic saddle and the coupled wells: their curvature and where their minima are."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from attractor.problems import coupled_double_wells, quartic_saddle


def test_the_saddle():
    with jax.enable_x64(True):
        problem = quartic_saddle(3, 2, 0.04)
        curvature = jax.hessian(lambda x: problem.loss(x, None))(jnp.zeros(5))
        np.testing.assert_allclose(curvature, np.diag([0.01, 0.1, 1.0, -0.04, -0.04]), atol=1e-12)
        minimum = jnp.array([0, 0, 0, 1.0, -1.0])
        np.testing.assert_allclose(jax.grad(lambda x: problem.loss(x, None))(minimum), 0, atol=1e-12)
        assert float(problem.loss(minimum, None)) < 0
    start = problem.init(jr.key(0))
    assert float(problem.probes["distance"](problem, start, jr.key(0), None)) == pytest.approx(
        float(jnp.linalg.norm(start))
    )
    assert 0 < float(jnp.linalg.norm(start)) < 0.1


def test_the_wells():
    x = np.array([0.9, -1.1, 0.2])
    expected = np.sum(x**4 / 4 - x**2 / 2) + 0.05 * (x[0] * x[1] + x[1] * x[2])
    assert float(coupled_double_wells(jnp.asarray(x))) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("bad", [{"up": 0}, {"down": 0}, {"slope": 0.0}])
def test_errors_name_the_argument(bad):
    with pytest.raises(ValueError, match=next(iter(bad))):
        quartic_saddle(**bad)
