"""Unrolled systems against recursions in NumPy, and exponents that are known."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from attractor.credit import UnrolledLoss, jacobian_growth, jacobian_spectrum

THETA, START = np.array([1.1, 0.3]), np.array([0.2, -0.1])


def step(params, state):
    return {"x": 1 - params[0] * state["x"] ** 2 + state["y"], "y": params[1] * jnp.sin(state["x"])}


def criterion(params, state):
    return params[1] * state["x"] ** 2 + 0.5 * state["y"]


def by_hand(steps, last, window):
    """Value and gradient, with the sensitivities of the state carried forward and forgotten where a stretch begins."""
    (a, b), (x, y), sensitivity, values, slopes = THETA, START, np.zeros((2, 2)), [], []
    for t in range(steps):
        if window and (steps - t) % window == 0:
            sensitivity = np.zeros((2, 2))
        jacobian = np.array([[-2 * a * x, 1.0], [b * np.cos(x), 0.0]])
        sensitivity = jacobian @ sensitivity + np.array([[-(x**2), 0.0], [0.0, np.sin(x)]])
        x, y = 1 - a * x**2 + y, b * np.sin(x)
        values.append(b * x**2 + 0.5 * y)
        slopes.append(np.array([2 * b * x, 0.5]) @ sensitivity + np.array([0.0, x**2]))
    return np.mean(values[-last:]), np.mean(slopes[-last:], 0)


def test_follows_the_recursion():
    ways = [(9, 1, None), (9, 4, None), (9, 1, 3), (10, 7, 4), (5, 1, 1)]
    with jax.enable_x64(True):
        start = dict(zip("xy", jnp.asarray(START), strict=True))
        losses = [UnrolledLoss(step, criterion, *way) for way in ways]
        found = jax.jit(lambda p, s: [jax.value_and_grad(loss)(p, s) for loss in losses])(jnp.asarray(THETA), start)
    for way, each in zip(ways, found, strict=True):
        for a, b in zip(each, by_hand(*way), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-9, err_msg=str(way))


def test_growth_and_spectrum_of_a_linear_system():
    rng = np.random.default_rng(0)
    matrix = 1.3 * rng.standard_normal((4, 4)) / 2
    matrix = matrix @ matrix  # real or complex pairs: the modulus counts
    moduli = np.sort(np.abs(np.linalg.eigvals(matrix)))[::-1]

    def advance(m, s):
        return m @ s

    np.testing.assert_allclose(jacobian_spectrum(advance, jnp.asarray(matrix), jnp.ones(4)), moduli, rtol=1e-4)
    growth = jacobian_growth(advance, jnp.asarray(matrix, jnp.float32), jnp.ones(4), jr.key(0), steps=400, discard=50)
    np.testing.assert_allclose(growth, np.log(moduli[0]), atol=0.01)


def test_growth_leaves_out_what_goes_before():
    """A product of slopes that is known step by step; the first ones must not count."""
    growth = jacobian_growth(lambda p, s: s**p, jnp.array(2.0), jnp.array(1.5), jr.key(1), steps=2, discard=1)
    slopes = [2 * 1.5 ** (2**t) for t in (1, 2)]
    np.testing.assert_allclose(growth, np.log(slopes).mean(), rtol=1e-5)


@pytest.mark.parametrize("given", [{"steps": 0}, {"last": 4}, {"last": 0}, {"window": 0}])
def test_refuses_what_makes_no_sense(given):
    with pytest.raises(ValueError, match=next(iter(given))):
        UnrolledLoss(step, criterion, **({"steps": 3} | given))
    if "steps" in given:
        with pytest.raises(ValueError, match="discard"):
            jacobian_growth(step, THETA, START, jr.key(0), steps=1, discard=-1)
        with pytest.raises(ValueError, match="steps"):
            jacobian_growth(step, THETA, START, jr.key(0), steps=0)
