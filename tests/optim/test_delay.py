"""Late gradients come exactly when they are due; braking against NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from attractor.optim import adaptive_braking, delay_gradients, trace_with_braking


def test_gradients_arrive_late_and_in_order():
    late = delay_gradients(3)
    params = {"w": jnp.zeros(2), "b": jnp.zeros(())}
    state, seen = late.init(params), []
    for t in range(1, 8):
        out, state = late.update({"w": jnp.full(2, float(t)), "b": jnp.asarray(-float(t))}, state)
        np.testing.assert_array_equal(out["w"], -out["b"])
        seen.append(float(-out["b"]))
    assert seen == [0, 0, 0, 1, 2, 3, 4]


def test_without_delay_nothing_changes():
    out, _ = delay_gradients(0).update(jnp.ones(2), delay_gradients(0).init(jnp.ones(2)))
    np.testing.assert_array_equal(out, 1)


def test_braking_agrees_with_numpy():
    rng = np.random.default_rng(0)
    x, v = rng.standard_normal(5), np.zeros(5)
    scale = rng.uniform(0.1, 1, 5)
    with jax.enable_x64(True):
        optimizer, found = adaptive_braking(0.1, 0.8, 1.5), jnp.asarray(x)
        state = optimizer.init(found)
        for _ in range(10):
            g = scale * x
            cosine = g @ v / max(np.linalg.norm(g) * np.linalg.norm(v), 1e-30)
            v = 0.8 * v + (1 - 1.5 * cosine) * g
            x = x - 0.1 * v
            updates, state = optimizer.update(scale * found, state)
            found = found + updates
    np.testing.assert_allclose(found, x, rtol=1e-9)


def test_without_braking_it_is_optax_trace():
    grads = jnp.asarray([1.0, -2.0])
    ours, theirs = trace_with_braking(0.9, 0.0), optax.trace(0.9)
    a, b = ours.init(grads), theirs.init(grads)
    for _ in range(3):
        (u, a), (w, b) = ours.update(grads, a), theirs.update(grads, b)
        np.testing.assert_allclose(u, w, rtol=1e-6)


def test_a_negative_delay_is_named():
    with pytest.raises(ValueError, match="delay"):
        delay_gradients(-1)
