"""Linear channels: the penalty, what is frozen, and path lengths against an enumeration of paths."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from attractor.landscape import average_path_length, freeze_linear, nonlinearity_penalty

SLOPES = {"a": np.array([0.0, 0.6, 1.0, 1.3]), "b": np.array([[0.995, -0.2]])}


def test_the_penalty_and_its_slope():
    with jax.enable_x64(True):
        slopes = jax.tree.map(jnp.asarray, SLOPES)
        value, slope = jax.value_and_grad(lambda s: nonlinearity_penalty(s, 0.7))(slopes)
    gaps = {k: np.abs(1 - v) for k, v in SLOPES.items()}
    np.testing.assert_allclose(value, sum((g**0.7).sum() for g in gaps.values()), rtol=1e-10)
    for k, g in gaps.items():
        expected = np.where(g > 0, 0.7 * np.where(g > 0, g, 1) ** -0.3 * np.sign(SLOPES[k] - 1), 0)
        np.testing.assert_allclose(slope[k], expected, rtol=1e-10)
    np.testing.assert_allclose(nonlinearity_penalty({"a": jnp.array([0.0, 0.75])}), 1.5, rtol=1e-6)  # p = 1/2


def test_what_is_linear_stays_so():
    frozen = {"a": np.array([True, False, False, False]), "b": np.array([[False, False]])}
    found = freeze_linear(*(jax.tree.map(jnp.asarray, t) for t in (SLOPES, frozen)), 0.01)
    np.testing.assert_array_equal(found.frozen["a"], [True, False, True, False])
    np.testing.assert_array_equal(found.frozen["b"], [[True, False]])
    np.testing.assert_allclose(found.slopes["a"], [1, 0.6, 1, 1.3], rtol=1e-6)
    np.testing.assert_allclose(found.slopes["b"], [[1, -0.2]], rtol=1e-6)
    wider = freeze_linear(found.slopes, found.frozen, 0.31)
    np.testing.assert_array_equal(wider.frozen["a"], [True, False, True, True])


def test_path_lengths_are_those_of_all_paths():
    layers = [np.array([True, False, True]), np.array([False, True]), np.array([True, True, True, False])]
    plain = [sum(path) for path in itertools.product(*layers)]
    np.testing.assert_allclose(average_path_length([jnp.asarray(a) for a in layers]), np.mean(plain), rtol=1e-6)
    skips, total = np.array([0.5, 0.0, 0.25]), 0.0
    for around in itertools.product([False, True], repeat=3):
        chance = np.prod(np.where(around, skips, 1 - skips))
        taken = [[False] if skip else layer for skip, layer in zip(around, layers, strict=True)]
        total += chance * np.mean([sum(path) for path in itertools.product(*taken)])
    found = average_path_length([jnp.asarray(a) for a in layers], jnp.asarray(skips, jnp.float32))
    np.testing.assert_allclose(found, total, rtol=1e-6)
    assert average_path_length([jnp.ones(5, bool)] * 6) == 6
    assert average_path_length([jnp.zeros(5, bool)] * 6, 0.5) == 0


@pytest.mark.parametrize(
    ("bad", "call"),
    [
        ("power", lambda: nonlinearity_penalty(jnp.ones(2), 0.0)),
        ("power", lambda: nonlinearity_penalty(jnp.ones(2), 1.1)),
        ("tolerance", lambda: freeze_linear(jnp.ones(2), jnp.zeros(2, bool), -0.1)),
        ("nonlinear", lambda: average_path_length([])),
        ("skipped", lambda: average_path_length([jnp.ones(2, bool)], 1.1)),
    ],
)
def test_bad_input_is_refused(bad, call):
    with pytest.raises(ValueError, match=f"^{bad}:"):
        call()
