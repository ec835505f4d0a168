"""Few bits for the backward pass: the best steps by trying all, codes bit by bit, bytes counted by hand."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from attractor.credit import few_bit, pack, step_approximation, stored_bytes, unpack

RNG = np.random.default_rng(0)


def wave(x):
    return jnp.sin(2 * x) + 0.3 * x**2 - x


@pytest.mark.parametrize("levels", [2, 4])
def test_no_other_steps_are_nearer(levels):
    x = np.linspace(-1.0, 2.0, 20)
    y = np.asarray(wave(jnp.asarray(x, jnp.float32)), float)
    best = min(
        sum(((part - part.mean()) ** 2).sum() for part in np.split(y, cuts))
        for cuts in itertools.combinations(range(1, 20), levels - 1)
    )
    steps = step_approximation(wave, levels, -1.0, 2.0, 20)
    np.testing.assert_allclose(steps.error, (best / 20) ** 0.5, rtol=1e-6)
    parts = np.split(y, np.searchsorted(x, steps.edges))
    expected = np.concatenate([np.full(len(part), part.mean()) for part in parts])
    np.testing.assert_allclose(np.asarray(steps(jnp.asarray(x))), expected, rtol=1e-5)
    for placing in ("uniform", "quantile"):
        other = step_approximation(wave, levels, -1.0, 2.0, 20, placing)
        assert other.error > steps.error
        np.testing.assert_allclose(
            other.error, np.sqrt(np.mean((np.asarray(other(jnp.asarray(x))) - y) ** 2)), rtol=1e-4
        )


def test_as_many_steps_as_points_are_exact():
    assert step_approximation(wave, 20, -1.0, 2.0, 20).error < 1e-6


@pytest.mark.parametrize("bits", [1, 3, 4, 8])
def test_codes_come_back_from_their_bytes(bits):
    codes = jnp.asarray(RNG.integers(0, 2**bits, (3, 7)), jnp.uint8)
    packed = pack(codes, bits)
    assert packed.dtype == jnp.uint8
    assert packed.size == -(-21 * bits // 8)
    np.testing.assert_array_equal(unpack(packed, bits, (3, 7)), codes)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_forward_is_exact_and_backward_a_table(dtype):
    f, steps = few_bit(jax.nn.silu, 2, -6.0, 5.0), step_approximation(jax.vmap(jax.grad(jax.nn.silu)), 4, -6.0, 5.0)
    x = jnp.asarray(3 * RNG.standard_normal((4, 5)), dtype)
    g = jnp.asarray(RNG.standard_normal((4, 5)), dtype)
    value, pull = jax.vjp(f, x)
    np.testing.assert_array_equal(np.asarray(value, np.float32), np.asarray(jax.nn.silu(x), np.float32))
    table = np.asarray(steps.values)[np.searchsorted(np.asarray(steps.edges, dtype), np.asarray(x))]
    expected = np.asarray(g, np.float32) * np.asarray(jnp.asarray(table, dtype), np.float32)
    np.testing.assert_allclose(
        np.asarray(pull(g)[0], np.float32), expected, rtol=1e-2 if dtype == jnp.bfloat16 else 1e-6
    )


def test_a_batch_is_as_its_examples():
    f, x = few_bit(jnp.tanh, 3), jnp.asarray(RNG.standard_normal((5, 3)), jnp.float32)
    slopes = jax.vmap(jax.grad(lambda row: jnp.sum(f(row) ** 2)))(x)
    np.testing.assert_allclose(slopes, jax.jit(jax.grad(lambda x: jnp.sum(f(x) ** 2)))(x), rtol=1e-6)


def test_bytes_are_those_of_what_is_kept():
    x, w = jax.ShapeDtypeStruct((16, 8), jnp.float32), jax.ShapeDtypeStruct((8, 8), jnp.float32)
    kept = 16 * 8 * 4
    assert stored_bytes(lambda x: jnp.sum(jnp.exp(x)), x) == kept  # its value
    assert stored_bytes(lambda x: jnp.sum(few_bit(jnp.tanh, 3)(x)), x) == 16 * 8 * 3 // 8
    assert stored_bytes(lambda w, x: jnp.sum(x @ w), w, x) == 0  # its arguments alone
    two = stored_bytes(lambda w, x: jnp.sum(jnp.exp(jnp.exp(x @ w) @ w)), w, x)
    assert two == 2 * kept
    assert stored_bytes(lambda w, x: jnp.sum(few_bit(jnp.tanh, 1)(jnp.exp(x @ w) @ w)), w, x) == kept + 16


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda: few_bit(jnp.tanh, 9), "bits"),
        (lambda: step_approximation(wave, 30, points=20), "levels"),
        (lambda: step_approximation(wave, 2, 1.0, 1.0), "low, high"),
        (lambda: step_approximation(wave, 2, placing="best"), "placing"),
        (lambda: step_approximation(jnp.log, 2), "f: expected finite"),
        (lambda: step_approximation(wave, 2, points=1), "points"),
    ],
)
def test_refuses_what_makes_no_sense(call, name):
    with pytest.raises(ValueError, match=name):
        call()
