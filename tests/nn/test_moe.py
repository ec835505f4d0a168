"""The mixture of experts against NumPy, what its router picks, and errors."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from attractor.nn import MixtureOfExperts

LAYER = MixtureOfExperts(3, 5, experts=4, top_k=2, key=jr.key(0))


@pytest.mark.parametrize("seed", range(3))
def test_agrees_with_the_two_experts_that_score_highest(seed):
    x = jr.normal(jr.key(seed + 1), (3,))
    scores = np.asarray(LAYER.router @ x, float)
    chosen = np.argsort(scores)[-2:]
    gates = np.exp(scores[chosen]) / np.exp(scores[chosen]).sum()
    expected = sum(g * (LAYER.down[e] @ jax.nn.gelu(LAYER.up[e] @ x)) for g, e in zip(gates, chosen, strict=True))
    np.testing.assert_allclose(LAYER(x), expected, rtol=1e-5, atol=1e-6)
    found = LAYER.gates(x)
    assert sorted(np.flatnonzero(found)) == sorted(chosen)
    assert float(found.sum()) == pytest.approx(1)


def test_only_chosen_experts_learn_and_the_router_does():
    x = jnp.array([0.5, -1.0, 0.2])
    slope = jax.grad(lambda layer: jnp.sum(layer(x) ** 2))(LAYER)
    used = np.asarray(LAYER.gates(x)) > 0
    for weights in (slope.up, slope.down, slope.router):
        np.testing.assert_array_equal(np.abs(weights).reshape(4, -1).max(1) > 0, used)


@pytest.mark.parametrize("bad", [{"width": 0}, {"hidden": 0}, {"experts": 0}, {"top_k": 5}])
def test_errors_name_the_argument(bad):
    with pytest.raises(ValueError, match=next(iter(bad))):
        MixtureOfExperts(**{"width": 2, "hidden": 3, **bad}, key=jr.key(0))
