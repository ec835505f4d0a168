"""Direct feedback against NumPy."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from layers import INPUTS, TARGETS, loss_and_start

from attractor.credit import direct_feedback, feedback_matrices


@pytest.mark.parametrize("given", [False, True])
def test_is_what_the_formula_says(given):
    rng = np.random.default_rng(2)
    with jax.enable_x64(True):
        loss, params = loss_and_start()
        drawn = [rng.standard_normal((n, 2)) for n in (4, 6)] if given else feedback_matrices(jr.key(5), [4, 6], 2)
        way = {"feedback": list(map(jnp.asarray, drawn))} if given else {"seed": 5}
        value, found = direct_feedback(**way)(loss, params, jr.key(0))
    first, second = (np.asarray(m, float) for m in drawn)
    (w1, b1), (w2, b2), (w3, b3) = [[np.asarray(a, float) for a in layer] for layer in params]
    expected, losses = [[0 * w1, 0 * b1], [0 * w2, 0 * b2], [0 * w3, 0 * b3]], []
    for x, t in zip(INPUTS, TARGETS, strict=True):
        h1 = np.tanh(w1 @ x + b1)
        h2 = np.tanh(w2 @ h1 + b2)
        error = 2 * (w3 @ h2 + b3 - t)
        losses.append((error**2).sum() / 4)
        parts = (first @ error * (1 - h1**2), x), (second @ error * (1 - h2**2), h1), (error, h2)
        for layer, (signal, seen) in zip(expected, parts, strict=True):
            layer[0] += np.outer(signal, seen) / 5
            layer[1] += signal / 5
    np.testing.assert_allclose(value, np.mean(losses), rtol=1e-9)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-9)


def test_matrices_have_their_size_and_share_rows():
    one, other = feedback_matrices(jr.key(0), [400, 300], 5)
    np.testing.assert_allclose([m.std() for m in (one, other)], 5**-0.5, rtol=0.05)
    assert not np.allclose(one[:300], other)
    one, other = feedback_matrices(jr.key(0), [4, 6], 5, shared=True)
    np.testing.assert_array_equal(one, other[:4])
    assert (one.shape, other.shape) == ((4, 5), (6, 5))


def test_refuses_what_does_not_fit():
    loss, params = loss_and_start()
    with pytest.raises(ValueError, match=r"feedback: expected matrices \(4, 2\), \(6, 2\)"):
        direct_feedback(feedback=[jnp.ones((4, 2)), jnp.ones((2, 6))])(loss, params, jr.key(0))
    with pytest.raises(ValueError, match="outputs"):
        feedback_matrices(jr.key(0), [3], 0)
    with pytest.raises(ValueError, match="units"):
        feedback_matrices(jr.key(0), [3, 0], 2)
