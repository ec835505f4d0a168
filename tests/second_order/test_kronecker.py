"""Kronecker factors against NumPy, the methods against a NumPy derivation, fallback, dtypes."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import pytest

from attractor import Composite
from attractor.second_order import (
    Kfac,
    Mkor,
    first_moments,
    kronecker_solve,
    layer_statistics,
    rank_one_inverse_update,
    second_moments,
)
from attractor.second_order.kronecker import MkorState, map_layers, stabilized

RNG = np.random.default_rng(0)
INPUTS, TARGETS = RNG.standard_normal((12, 3)), RNG.standard_normal((12, 2))


def build(key):
    return eqx.nn.MLP(3, 2, 4, 1, activation=jnp.tanh, key=key)


def mean_square(outputs, batch):
    return 0.5 * jnp.mean(jnp.sum((outputs - batch[1]) ** 2, -1))


def network(dtype=None):
    data = (jnp.asarray(INPUTS, dtype), jnp.asarray(TARGETS, dtype))

    def cast(key):
        return jax.tree.map(lambda a: a.astype(dtype) if eqx.is_inexact_array(a) and dtype else a, build(key))

    return Composite.of_model(cast, mean_square, data)


def by_hand(weights):
    """Gradients, layer inputs with a 1 appended, and output gradients per example, of the tanh network."""
    first, second = weights
    a0 = np.column_stack([INPUTS, np.ones(12)])
    hidden = np.tanh(a0 @ first.T)
    a1 = np.column_stack([hidden, np.ones(12)])
    g1 = a1 @ second.T - TARGETS
    g0 = (g1 @ second[:, :-1]) * (1 - hidden**2)
    return [g0.T @ a0 / 12, g1.T @ a1 / 12], [a0, a1], [g0, g1]


def matrices(x):
    return [np.column_stack([layer.weight, layer.bias]) for layer in x.layers]


def ten_steps(method, problem, x):
    state, step = method.init(problem, x, jr.key(0)), eqx.filter_jit(method.step)
    for t in range(10):
        x, state = step(problem, x, state, jr.key(t))
    return x


def test_statistics_agree_with_numpy():
    with jax.enable_x64(True):
        problem = network()
        x = problem.init(jr.key(0))
        gradients, inputs, outputs = by_hand(matrices(x))
        value, gradient, second = layer_statistics(lambda x: problem.loss(x, problem.full), x, 12)
        first = layer_statistics(lambda x: problem.loss(x, problem.full), x, 12, first_moments)[2]
        np.testing.assert_allclose(value, problem.loss(x, problem.full))
        for i in range(2):
            np.testing.assert_allclose(matrices(gradient)[i], gradients[i], atol=1e-12)
            np.testing.assert_allclose(second[i][0], inputs[i].T @ inputs[i] / 12, atol=1e-12)
            np.testing.assert_allclose(second[i][1], outputs[i].T @ outputs[i] / 12, atol=1e-12)
            np.testing.assert_allclose(first[i][0], inputs[i].mean(0), atol=1e-12)
            np.testing.assert_allclose(first[i][1], outputs[i].mean(0), atol=1e-12)


def test_a_recurrence_sums_over_its_steps():
    """y <- Wy, three times: the inputs are averaged over the uses, the output gradients summed."""
    with jax.enable_x64(True):
        layer = eqx.nn.Linear(2, 2, use_bias=False, key=jr.key(0))
        starts = jnp.asarray(RNG.standard_normal((5, 2)))

        def loss(layer):
            def final(y):
                return jax.lax.scan(lambda y, _: (layer(y), None), y, length=3)[0]

            return jnp.mean(jax.vmap(lambda y: final(y).sum())(starts))

        w = np.asarray(layer.weight)
        states = [np.asarray(starts), np.asarray(starts) @ w.T, np.asarray(starts) @ w.T @ w.T]
        slopes = [np.ones(2), w.T @ np.ones(2), w.T @ w.T @ np.ones(2)]
        [(a, g)] = layer_statistics(loss, layer, 5)[2]
        np.testing.assert_allclose(a, sum(s.T @ s for s in states) / 15)
        np.testing.assert_allclose(g, sum(np.outer(s, s) for s in slopes))


def test_an_lstm_cell_is_one_layer_from_input_and_state_to_its_gates():
    """Against a cell written out, whose gates take a shift at every use: the loss's slopes there are the g."""
    with jax.enable_x64(True):
        cell = eqx.nn.LSTMCell(3, 2, key=jr.key(0))
        paths, target = jnp.asarray(RNG.standard_normal((2, 3, 3))), jnp.asarray(RNG.standard_normal((2, 2)))

        def loss(cell):
            def final(path):
                start = (jnp.zeros(cell.hidden_size), jnp.zeros(cell.hidden_size))
                return jax.lax.scan(lambda s, x: (cell(x, s), None), start, path)[0][0]

            return jnp.mean(jnp.sum((jax.vmap(final)(paths) - target) ** 2, -1))

        def by_hand(shifts):
            total, inputs = 0.0, []
            for path, shift, wanted in zip(paths, shifts, target, strict=True):
                h, c = jnp.zeros(2), jnp.zeros(2)
                for x, extra in zip(path, shift, strict=True):
                    inputs.append(jnp.concatenate([x, h, jnp.ones(1)]))
                    i, f, g, o = jnp.split(cell.weight_ih @ x + cell.weight_hh @ h + cell.bias + extra, 4)
                    c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
                    h = jax.nn.sigmoid(o) * jnp.tanh(c)
                total += jnp.sum((h - wanted) ** 2) / 2
            return total, jnp.stack(inputs)

        slopes, inputs = jax.jit(jax.grad(by_hand, has_aux=True))(jnp.zeros((2, 3, 8)))
        value, gradient, [(a, g)] = jax.jit(lambda c: layer_statistics(loss, c, 2))(cell)
        wanted_value, expected = jax.jit(jax.value_and_grad(loss))(cell)
        np.testing.assert_allclose(value, wanted_value)
        for found, wanted in zip(jax.tree.leaves(gradient), jax.tree.leaves(expected), strict=True):
            np.testing.assert_allclose(found, wanted, atol=1e-12)
        np.testing.assert_allclose(a, inputs.T @ inputs / 6, atol=1e-12)
        rows = 2 * np.asarray(slopes).reshape(6, 8)
        np.testing.assert_allclose(g, rows.T @ rows / 2, atol=1e-12)
        matrix = jnp.concatenate([expected.weight_ih, expected.weight_hh, expected.bias[:, None]], 1)
        solved = map_layers(lambda m, a, g: kronecker_solve(m, a, g, 0.1), gradient, [a], [g])
        new = jnp.concatenate([solved.weight_ih, solved.weight_hh, solved.bias[:, None]], 1)
        np.testing.assert_allclose(new, kronecker_solve(matrix, a, g, 0.1), rtol=1e-9)


def test_factors_of_a_linear_model_give_its_exact_block():
    """Least squares: the Hessian is A (x) I, and G = I when the residuals are replaced by independent signs."""
    with jax.enable_x64(True):
        layer = eqx.nn.Linear(3, 2, key=jr.key(0))
        signs = jnp.asarray(np.array([[s, t] for s in (1.0, -1.0) for t in (1.0, -1.0)] * 3))
        inputs = jnp.asarray(INPUTS)

        def loss(layer, residuals):
            return jnp.mean(jnp.sum(jax.vmap(layer)(inputs) * residuals, -1))

        def square(vector):
            w = vector.reshape(2, 4)
            return 0.5 * jnp.mean(jnp.sum((inputs @ w[:, :-1].T + w[:, -1]) ** 2, -1))

        [(a, g)] = layer_statistics(lambda layer: loss(layer, signs), layer, 12)[2]
        np.testing.assert_allclose(np.kron(g, a), jax.hessian(square)(jnp.zeros(8)), atol=1e-12)


def test_kronecker_solve_inverts_the_damped_product():
    with jax.enable_x64(True):
        a, g = (m @ m.T for m in (RNG.standard_normal((4, 4)), RNG.standard_normal((3, 3))))
        matrix = RNG.standard_normal((3, 4))
        split = np.sqrt((np.trace(a) / 4) / (np.trace(g) / 3))
        dense = np.kron(g + np.sqrt(0.3) / split * np.eye(3), a + np.sqrt(0.3) * split * np.eye(4))
        found = kronecker_solve(*map(jnp.asarray, (matrix, a, g)), 0.3)
        np.testing.assert_allclose(found, np.linalg.solve(dense, matrix.ravel()).reshape(3, 4), rtol=1e-9)


def test_rank_one_update_is_the_inverse_of_the_running_mean():
    with jax.enable_x64(True):
        factor, inverse = np.eye(5), jnp.eye(5)
        for v in RNG.standard_normal((30, 5)):
            factor = 0.9 * factor + 0.1 * np.outer(v, v)
            inverse = rank_one_inverse_update(inverse, jnp.asarray(v), 0.9)
        np.testing.assert_allclose(inverse, np.linalg.inv(factor), rtol=1e-9)
        np.testing.assert_array_equal(rank_one_inverse_update(inverse, jnp.ones(5), 1.0), inverse)


def test_stabilizer_acts_above_its_threshold_only():
    matrix = jnp.diag(jnp.asarray([3.0, 1.0]))
    np.testing.assert_array_equal(stabilized(matrix, 4.0, 0.9), matrix)
    np.testing.assert_allclose(stabilized(matrix, 2.0, 0.5), np.diag([2.0, 1.0]))


def test_kfac_agrees_with_numpy():
    with jax.enable_x64(True):
        problem = network()
        x = problem.init(jr.key(0))
        weights, found = matrices(x), ten_steps(Kfac(0.1, 0.05, 0.9, 0.8), problem, x)
        sums = [[0.0, 0.0], [0.0, 0.0]]
        velocities = [0.0, 0.0]
        for t in range(1, 11):
            gradients, inputs, outputs = by_hand(weights)
            for i in range(2):
                for j, rows in enumerate((inputs[i], outputs[i])):
                    sums[i][j] = 0.9 * sums[i][j] + 0.1 * rows.T @ rows / 12
                a, g = (m / (1 - 0.9**t) for m in sums[i])
                split = np.sqrt((np.trace(a) / len(a)) / (np.trace(g) / len(g)))
                left, right = g + 0.05**0.5 / split * np.eye(len(g)), a + 0.05**0.5 * split * np.eye(len(a))
                direction = np.linalg.solve(left, gradients[i]) @ np.linalg.inv(right)
                velocities[i] = 0.8 * velocities[i] + direction
                weights[i] = weights[i] - 0.1 * velocities[i]
        for leaf, w in zip(matrices(found), weights, strict=True):
            np.testing.assert_allclose(leaf, w, atol=1e-10)


@pytest.mark.parametrize("every", [1, 3])
def test_mkor_agrees_with_numpy(every):
    with jax.enable_x64(True):
        problem = network()
        x = problem.init(jr.key(0))
        weights, found = matrices(x), ten_steps(Mkor(0.1, 0.8, 0.7, 1.5, 0.6, every), problem, x)
        inverses = [[np.eye(len(w[0])), np.eye(len(w))] for w in weights]
        velocities = [0.0, 0.0]
        for t in range(10):
            gradients, inputs, outputs = by_hand(weights)
            for i in range(2):
                for j, rows in enumerate((inputs[i], outputs[i])):
                    if t % every == 0:
                        inverse = inverses[i][j]
                        if abs(inverse).max() > 1.5:
                            inverse = 0.6 * inverse + 0.4 * np.eye(len(inverse))
                        mean = rows.mean(0)
                        inverses[i][j] = np.linalg.inv(0.8 * np.linalg.inv(inverse) + 0.2 * np.outer(mean, mean))
                direction = inverses[i][1] @ gradients[i] @ inverses[i][0]
                direction *= np.linalg.norm(gradients[i]) / np.linalg.norm(direction)
                velocities[i] = 0.7 * velocities[i] + direction
                weights[i] = weights[i] - 0.1 * velocities[i]
        for leaf, w in zip(matrices(found), weights, strict=True):
            np.testing.assert_allclose(leaf, w, atol=1e-10)


def test_mkor_falls_back_to_momentum_for_good():
    problem = network()
    x = problem.init(jr.key(0))
    method = Mkor(0.05, stall=2.0)  # no loss can fall by 200 %, so it falls back as soon as it may
    state = method.init(problem, x, jr.key(0))
    step = eqx.filter_jit(method.step)
    for t in range(101):
        assert float(state.second_order) == 1
        x, state = step(problem, x, state, jr.key(t))
    assert float(state.second_order) == 0
    plain = optax.trace(0.9)
    theirs, memory = x, state.base
    for t in range(5):
        x, state = step(problem, x, state, jr.key(t))
        direction, memory = plain.update(jax.grad(problem.loss)(theirs, problem.full), memory)
        theirs = optax.apply_updates(theirs, jax.tree.map(lambda d: -0.05 * d, direction))
    for a, b in zip(jax.tree.leaves(x), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7)


def test_mkor_watches_two_averages_of_the_loss():
    method, fast, slow = Mkor(0.1, stall=0.1), 0.0, 0.0
    zeros = jnp.zeros((), jnp.float32)
    state = MkorState(jnp.asarray(0), [], (zeros, zeros), jnp.ones(()), None)
    for t, value in enumerate([3.0, 1.0, 2.0, 0.5]):
        fast, slow = (value, value) if t == 0 else (0.9 * fast + 0.1 * value, 0.99 * slow + 0.01 * value)
        losses, second_order = method._watch(jnp.asarray(value), state)
        np.testing.assert_allclose(losses, [fast, slow], rtol=1e-6)
        assert second_order == 1  # however little the loss falls, not before step 100
        state = state._replace(steps=jnp.asarray(t + 1), losses=losses)
    for steps, fast, expected in ((99, 0.95, 1), (100, 0.95, 0), (100, 0.85, 1)):
        averages = (jnp.asarray(fast), jnp.asarray(1.0))
        state = state._replace(steps=jnp.asarray(steps), losses=averages)
        assert method._watch(jnp.asarray(fast), state)[1] == expected


@pytest.mark.parametrize("method", [Kfac(0.1), Mkor(0.1, stall=0.0)])
@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float32])
def test_a_networks_dtype_is_kept(method, dtype):
    problem = network(dtype)
    x = problem.init(jr.key(0))
    state = method.init(problem, x, jr.key(0))
    new, after = method.step(problem, x, state, jr.key(1))
    assert all(leaf.dtype == dtype for leaf in jax.tree.leaves(new))
    assert [leaf.dtype for leaf in jax.tree.leaves(after)] == [leaf.dtype for leaf in jax.tree.leaves(state)]
    assert all(bool(jnp.isfinite(leaf).all()) for leaf in jax.tree.leaves(new))


def test_statistics_are_those_of_one_example():
    assert [s.shape for s in second_moments(jnp.ones(3), jnp.ones(2))] == [(3, 3), (2, 2)]
