import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from attractor import Minimization, run
from attractor.categories import (
    CircuitLearning,
    boolean_difference,
    conjunction,
    evaluate_gates,
    lut_circuit,
    negation,
    parity,
    rda_step,
    reverse_derivative,
    reverse_derivative_ascent,
    truth_table,
    xor,
)

BITS = [np.array(bits, dtype=bool) for bits in itertools.product([0, 1], repeat=3)]


def test_gates_compute_their_truth_tables():
    for a, b in itertools.product([False, True], repeat=2):
        x, y = jnp.float32(a), jnp.float32(b)
        assert bool(xor(x, y)) == (a != b)
        assert bool(conjunction(x, y)) == (a and b)
        assert bool(negation(x)) == (not a)
        assert bool(parity(jnp.stack([x, y, y]))) == a


@pytest.mark.parametrize(
    ("circuit", "partials"),
    [
        (lambda x: xor(x[0], x[1])[None], lambda x: [1, 1, 0]),
        (lambda x: conjunction(x[0], x[2])[None], lambda x: [x[2], 0, x[0]]),
        (lambda x: negation(conjunction(x[0], conjunction(x[1], x[2])))[None],
         lambda x: [x[1] & x[2], x[0] & x[2], x[0] & x[1]]),
        (lambda x: conjunction(x[1], x[1])[None], lambda x: [0, 0, 0]),  # d(yy) = y dy + y dy = 0
        (lambda x: conjunction(xor(x[0], x[1]), xor(x[1], x[2]))[None],
         lambda x: [x[1] ^ x[2], (x[0] ^ x[1]) ^ (x[1] ^ x[2]), x[0] ^ x[1]]),
    ],
)  # fmt: skip
def test_reverse_derivative_is_the_formal_one(circuit, partials):
    for x in BITS:
        (change,) = reverse_derivative(circuit)(x, np.array([True]))
        assert np.array_equal(change, np.array(partials(x), dtype=bool))
        (nothing,) = reverse_derivative(circuit)(x, np.array([False]))
        assert not nothing.any()


def test_cotangents_stay_exact_in_deep_circuits():
    def deep(x):  # x -> x + x + x, forty times: 3^40 paths, an odd number
        for _ in range(40):
            x = xor(xor(x, x), x)
        return x

    (change,) = jax.jit(reverse_derivative(deep))(np.array([True, False]), np.array([True, True]))
    assert change.all()


def test_difference_and_derivative_agree_on_multilinear_circuits_only():
    table, _ = lut_circuit(2, 2)
    random = np.random.default_rng(0)
    theta, x, d = random.random((4, 2)) < 0.5, np.array([True, False]), np.array([True, True])
    # Of an address bit too: a minterm uses each bit once.
    formal, brute = (jax.jit(reverse(table))(theta, x, d) for reverse in (reverse_derivative, boolean_difference))
    for a, b in zip(formal, brute, strict=True):
        assert np.array_equal(a, b)
    square = lambda x: conjunction(x, x)  # noqa: E731
    assert not reverse_derivative(square)(x, d)[0].any()
    assert boolean_difference(square)(x, d)[0].all()


def test_difference_takes_threshold_gates():
    majority = lambda x: (x.sum(keepdims=True) >= 2).astype(x.dtype)  # noqa: E731
    for x in BITS:
        (change,) = boolean_difference(majority)(x, np.array([True]))
        flips = [
            majority((x ^ (np.arange(3) == j)).astype(np.float32)) != majority(x.astype(np.float32)) for j in range(3)
        ]
        assert np.array_equal(change, np.ravel(flips))


def test_look_up_table_looks_up_and_flips_only_the_wrong_entry():
    table, zero = lut_circuit(3, 2)
    assert zero.shape == (8, 2)
    assert zero.dtype == bool
    theta = np.random.default_rng(0).random((8, 2)) < 0.5
    for address, x in enumerate(BITS):
        out = table(jnp.float32(theta), jnp.float32(x)) > 0
        assert np.array_equal(out, theta[address])
        wanted = np.array([True, False])
        learned = rda_step(reverse_derivative, table, jnp.asarray(theta), jnp.asarray(x), jnp.asarray(wanted))
        expected = theta.copy()
        expected[address] = wanted
        assert np.array_equal(learned, expected)
    constant, parameter = lut_circuit(0, 1)
    assert parameter.shape == (1, 1)
    assert constant(jnp.ones((1, 1)), jnp.zeros(0)).tolist() == [1.0]


def test_one_pass_through_the_engine_equals_a_loop_in_plain_python():
    """A two-layer circuit: parity of masked inputs, added to a table of two of them."""

    def circuit(theta, x):
        return xor(parity(conjunction(theta["mask"], x))[None], lut(theta["table"], x[:2]))

    lut, table = lut_circuit(2, 1)
    random = np.random.default_rng(0)
    x, y = random.random((40, 5)) < 0.5, random.random((40, 1)) < 0.5
    start = {"mask": np.zeros(5, dtype=bool), "table": np.asarray(table)}
    trace = run(CircuitLearning(circuit, start, (x, y)), reverse_derivative_ascent(), steps=1)

    mask, entries, address = np.zeros(5, int), np.zeros(4, int), x[:, 0] * 2 + x[:, 1]
    for i in range(40):
        wrong = (mask @ x[i] + entries[address[i]] + y[i, 0]) % 2
        mask, entries[address[i]] = (mask + wrong * x[i]) % 2, (entries[address[i]] + wrong) % 2
    assert trace.final["mask"].dtype == bool
    assert np.array_equal(trace.final["mask"].ravel(), mask)
    assert np.array_equal(trace.final["table"].ravel(), entries)
    errors = [(mask @ x[i] + entries[address[i]] + y[i, 0]) % 2 for i in range(40)]
    assert trace.last("loss").item() == pytest.approx(np.mean(errors))


def test_a_random_table_has_every_address_and_about_as_many_ones_as_zeros():
    inputs, outputs = truth_table(n_in=8, n_out=2).full
    assert len(np.unique(inputs, axis=0)) == len(inputs) == 256
    assert 0.4 < np.mean(outputs) < 0.6


def test_minibatches_checkpoints_and_seeds_work_with_bits(tmp_path):
    problem = truth_table(n_in=4, batch_size=8)
    whole = run(problem, reverse_derivative_ascent(), steps=30, seeds=3)
    saved = run(problem, reverse_derivative_ascent(), steps=30, seeds=3, checkpoint=tmp_path)
    resumed = run(problem, reverse_derivative_ascent(), steps=30, seeds=3, checkpoint=tmp_path)
    assert whole.final.dtype == bool
    assert np.array_equal(whole.final, saved.final)
    assert np.array_equal(whole.final, resumed.final)
    assert not whole.diverged.any()
    assert whole.last("loss").values.max() == 0.0


def test_errors_say_what_is_wrong():
    circuit, theta = lut_circuit(1, 1)
    with pytest.raises(ValueError, match=r"^n_in:"):
        lut_circuit(17, 1)
    with pytest.raises(ValueError, match=r"^n_out:"):
        lut_circuit(2, 0)
    with pytest.raises(ValueError, match=r"^data:"):
        CircuitLearning(circuit, theta, (np.zeros((2, 1)), np.zeros((2, 1))))
    with pytest.raises(TypeError, match="CircuitLearning"):
        run(Minimization(lambda x: x**2, 1.0), reverse_derivative_ascent(), steps=1)


def test_an_example_counts_as_wrong_with_a_single_wrong_bit():
    inputs = jnp.asarray(BITS)
    wrong = inputs.at[:3, 1].set(~inputs[:3, 1]).at[0, 2].set(~inputs[0, 2])
    problem = CircuitLearning(lambda theta, x: x, jnp.zeros(1, bool), (inputs, wrong))
    np.testing.assert_allclose(problem.loss(jnp.zeros(1, bool), problem.full), 3 / 8)


def test_gates_are_evaluated_layer_by_layer():
    gates = np.array([[[0, 1, 2], [2, 0, 1]], [[0, 2, 1], [1, 1, 0]], [[1, 0, 2], [2, 2, 0]]])  # kind, left, right
    for a, b, c in itertools.product([False, True], repeat=3):
        first = a ^ b, c and a, not b
        expected = not first[1], first[1] ^ first[2], first[0] and first[0]
        found = evaluate_gates(jnp.asarray(gates), jnp.array([a, b, c], float))
        np.testing.assert_array_equal(found > 0, expected)
