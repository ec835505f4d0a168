"""Latent attention against NumPy position by position, decoding from what is kept, and errors."""

import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from attractor.nn import LatentAttention

LAYER = LatentAttention(2, 6, 4, key=jr.key(0))
X = jr.normal(jr.key(1), (5, 6))


def test_agrees_with_a_loop_over_positions_and_heads():
    x, names = np.asarray(X, float), ("query", "compress", "keys", "values", "output")
    query, compress, keys, values, output = (np.asarray(getattr(LAYER, n), float) for n in names)
    expected = []
    for t in range(5):
        heads = []
        for h in (slice(0, 3), slice(3, 6)):
            past = x[: t + 1] @ compress.T
            scores = (past @ keys[h].T) @ (query[h] @ x[t]) / np.sqrt(3)
            weights = np.exp(scores - scores.max())
            heads.append(weights / weights.sum() @ (past @ values[h].T))
        expected.append(output @ np.concatenate(heads))
    np.testing.assert_allclose(LAYER(X), expected, rtol=1e-4, atol=1e-6)


def test_decoding_from_latents_is_the_whole_pass():
    kept, outputs = jnp.zeros((0, 4)), []
    for x in X:
        kept = jnp.concatenate([kept, LAYER.latents(x[None])])
        outputs.append(LAYER.attend(x[None], kept)[0])
    np.testing.assert_allclose(jnp.stack(outputs), LAYER(X), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(LAYER.attend(X[3:], kept), LAYER(X)[3:], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("bad", [{"heads": 0}, {"width": 5}, {"latent": 0}])
def test_errors_name_the_argument(bad):
    with pytest.raises(ValueError, match=next(iter(bad))):
        LatentAttention(**{"heads": 2, "width": 4, "latent": 3, **bad}, key=jr.key(0))


def test_weights_are_drawn_independently():
    layer = LatentAttention(2, 8, 8, key=jr.key(0))  # all five matrices have one shape
    weights = jnp.stack([w.ravel() for w in (layer.query, layer.compress, layer.keys, layer.values, layer.output)])
    assert np.abs(np.corrcoef(weights) - np.eye(5)).max() < 0.6
    wide = LatentAttention(2, 64, 16, key=jr.key(0))
    for weight in (wide.query, wide.compress, wide.keys, wide.values, wide.output):
        np.testing.assert_allclose(np.std(weight) * weight.shape[1] ** 0.5, 1, rtol=0.1)
