"""Lazy training against closed forms and dense derivatives."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from attractor.landscape import (
    centered,
    grokking_gap,
    linearized,
    quadratic_teacher,
    quadratic_test_loss,
    quadratic_units,
    quadratic_units_kernel,
)

RNG = np.random.default_rng(0)
START, MOVED = RNG.standard_normal((3, 4)), RNG.standard_normal((3, 4))
INPUTS = RNG.standard_normal((5, 3))


def units(weights, inputs, curvature=0.7):
    hidden = inputs @ weights
    return (hidden + curvature / 2 * hidden**2).mean(1)


def test_units_center_and_expansion():
    with jax.enable_x64(True):
        start, moved, inputs = (jnp.asarray(a) for a in (START, MOVED, INPUTS))
        model = lambda w, x: quadratic_units(w, x, 0.7)  # noqa: E731
        values = np.asarray(jax.jit(model)(moved, inputs))
        shifted = np.asarray(jax.jit(centered(model, start, 3.0))(moved, inputs))
        linear = np.asarray(jax.jit(linearized(model, start))(moved, inputs))
    np.testing.assert_allclose(values, units(MOVED, INPUTS), rtol=1e-9)
    np.testing.assert_allclose(shifted, 3 * (units(MOVED, INPUTS) - units(START, INPUTS)), rtol=1e-9)
    slope = ((1 + 0.7 * INPUTS @ START) * (INPUTS @ (MOVED - START))).mean(1)
    np.testing.assert_allclose(linear, units(START, INPUTS) + slope, rtol=1e-9)
    with pytest.raises(ValueError, match="scale"):
        centered(model, start, 0.0)


def test_loss_over_all_inputs_by_gauss_hermite():
    direction, scale, curvature = np.array([0.4, -1.1, 0.8]), 1.7, 0.7
    nodes, weights = np.polynomial.hermite_e.hermegauss(6)  # exact for this polynomial of degree four
    grid = np.stack(np.meshgrid(nodes, nodes, nodes, indexing="ij"), -1).reshape(-1, 3) / np.sqrt(3)
    mass = np.einsum("i,j,k->ijk", weights, weights, weights).reshape(-1) / weights.sum() ** 3
    outputs = scale * (units(MOVED, grid, curvature) - units(START, grid, curvature))
    wanted = mass @ (outputs - 0.5 * (grid @ direction) ** 2) ** 2
    with jax.enable_x64(True):
        found = jax.jit(lambda w, s, b: quadratic_test_loss(w, s, b, scale=scale, curvature=curvature))
        assert float(found(*map(jnp.asarray, (MOVED, START, direction)))) == pytest.approx(wanted, rel=1e-9)


def test_gap_is_the_ratio_of_times():
    train = np.array([[1.0, 0.5, 0.1, 0.05], [2.0, 0.7, 0.5, 0.3], [1.0, 0.9, 0.8, 0.7]])
    test = np.array([[2.0, 1.5, 1.0, 0.5], [1.0, 1.2, 1.1, 0.9], [1.0, 1.0, 1.0, 1.0]])
    steps = np.array([0.0, 2.0, 5.0, 9.0])
    np.testing.assert_array_equal(grokking_gap(train, test, steps, 0.25), [9 / 5, np.inf, np.nan])
    with pytest.raises(ValueError, match="fraction"):
        grokking_gap(train, test, steps, 1.0)


def test_the_teacher_and_the_kernel_of_the_units():
    with jax.enable_x64(True):
        direction, inputs, targets, start = quadratic_teacher(jax.random.key(2), 2_000, 6, 40)
        assert float(jnp.linalg.norm(direction)) == pytest.approx(6**0.5)
        np.testing.assert_allclose(targets, np.square(np.asarray(inputs) @ direction) / 2, rtol=1e-9)
        assert float(jnp.mean(jnp.sum(inputs**2, 1))) == pytest.approx(1, rel=0.05)
        assert (start.shape, float(start.std())) == ((6, 40), pytest.approx(1, abs=0.1))
        x = inputs[:5]
        jacobian = jax.jacobian(lambda w: quadratic_units(w, x, 0.7))(start).reshape(5, -1)
        scale = float(jacobian[0] @ jacobian[0] / quadratic_units_kernel(x, start, 0.7)[0, 0])
        np.testing.assert_allclose(scale * quadratic_units_kernel(x, start, 0.7), jacobian @ jacobian.T, rtol=1e-8)
    for name in ("examples", "dim", "units"):
        with pytest.raises(ValueError, match=name):
            quadratic_teacher(jax.random.key(0), **({"examples": 3, "dim": 3, "units": 3} | {name: 0}))
