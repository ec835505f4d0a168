"""Sweeps against loops in NumPy, sweep by sweep."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from attractor.linalg import parallel_evaluation

RNG = np.random.default_rng(0)
W, START = 0.4 * RNG.standard_normal((12, 3, 12, 3)), RNG.standard_normal((12, 3))
W *= np.tri(12, k=-1)[:, None, :, None]


def step(t, states, xp=jnp):
    return xp.tanh(xp.tensordot(xp.asarray(W)[t], states, 2) + t / 10)


def exact():
    states = np.zeros((12, 3))
    for t in range(12):
        states[t] = step(t, states, np)
    return states


def loops(block, order, sweeps):
    """So many sweeps of all blocks at once; or each block in turn, by so many sweeps of its own."""
    states = START.copy()
    starts = range(0, 12, block)
    if order == "gs-jacobi":
        for b in starts:
            for _ in range(sweeps):
                states[b : b + block] = [step(t, states, np) for t in range(b, b + block)]
        return states
    for _ in range(sweeps):
        new = states.copy()
        for b in starts:
            mixed = states.copy()
            for t in range(b, b + block):
                new[t] = mixed[t] = step(t, mixed, np)
        states = new
    return states


@pytest.mark.parametrize(("order", "block"), [("jacobi-gs", 1), ("jacobi-gs", 4), ("gs-jacobi", 4)])
def test_sweeps_are_those_of_loops(order, block):
    with jax.enable_x64(True):
        evaluate = jax.jit(partial(parallel_evaluation, step, block=block, order=order))
        found = evaluate(jnp.asarray(START), tol=jnp.asarray(0.03))
        full = evaluate(jnp.asarray(START), tol=jnp.asarray(0.0))
    np.testing.assert_allclose(full.states, exact(), atol=1e-12)
    if order == "jacobi-gs":
        count = int(found.sweeps)
        assert 2 < count < 12 // block + 1
        np.testing.assert_allclose(found.states, loops(block, order, count), atol=1e-12)
        last = [np.abs(loops(block, order, k) - loops(block, order, k - 1)).max() for k in range(1, count + 1)]
        np.testing.assert_allclose(found.change, last[-1], atol=1e-12)
        assert all(c > 0.03 for c in last[:-1])
        assert last[-1] <= 0.03 or count == 12 // block
        assert int(found.depth) == count * block
    else:
        assert 3 * 2 <= int(found.depth) == int(found.sweeps) <= int(full.sweeps) <= 12
        np.testing.assert_allclose(found.states, exact(), atol=0.1)
        assert float(found.change) <= 0.03 or int(found.sweeps) == 12


def test_k_sweeps_make_the_first_k_states_exact():
    with jax.enable_x64(True):
        for sweeps in (1, 5):
            states = jnp.asarray(START)
            for _ in range(sweeps):  # a tolerance that the first sweep meets
                states = parallel_evaluation(step, states, tol=1e9).states
            np.testing.assert_allclose(states[:sweeps], exact()[:sweeps], atol=1e-12)
            assert np.abs(states[sweeps + 1 :] - exact()[sweeps + 1 :]).max() > 1e-6


@pytest.mark.parametrize(
    ("argument", "call"),
    [
        ("block", lambda: parallel_evaluation(step, jnp.zeros((12, 3)), block=5)),
        ("block", lambda: parallel_evaluation(step, jnp.zeros((12, 3)), block=0)),
        ("order", lambda: parallel_evaluation(step, jnp.zeros((12, 3)), order="x")),  # pyright: ignore[reportArgumentType]
        ("tol", lambda: parallel_evaluation(step, jnp.zeros((12, 3)), tol=-1.0)),
        ("start", lambda: parallel_evaluation(step, jnp.full((12, 3), jnp.nan))),
        ("step", lambda: parallel_evaluation(lambda t, s: s, jnp.zeros((12, 3)))),
    ],
)
def test_bad_input_is_named(argument, call):
    with pytest.raises((ValueError, TypeError), match=argument):
        call()
