"""Averaged iteration against a product in closed form, and Picard's iteration."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from attractor import FixedPoint, run
from attractor.optim import AveragedIteration


def test_open_loop_weights_give_a_product():
    problem = FixedPoint(lambda x: 0.3 * x, jnp.ones(2))
    with jax.enable_x64(True):
        trace = run(problem, AveragedIteration(), steps=10, every=10)
    expected = np.prod([1 - 0.7 * 2 / (t + 2) for t in range(10)])
    np.testing.assert_allclose(trace.final[0, 0], [expected] * 2, rtol=1e-6)


def test_weight_one_is_picard():
    problem = FixedPoint(lambda x: jnp.cos(x), jnp.asarray(1.0))
    trace, x = run(problem, AveragedIteration(1.0), steps=5, every=5), 1.0
    for _ in range(5):
        x = np.cos(x)
    assert trace.final[0, 0] == pytest.approx(x, rel=1e-6)
