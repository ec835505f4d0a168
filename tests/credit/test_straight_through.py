"""Samples and signs with derivatives, against PyTorch's automatic ones of the functions that they stand for."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from attractor.credit import (
    binary_dense,
    dense_params,
    exact_categorical_gradient,
    expected_categorical_gradient,
    gumbel_straight_through,
    plain,
    power_sign,
    reinmax,
    sign_through,
    straight_through,
)

torch = pytest.importorskip("torch")
RNG = np.random.default_rng(0)
LOGITS, WEIGHTS, TAU = 2 * RNG.standard_normal((3, 5)), RNG.standard_normal((3, 5)), 1.7


def loss(d, functions):
    """Of three variables with five categories; not linear in any."""
    return (functions.sin(d @ WEIGHTS.T if functions is jnp else d @ torch.tensor(WEIGHTS).T) ** 3).sum() + (d**2).sum()


def by_torch(kind, sample, noise):
    theta = torch.tensor(LOGITS, requires_grad=True)
    one_hot = torch.tensor(np.array(sample))
    if kind is straight_through:
        soft = torch.softmax(theta / TAU, -1)
    elif kind is gumbel_straight_through:
        soft = torch.softmax((theta + torch.tensor(np.array(noise))) / TAU, -1)
    else:
        middle = (one_hot + torch.softmax(theta.detach() / TAU, -1)) / 2
        soft = 2 * torch.softmax(torch.log(middle) - theta.detach() + theta, -1) - torch.softmax(theta, -1) / 2
    loss(soft - soft.detach() + one_hot, torch).backward()
    return theta.grad.numpy()


@pytest.mark.parametrize("sampler", [straight_through, gumbel_straight_through, reinmax])
def test_samples_agree_with_pytorch(sampler):
    with jax.enable_x64(True):
        logits, key = jnp.asarray(LOGITS), jr.key(4)
        sample = sampler(logits, key, TAU)
        noise = jr.gumbel(key, (3, 5), jnp.float64)
        np.testing.assert_array_equal(sample, np.eye(5)[np.argmax(LOGITS + noise, -1)])
        slope = jax.grad(lambda t: loss(sampler(t, key, TAU), jnp))(logits)
    np.testing.assert_allclose(slope, by_torch(sampler, sample, noise), rtol=1e-9, atol=1e-12)
    with pytest.raises(ValueError, match="temperature"):
        sampler(logits, key, 0.0)


def test_expectations_are_sums_over_categories():
    matrix = jnp.asarray(RNG.standard_normal((4, 4)), jnp.float32)
    logits = jnp.array([0.3, -1.0, 0.8, 0.1])

    def square(d):
        return d @ matrix @ d + jnp.sum(matrix[0] * d)

    p = np.asarray(jax.nn.softmax(logits), float)
    values = np.array([square(row) for row in np.eye(4, dtype=np.float32)])
    exact = p * (values - p @ values)
    np.testing.assert_allclose(exact_categorical_gradient(square, logits), exact, rtol=1e-5, atol=1e-6)
    first = sum(
        p[i] * (np.diag(p) - np.outer(p, p)) @ np.asarray(jax.grad(square)(row))
        for i, row in enumerate(np.eye(4, dtype=np.float32))
    )
    np.testing.assert_allclose(expected_categorical_gradient(straight_through, square, logits), first, rtol=1e-5)
    np.testing.assert_allclose(expected_categorical_gradient(reinmax, square, logits), exact, rtol=1e-4, atol=1e-5)
    assert np.abs(first - exact).max() > 0.05


@pytest.mark.parametrize(("o", "t", "m"), [(1.0, 1.5, 0.1), (2.3, 1.2, 0.2), (5.0, 2.0, 0.05)])
def test_signs_agree_with_pytorch(o, t, m):
    x = np.concatenate([RNG.standard_normal(50), [0.0, 0.9 * m, 1.1 * m, -0.9 * m, 0.99 * t, -1.01 * t, t]])
    weights = RNG.standard_normal(x.shape)
    smooth = torch.tensor(x, requires_grad=True)
    away = torch.where(smooth.abs() > m, smooth, torch.ones_like(smooth))  # the power has no slope at 0
    power = torch.where(smooth.abs() > m, torch.sign(away) * away.abs() ** (1 / o), smooth * m ** (1 / o) / m)
    (torch.where(smooth.abs() <= t, power, torch.zeros_like(power)) * torch.tensor(weights)).sum().backward()
    with jax.enable_x64(True):
        value, slope = jax.value_and_grad(lambda x: jnp.sum(power_sign(x, o, t, m) * weights))(jnp.asarray(x))
    np.testing.assert_allclose(slope, smooth.grad.numpy(), rtol=1e-9)
    np.testing.assert_allclose(value, (np.where(x >= 0, 1, -1) * weights).sum(), rtol=1e-9)


def test_exponent_one_is_the_clipped_estimator():
    x = jnp.asarray(RNG.standard_normal(50), jnp.float32)
    slopes = [jax.vjp(f, x)[1](jnp.sin(x))[0] for f in (lambda x: power_sign(x, 1.0), lambda x: sign_through(x, 1.5))]
    np.testing.assert_allclose(*slopes)
    np.testing.assert_array_equal(jax.vmap(jax.grad(sign_through))(x), np.abs(x) <= 1)


@pytest.mark.parametrize("bad", [{"o": 0.9}, {"t": 0.0}, {"m": 0.0}])
def test_signs_refuse_what_makes_no_sense(bad):
    with pytest.raises(ValueError, match=next(iter(bad))):
        power_sign(jnp.ones(2), **bad)


def test_binary_layers_multiply_signs():
    params = jax.tree.map(lambda a: a + 0.01, dense_params(jr.key(0), (3, 4, 5, 2)))  # no sum of signs is zero
    x = jnp.array([0.5, -1.0, 2.0])
    (w1, b1), (w2, b2), (w3, b3) = [[np.asarray(a, float) for a in layer] for layer in params]
    h = np.sign(w1 @ np.asarray(x) + b1)
    h = np.sign(np.sign(w2 - w2.mean(1)[:, None]) @ h / 2 + b2)
    np.testing.assert_allclose(binary_dense(params, x, plain, sign_through), w3 @ h + b3, rtol=1e-5)
