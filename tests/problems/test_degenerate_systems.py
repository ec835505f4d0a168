"""Degenerate systems: the multiplicity of their roots, and the distance to their zeros."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from attractor.problems.degenerate_systems import MULTIPLICITY, ROOT, degenerate_zeros, multiple_root_system
from attractor.second_order.deflation import inverse_system


@pytest.mark.parametrize("name", MULTIPLICITY)
def test_the_root_has_its_multiplicity(name):
    with jax.enable_x64(True):
        system = multiple_root_system(name)
        np.testing.assert_allclose(system(jnp.array(ROOT)), 0, atol=1e-14)
        assert len(inverse_system(system, jnp.array(ROOT), 3, 1e-9)[0]) == MULTIPLICITY[name]
        # In coordinates along the axes of the rotation, the first equation is y - x^2 for both.
        turn = np.array([[np.cos(0.5), np.sin(0.5)], [-np.sin(0.5), np.cos(0.5)]])
        x, y = 0.3, -0.7
        second = {"double": y + x**2, "triple": x * y + y**2}[name]
        np.testing.assert_allclose(system(jnp.asarray(ROOT + turn @ [x, y])), [y - x**2, second], atol=1e-14)


def test_the_perturbation_has_its_norm():
    with jax.enable_x64(True):
        exact, moved = multiple_root_system("double"), multiple_root_system("double", 1e-3, seed=4)
        other = multiple_root_system("double", 1e-3, seed=5)
        change, another = (np.asarray(s.args[0] - exact.args[0]) for s in (moved, other))
    assert np.linalg.norm(change) == pytest.approx(1e-3, rel=1e-12)
    assert not np.allclose(change, another, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "point", "distance"),
    [
        ("circle", (3.0, 4.0), 4.0),
        ("circle", (0.6, 0.8), 0.0),
        ("parabola", (4.0, 2.0), 0.0),
        ("parabola", (4.5, 2.0), 0.5),
        ("double root", (3.0, 4.0), 5.0),
        ("double root", (0.0, 0.0), 0.0),
    ],
)
def test_the_loss_vanishes_at_the_zeros_only(name, point, distance):
    problem, x = degenerate_zeros(name), jnp.array(point)
    assert float(problem.probes["distance"](problem, x, jr.key(0), None)) == pytest.approx(distance, abs=1e-6)
    assert (float(problem.loss(x, None)) < 1e-12) == (distance == 0)
    assert float(problem.loss(problem.init(jr.key(1)), None)) > 0


@pytest.mark.parametrize("make", [multiple_root_system, degenerate_zeros])
def test_errors_name_the_argument(make):
    with pytest.raises(ValueError, match="name: expected one of"):
        make("quadruple")
