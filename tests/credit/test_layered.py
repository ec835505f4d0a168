"""Layers with signals of their own, and the measures of an estimator."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import pytest
from layers import INPUTS, TARGETS, loss_and_start

from attractor import run
from attractor.credit import (
    Equilibrium,
    EquilibriumGradient,
    ForwardGradient,
    Layered,
    LayeredGradient,
    backpropagation,
    dense,
    dense_params,
    estimator_quality,
    layered_digits,
    local_gradient,
)

RNG = np.random.default_rng(1)


def forward(params, x):
    """Inputs and outputs of the hidden units, and what comes out, in NumPy."""
    (w1, b1), (w2, b2), (w3, b3) = [[np.asarray(a, float) for a in layer] for layer in params]
    a1 = w1 @ x + b1
    a2 = w2 @ np.tanh(a1) + b2
    return a1, a2, w3 @ np.tanh(a2) + b3


@pytest.mark.parametrize("after", [False, True])
def test_each_layer_gets_its_own_signal(after):
    with jax.enable_x64(True):
        loss, params = loss_and_start()
        signals = [RNG.standard_normal((5, 4)), RNG.standard_normal((5, 6))]
        value, found = local_gradient(loss, params, lambda *_: list(map(jnp.asarray, signals)), after=after)
        expected, losses = jax.tree.map(np.zeros_like, params), []
        for n, (x, t) in enumerate(zip(INPUTS, TARGETS, strict=True)):
            a1, a2, out = forward(params, x)
            losses.append(((out - t) ** 2).sum())
            s1, s2 = (s[n] * ((1 - np.tanh(a) ** 2) if after else 1) for s, a in zip(signals, (a1, a2), strict=True))
            parts = ((s1, x), (s2, np.tanh(a1)), (2 * (out - t), np.tanh(a2)))
            for (weight, bias), (signal, seen) in zip(expected, parts, strict=True):
                weight += np.outer(signal, seen) / 5
                bias += signal / 5
    np.testing.assert_allclose(value, np.mean(losses), rtol=1e-6)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-9)


def test_signals_that_are_the_chain_give_the_gradient():
    loss, params = loss_and_start()
    (w2, _), (w3, _) = params[1:]

    def assign(losses, outputs, values):
        last = 2 * (outputs - loss.batch[1]) @ w3
        return [last * (1 - jnp.tanh(values[1]) ** 2) @ w2, last]

    # The signal of a first layer's outputs has the derivative of the second one's units in it.
    def inputs(losses, outputs, values):
        first, last = assign(losses, outputs, values)
        return [first * (1 - jnp.tanh(values[0]) ** 2), last * (1 - jnp.tanh(values[1]) ** 2)]

    found = local_gradient(loss, params, inputs)[1]
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(jax.grad(loss)(params)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_noise_is_seen_by_what_comes_after():
    loss, params = loss_and_start()
    noise = [jnp.asarray(RNG.standard_normal((5, n)), jnp.float32) for n in (4, 6)]
    seen = []
    value = local_gradient(loss, params, lambda *of: (seen.append(of), [0 * v for v in of[2]])[1], noise=noise)[0]
    (w1, b1), (w2, b2), (w3, b3) = params
    a1 = loss.batch[0] @ w1.T + b1
    a2 = jnp.tanh(a1 + noise[0]) @ w2.T + b2
    out = jnp.tanh(a2 + noise[1]) @ w3.T + b3
    losses = ((out - loss.batch[1]) ** 2).sum(1)
    np.testing.assert_allclose(value, losses.mean(), rtol=1e-5)
    for a, b in zip(jax.tree.leaves(seen[0]), (losses, out, a1, a2), strict=True):
        np.testing.assert_allclose(jnp.asarray(jax.lax.stop_gradient(a)), b, rtol=1e-5, atol=1e-5)


def test_quality_agrees_with_numpy():
    gradient = [jnp.array([1.0, 2.0]), jnp.array([-3.0])]

    def estimator(loss, params, key):
        noise = jr.normal(key, (3,))
        return 0.0, [gradient[0] + 0.5 + noise[:2], 2 * gradient[1] * (1 + noise[2:])]

    def of(params):
        return sum(jnp.sum(g * p) for g, p in zip(gradient, params, strict=True))

    params, keys = jax.tree.map(jnp.zeros_like, gradient), jr.split(jr.key(1), 50)
    bias, variance, cosine = estimator_quality(estimator, of, params, jr.key(1), 50)
    drawn = [np.stack(g).astype(float) for g in zip(*(estimator(of, params, k)[1] for k in keys), strict=True)]
    for i, (g, true) in enumerate(zip(drawn, [np.array([1.0, 2.0]), np.array([-3.0])], strict=True)):
        spread = np.trace(np.atleast_2d(np.cov(g.T)))
        square = ((g.mean(0) - true) ** 2).sum() - spread / 50
        np.testing.assert_allclose(variance[i], spread / (true @ true), rtol=1e-5)
        np.testing.assert_allclose(bias[i], (square / (true @ true)) ** 0.5, rtol=1e-4)
        each = [row @ true / np.linalg.norm(row) / np.linalg.norm(true) for row in g]
        np.testing.assert_allclose(cosine[i], np.mean(each), rtol=1e-5)
    with pytest.raises(ValueError, match="draws"):
        estimator_quality(estimator, of, params, jr.key(0), 1)


def test_a_problem_trains_by_any_estimator_and_refuses_what_is_no_pair():
    problem = layered_digits((64, 8, 10), batch_size=32)
    trace = run(problem, LayeredGradient(optax.adam(0.01), backpropagation), steps=300, every=150)
    assert trace["test_accuracy"].values[0, 0, -1] > 0.75
    with pytest.raises(ValueError, match="data"):
        Layered(dense, lambda o, t: o, jnp.zeros(2), jnp.zeros((3, 2)))
    with pytest.raises(ValueError, match="sizes"):
        dense_params(jr.key(0), (4,))


@pytest.mark.parametrize(
    ("method", "kind"), [(ForwardGradient, Layered), (LayeredGradient, Layered), (EquilibriumGradient, Equilibrium)]
)
def test_every_kind_hands_its_batch_and_keys_to_estimator_and_transformation(method, kind):
    seen, problem, key = {}, kind.example(), jr.key(3)

    def estimator(loss, params, key):
        seen.update(loss=loss, of_estimate=key)
        value, grad = backpropagation(loss, params, key)
        return value, jax.tree.map(lambda g: 0.5 * g, grad)

    def update(updates, state, params, **offered):
        seen.update(offered, params=params)
        return updates, state + 1

    x = problem.init(jr.key(0))
    followed = method(optax.GradientTransformationExtraArgs(lambda x: jnp.zeros(()), update), estimator)
    moved, state = followed.step(problem, x, followed.init(problem, x, key), key)
    batch = problem.sample(key)
    value, grad = jax.value_and_grad(problem.loss)(x, batch)
    np.testing.assert_allclose(seen["value"], value, rtol=1e-6)
    assert float(state) == 1
    away = jax.tree.map(lambda a: a + 0.3, x)
    for found in (seen["value_fn"], seen["obj_fn"], seen["loss"]):
        np.testing.assert_allclose(found(away), problem.loss(away, batch), rtol=1e-6)
    assert hasattr(seen["loss"], "batch") == (method is not ForwardGradient)  # shows its units, or its dynamics
    of_estimate, of_update = jr.split(jr.fold_in(key, 1))
    assert (seen["of_estimate"], seen["key"]) == (of_estimate, of_update)
    for new, old, offered, g in zip(*map(jax.tree.leaves, (moved, x, seen["grad"], grad)), strict=True):
        np.testing.assert_allclose(offered, 0.5 * g, rtol=1e-5)
        np.testing.assert_allclose(new, old + 0.5 * g, rtol=1e-5)
