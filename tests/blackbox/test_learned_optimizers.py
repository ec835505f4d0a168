"""Learned rules against NumPy loops of the formulas, and their training against one step by hand."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import pytest
from jax.flatten_util import ravel_pytree

from attractor.blackbox import CoordinateNetwork, Tasks, learned_descent, learned_proximal, meta_train
from attractor.linalg.proximal import soft_threshold
from attractor.problems import digit_codes, random_sparse_code

RNG = np.random.default_rng(4)
A, B = RNG.normal(size=(3, 4)), RNG.normal(size=3)
BOWLS = Tasks(lambda key: jr.uniform(key, (3,), minval=0.2), jnp.ones_like, lambda x, t: t * x, lambda x, t: t @ x**2)
IDLE = learned_descent(CoordinateNetwork(width=2, layers=1, key=jr.key(0)))


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def numpy_network(network, inputs, memory):
    """LSTM cells as in their formulas: input, forget, cell, output gate, one after another in the weights."""
    kept = []
    for cell, (h, c) in zip(network.cells, memory, strict=True):
        gates = inputs @ np.asarray(cell.weight_ih).T + h @ np.asarray(cell.weight_hh).T + np.asarray(cell.bias)
        i, f, g, o = np.split(gates, 4, 1)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        inputs = sigmoid(o) * np.tanh(c)
        kept.append((inputs, c))
    hidden = np.maximum(inputs @ np.asarray(network.hidden.weight).T + np.asarray(network.hidden.bias), 0)
    return hidden @ np.asarray(network.last.weight).T + np.asarray(network.last.bias), kept


@pytest.mark.parametrize("rule", ["structured", "free"])
def test_steps_follow_a_numpy_loop(rule):
    with jax.enable_x64(True):
        made = CoordinateNetwork(2, 5, 2, key=jr.key(2))
        network = jax.tree.map(lambda w: 2 * w.astype(float) if eqx.is_array(w) else w, made)
        eta, ahead, strength = 0.07, 0.8, 0.3
        if rule == "structured":
            optimizer = learned_proximal(network, eta, lambda x, p: soft_threshold(x, strength * p), ahead)
        else:
            optimizer = learned_descent(network, 0.3)
        y = RNG.normal(size=4)
        params = {"b": jnp.asarray(y[1:].reshape(3, 1)), "a": jnp.asarray(y[0])}  # "a" comes first in the vector
        state, x, memory = optimizer.init(params), y, [(np.zeros((4, 5)),) * 2] * 2
        step = jax.jit(optimizer.update)
        for _ in range(12):
            slope = A.T @ (A @ y - B)
            grads = {"b": jnp.asarray(slope[1:].reshape(3, 1)), "a": jnp.asarray(slope[0])}
            updates, state = step(grads, state, params)
            params = optax.apply_updates(params, updates)
            outputs, memory = numpy_network(network, np.stack([slope, y], 1), memory)
            if rule == "structured":
                p, a = eta * 2 * sigmoid(outputs[:, 0]), ahead * 2 * sigmoid(outputs[:, 1])
                moved = y - p * slope
                new = np.sign(moved) * np.maximum(np.abs(moved) - strength * p, 0)
                y, x = new + a * (new - x), new
            else:
                y = x = y + 0.3 * np.where(outputs[:, 0] > 0, outputs[:, 0], np.exp(outputs[:, 0]) - 1)
            np.testing.assert_allclose(ravel_pytree(params)[0], y, rtol=1e-9)
            np.testing.assert_allclose(state.point, x, rtol=1e-9, atol=1e-12)


def test_training_is_adam_on_the_mean_value_of_each_segment():
    network, key = {"rate": jnp.asarray(0.3)}, jr.key(6)

    def make(network, task):
        return optax.trace(0.5) if network is None else optax.chain(optax.trace(0.5), optax.scale(-network["rate"]))

    trained, values = meta_train(network, make, BOWLS, key, rounds=2, batch=2, segments=2, unroll=3, learning_rate=0.1)
    rate, adam = network["rate"], optax.adam(0.1)
    state, seen, value = adam.init(rate), [], 0.0
    for drawing in jr.split(key, 2):
        tasks = [BOWLS.draw(k) for k in jr.split(drawing, 2)]
        at = [(jnp.ones(3), jnp.zeros(3))] * 2
        for _ in range(2):

            def cost(rate, at=at, tasks=tasks):
                total, ends = 0.0, []
                for (x, speed), task in zip(at, tasks, strict=True):
                    for _ in range(3):
                        speed = task * x + 0.5 * speed
                        x = x - rate * speed
                        total += task @ x**2 / 6
                    ends.append((x, speed))
                return total, ends

            (value, at), slope = jax.value_and_grad(cost, has_aux=True)(rate)
            step, state = adam.update(slope, state)
            rate = optax.apply_updates(rate, step)
        seen.append(value)
    np.testing.assert_allclose(trained["rate"], jnp.asarray(rate), rtol=1e-5)
    np.testing.assert_allclose(values, seen, rtol=1e-5)


def test_a_network_is_not_trained_through_what_it_sees():
    def end(slopes, points):
        network = CoordinateNetwork(1, 3, 1, key=jr.key(3))
        return network(slopes, points, network.start(2))[0].sum()

    given = jnp.array([0.3, -1.0]), jnp.array([2.0, 0.5])
    np.testing.assert_array_equal(jax.grad(end, (0, 1))(*given), np.zeros((2, 2)))


def test_parameters_that_are_absent_or_half_as_wide_are_taken():
    params = {"w": jnp.ones((2, 3), jnp.bfloat16), "absent": None}
    updates, _ = IDLE.update(params, IDLE.init(params), params)
    assert jax.tree.map(lambda u: (u.shape, u.dtype), updates) == {"w": ((2, 3), jnp.bfloat16), "absent": None}
    assert IDLE.update({}, IDLE.init({}), {})[0] == {}


def test_sparse_codes():
    code = random_sparse_code(jr.key(3), 5, 9, 2, 0.4)
    np.testing.assert_allclose(jnp.linalg.norm(code.matrix, axis=0), 1, rtol=1e-6)
    np.testing.assert_allclose(code.step, np.linalg.norm(code.matrix, 2) ** -2, rtol=1e-5)
    x = jnp.linspace(-1, 1, 9)
    rest = code.matrix @ x - code.target
    np.testing.assert_allclose(code.value(x), rest @ rest / 2 + 0.4 * jnp.abs(x).sum(), rtol=1e-5)
    np.testing.assert_allclose(code.slope(x), jax.grad(lambda x: code.value(x) - 0.4 * jnp.abs(x).sum())(x), atol=1e-5)
    images = digit_codes(3, 1, 7, 0.2)
    assert images.matrix.shape == (3, 64, 7)
    np.testing.assert_allclose(images.matrix.sum(1), 0, atol=1e-4)
    np.testing.assert_allclose(images.step, np.linalg.norm(images.matrix[0], 2) ** -2, rtol=1e-5)


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda: CoordinateNetwork(2, 0, key=jr.key(0)), "width"),
        (lambda: learned_descent(CoordinateNetwork(key=jr.key(0)), 0.0), "scale"),
        (lambda: meta_train(IDLE, lambda n, t: IDLE, BOWLS, jr.key(0), rounds=0), "rounds"),
        (lambda: IDLE.update(jnp.ones(2), IDLE.init(jnp.ones(2))), "params"),
        (lambda: random_sparse_code(jr.key(0), nonzeros=25), "nonzeros"),
        (lambda: digit_codes(1_700), "n"),
    ],
)  # fmt: skip
def test_bad_arguments_are_refused_by_name(call, name):
    with pytest.raises(ValueError, match=f"^{name}:"):
        call()
