"""Linear attention against loops over tokens, and the law of its sequences."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from attractor.landscape import LinearTransformer, in_context_regression, robust_condition_number


def test_linear_transformer():
    rng = np.random.default_rng(0)
    values, scores, tokens = rng.standard_normal((2, 3, 3)), rng.standard_normal((2, 3, 3)), rng.standard_normal((3, 5))
    with jax.enable_x64(True):
        model = LinearTransformer(jnp.asarray(values), jnp.asarray(scores))
        found = jax.jit(lambda z: model(z))(jnp.asarray(tokens))
    for value, score in zip(values, scores, strict=True):
        new = tokens.copy()
        for j in range(5):
            for i in range(4):  # not the query
                new[:, j] += value @ tokens[:, i] * (tokens[:, i] @ score @ tokens[:, j]) / 4
        tokens = new
    np.testing.assert_allclose(found, -tokens[2, 4], rtol=1e-10)


def test_weights_and_sequences():
    model = LinearTransformer.random(4, 60, key=jr.key(0), scale=0.3)
    assert model.values.shape == model.scores.shape == (4, 61, 61)
    np.testing.assert_allclose([model.values.std(), model.scores.std()], 0.3, rtol=0.03)
    for tail in (None, 0.5):
        draw = jax.jit(lambda key, tail=tail: in_context_regression(key, 1_500, 3, 6, tail=tail))
        tokens, answers = (np.asarray(a) for a in draw(jr.key(1)))
        assert tokens.shape == (1_500, 4, 7)
        assert (tokens[:, 3, 6] == 0).all()
        weights = np.linalg.solve(tokens[:, :3, :3].mT.astype(float), tokens[:, 3, :3, None].astype(float))[..., 0]
        close = np.isclose(np.einsum("bd,bd->b", weights, tokens[:, :3, 6]), answers, rtol=1e-2, atol=1e-2)
        assert close.mean() > 0.95  # the others' first three inputs are nearly dependent
        drawn = tokens[:, :3].mT.ravel()[: weights.size]  # what one key would have drawn for both
        assert np.isclose(drawn, weights.ravel(), rtol=1e-2).mean() < 0.1
        lengths = (tokens[:, :3] ** 2).sum(1)
        shape = 1.5 if tail is None else tail  # of a Gamma distribution with mean 3: variance 9 / shape
        np.testing.assert_allclose([lengths.mean(), lengths.var()], [3, 9 / shape], rtol=0.2)


def test_condition_number():
    assert robust_condition_number(jnp.asarray([1.0, -8.0, 0.5, 2.0, -3.0])) == 4.0


def test_refuses():
    for bad in ({"layers": 0, "dim": 2}, {"layers": 1, "dim": 0}):
        with pytest.raises(ValueError, match="expected a finite number"):
            LinearTransformer.random(**bad, key=jr.key(0))
    with pytest.raises(ValueError, match=r"^examples"):
        in_context_regression(jr.key(0), 1, 1, 0)
    with pytest.raises(ValueError, match=r"^tail"):
        in_context_regression(jr.key(0), 1, 1, 1, tail=0.0)
