import itertools

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import pytest

from attractor.nn import NALU, NAU, NMU, add_sparsity_gradient, keep_in_range, sparsity, sparsity_error


def with_weight(unit, weight):
    return eqx.tree_at(lambda u: u.weight, unit, jnp.asarray(weight, dtype=float))


def test_whole_weights_compute_exactly():
    x = jnp.asarray([2.0, -3.0, 0.5])
    nau = with_weight(NAU(3, 2, key=jr.key(0)), [[1, -1, 0], [0, 0, 1]])
    nmu = with_weight(NMU(3, 2, key=jr.key(0)), [[1, 1, 0], [0, 0, 0]])
    np.testing.assert_allclose(nau(x), [5.0, 0.5])
    np.testing.assert_allclose(nmu(x), [-6.0, 1.0])


def test_multiplication_unit_expands_over_subsets():
    """prod (w x + 1 - w) is the mean of prod_{i in S} x_i when S takes each i with probability w_i."""
    w, x = np.array([0.2, 0.9, 0.5]), np.array([1.5, -2.0, 3.0])
    expected = sum(np.prod(np.where(taken, w * x, 1 - w)) for taken in itertools.product([True, False], repeat=3))
    np.testing.assert_allclose(with_weight(NMU(3, 1, key=jr.key(0)), w[None])(jnp.asarray(x)), [expected], rtol=1e-6)


def test_nalu_adds_and_multiplies_at_its_limits():
    x = jnp.asarray([2.0, 3.0])
    saturated = eqx.tree_at(
        lambda u: (u.choice, u.strength), NALU(2, 1, key=jr.key(0)), (jnp.full((1, 2), 30.0), jnp.full((1, 2), 30.0))
    )
    for gate, expected in ((30.0, 5.0), (-30.0, 6.0)):
        unit = eqx.tree_at(lambda u: u.gate, saturated, jnp.full((1, 2), gate))
        np.testing.assert_allclose(unit(x), [expected], rtol=1e-5)


def test_nalu_between_its_limits():
    choice, strength, gate = np.random.default_rng(0).standard_normal((3, 2, 3))
    unit = NALU(3, 2, epsilon=0.1, key=jr.key(0))
    unit = eqx.tree_at(
        lambda u: (u.choice, u.strength, u.gate), unit, tuple(map(jnp.asarray, (choice, strength, gate)))
    )
    x = np.array([0.7, -2.0, 0.0])
    weight, share = np.tanh(choice) / (1 + np.exp(-strength)), 1 / (1 + np.exp(-gate @ x))
    expected = share * (weight @ x) + (1 - share) * np.prod((np.abs(x) + 0.1) ** weight, axis=1)
    np.testing.assert_allclose(unit(jnp.asarray(x)), expected, rtol=1e-5)


def test_initial_ranges():
    wide, narrow = NAU(2, 1, key=jr.key(0)), NAU(500, 500, key=jr.key(0))
    assert jnp.abs(wide.weight).max() <= 0.5
    assert 0.9 * np.sqrt(6 / 1000) < jnp.abs(narrow.weight).max() <= np.sqrt(6 / 1000)
    weight = NMU(50, 50, key=jr.key(0)).weight
    assert 0.25 <= weight.min() < 0.26 < 0.74 < weight.max() <= 0.75


def test_sparsity():
    model = [with_weight(NAU(2, 1, key=jr.key(0)), [[-0.9, 0.2]]), with_weight(NMU(2, 1, key=jr.key(0)), [[0.5, 1.0]])]
    assert sparsity(model) == pytest.approx((0.1 + 0.2) / 2 + (0.5 + 0.0) / 2)
    assert sparsity_error(model) == pytest.approx(0.5)
    plain = eqx.nn.Linear(2, 1, key=jr.key(0))
    assert sparsity(plain) == 0.0 == sparsity_error(plain)


def test_trains_as_derived():
    """Ten steps of SGD with pressure and clipping against NumPy."""
    with jax.enable_x64(True):
        start = np.array([[0.3, -0.6, 0.9], [0.05, 0.55, -0.98]])
        x, y = np.array([1.0, -2.0, 0.5]), np.array([2.0, -1.0])
        unit = with_weight(NAU(3, 2, key=jr.key(0)), start)
        optimizer = optax.chain(
            add_sparsity_gradient(optax.linear_schedule(0.0, 2.0, 4, 2)), optax.sgd(0.05), keep_in_range()
        )
        state, w = optimizer.init(unit), start
        for t in range(10):
            grad = jax.grad(lambda u: jnp.sum((u(jnp.asarray(x)) - y) ** 2))(unit)
            updates, state = optimizer.update(grad, state, unit)
            unit = optax.apply_updates(unit, updates)
            rate = 2.0 * np.clip((t - 2) / 4, 0, 1)
            slope = np.where(np.abs(w) < 0.5, 1.0, -1.0) * np.sign(w) / w.size
            w = np.clip(w - 0.05 * (2 * np.outer(w @ x - y, x) + rate * slope), -1, 1)
        np.testing.assert_allclose(unit.weight, w, atol=1e-12)
        assert np.abs(w).max() == 1.0  # the clipping did something


def test_range_of_each_kind_and_of_others():
    params = {"a": NAU(2, 1, key=jr.key(0)), "m": NMU(2, 1, key=jr.key(0)), "b": jnp.zeros(())}
    step = jax.tree.map(lambda p: jnp.full_like(p, -5.0), params)
    updates, _ = keep_in_range().update(step, optax.EmptyState(), params)
    after = optax.apply_updates(params, updates)
    np.testing.assert_allclose(after["a"].weight, -1.0)
    np.testing.assert_allclose(after["m"].weight, 0.0, atol=1e-7)
    assert after["b"] == -5.0
    updates, _ = keep_in_range().update(jax.tree.map(jnp.negative, step), optax.EmptyState(), params)
    after = optax.apply_updates(params, updates)
    np.testing.assert_allclose(after["a"].weight, 1.0)
    np.testing.assert_allclose(after["m"].weight, 1.0)


def test_dtypes_survive():
    unit = jax.tree.map(lambda w: w.astype(jnp.bfloat16), NAU(2, 1, key=jr.key(0)))
    optimizer = optax.chain(add_sparsity_gradient(0.1), optax.sgd(0.1), keep_in_range())
    updates, _ = optimizer.update(jax.tree.map(jnp.ones_like, unit), optimizer.init(unit), unit)
    assert updates.weight.dtype == jnp.bfloat16


@pytest.mark.parametrize("piece", [add_sparsity_gradient(0.1), keep_in_range()])
def test_needs_parameters(piece):
    unit = NAU(2, 1, key=jr.key(0))
    with pytest.raises(ValueError, match="params"):
        piece.update(unit, piece.init(unit))


def test_refuses():
    with pytest.raises(ValueError, match="weight"):
        add_sparsity_gradient(-1.0)
    for unit in (NAU, NMU, NALU):
        with pytest.raises(ValueError, match="d_in"):
            unit(0, 1, key=jr.key(0))
        with pytest.raises(ValueError, match="d_out"):
            unit(1, 0, key=jr.key(0))
    with pytest.raises(ValueError, match="epsilon"):
        NALU(1, 1, epsilon=0.0, key=jr.key(0))
