"""Trees as vectors: every leaf counts once, and the way back restores shapes and dtypes."""

import jax.numpy as jnp
import numpy as np

from attractor.trees import as_vector, difference, norm

TREE = {"a": jnp.array([[1.0, -2.0]]), "b": (jnp.array(2.0), "a name", jnp.array([4], dtype=int))}


def test_the_norm_is_over_all_floating_leaves_together_and_only_those():
    assert norm(TREE) == 3.0
    assert norm({"z": jnp.array([3.0 + 4.0j])}) == 5.0
    assert norm(()) == 0.0


def test_a_difference_is_leaf_by_leaf():
    a, b = {"x": jnp.array([3.0, 1.0])}, {"x": jnp.array([1.0, 4.0])}
    np.testing.assert_array_equal(difference(a, b)["x"], [2.0, -3.0])


def test_a_tree_in_half_precision_is_a_vector_in_single_and_comes_back_in_half():
    tree = (jnp.arange(3, dtype=jnp.bfloat16), jnp.ones((2, 2), jnp.bfloat16))
    flat, back = as_vector(tree)
    assert flat.dtype == jnp.float32
    assert flat.shape == (7,)
    first, second = back(2 * flat)
    assert first.dtype == second.dtype == jnp.bfloat16
    np.testing.assert_array_equal(np.asarray(first, float), [0.0, 2.0, 4.0])
    assert second.shape == (2, 2)
