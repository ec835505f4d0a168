"""Two-point gradients and the methods fed with them, against loops in NumPy and closed forms."""

import functools

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from attractor import Minimization
from attractor.blackbox import AcceleratedZerothOrder, ZerothOrderDescent, ball_smoothing, two_point_gradient
from attractor.blackbox.zeroth_order import directions, in_ball

RNG = np.random.default_rng(5)
KEY = jr.key(3)


def skewed(x):
    """Neither even nor quadratic, so that a wrong side or length shows."""
    a, b = x["a"], x["b"]
    return jnp.sum(a**3) + jnp.exp(a[0] * b[1]) + jnp.sum(jnp.sin(b) * jnp.arange(1.0, 4.0))


def start():
    return {"a": jnp.asarray(RNG.normal(size=2)), "b": jnp.asarray(RNG.normal(size=3))}


def by_hand(x, key, radius, pairs, law):
    """The estimate, one pair after another."""
    flat = np.concatenate([x["a"], x["b"]])
    total = np.zeros(5)
    for z in np.asarray(directions(key, pairs, 5, law, jnp.float64)):
        u = radius if law == "normal" else radius / np.sqrt(5)
        values = [
            float(skewed({"a": p[:2], "b": p[2:]})) for p in (jnp.asarray(flat + u * z), jnp.asarray(flat - u * z))
        ]
        total += (values[0] - values[1]) / (2 * u) * z / pairs
    return total


@pytest.fixture(autouse=True)
def doubles():
    with jax.enable_x64(True):
        yield


@pytest.mark.parametrize(("law", "pairs"), [("sphere", 3), ("normal", 1)])
def test_the_estimate_is_a_mean_over_pairs(law, pairs):
    x = start()
    told = two_point_gradient(skewed, x, KEY, 0.3, pairs, law)
    np.testing.assert_allclose(np.concatenate([told["a"], told["b"]]), by_hand(x, KEY, 0.3, pairs, law), rtol=1e-9)


@pytest.mark.parametrize("law", ["sphere", "normal"])
def test_of_a_linear_function_it_is_unbiased(law):
    slope = jnp.asarray(RNG.normal(size=4))
    estimates = jax.vmap(lambda k: two_point_gradient(lambda x: slope @ x, jnp.ones(4), k, 0.5, 2, law))
    drawn = estimates(jr.split(KEY, 20_000))
    np.testing.assert_allclose(drawn.mean(0), slope, atol=5 * float(drawn.std(0).max()) / 20_000**0.5)
    z = directions(KEY, 20_000, 4, law, jnp.float64)
    np.testing.assert_allclose(z.T @ z / 20_000, np.eye(4), atol=0.05)
    assert law == "normal" or np.allclose(np.linalg.norm(z, axis=1), 2.0)


def test_points_are_uniform_in_the_ball():
    """Each coordinate has the variance 1/(d + 2), and |v|^d is uniform."""
    v = np.asarray(in_ball(KEY, 20_000, 3, jnp.float64))
    np.testing.assert_allclose(v.T @ v / 20_000, np.eye(3) / 5, atol=0.01)
    shares = np.linalg.norm(v, axis=1) ** 3
    np.testing.assert_allclose(np.quantile(shares, [0.1, 0.5, 0.9]), [0.1, 0.5, 0.9], atol=0.015)


def test_a_pair_without_a_finite_value_counts_as_zero():
    def half(x):  # infinitely bad on one side of the origin
        return jnp.where(x[0] > 0, jnp.sum(x), jnp.inf)

    assert jnp.all(two_point_gradient(half, jnp.zeros(3), KEY, 0.1, 4) == 0)
    assert jnp.all(jnp.isfinite(two_point_gradient(half, jnp.asarray([0.03, 0.0, 0.0]), KEY, 0.1, 50)))


def test_smoothing_a_norm():
    """E |γ v| = γ d / (d + 1) for v uniform in the unit ball."""
    told = ball_smoothing(jnp.linalg.norm, jnp.zeros(3), KEY, 0.2, 40_000)
    np.testing.assert_allclose(told, 0.2 * 3 / 4, rtol=0.01)


@functools.cache
def problem():
    return Minimization(skewed, start())


def test_descent_step_by_step():
    x, method = start(), ZerothOrderDescent(0.07, 0.4, radius=0.3, pairs=2, law="sphere")
    key = jr.key(11)
    along, shake = jr.split(jr.fold_in(key, 1))
    moved, _ = method.step(problem(), x, None, key)
    noise = 0.4 / np.sqrt(5) * np.asarray(jr.normal(shake, (5,), jnp.float64))
    expected = np.concatenate([x["a"], x["b"]]) - 0.07 * (by_hand(x, along, 0.3, 2, "sphere") + noise)
    np.testing.assert_allclose(np.concatenate([moved["a"], moved["b"]]), expected, rtol=1e-9)


def test_similar_triangles_step_by_step():
    """Against the form with α and A in units of the step: A + α = α²/η."""
    x, rate = start(), 0.05
    method = AcceleratedZerothOrder(rate, 0.3, pairs=3)
    state = method.init(problem(), x, KEY)
    flat = z = np.concatenate([x["a"], x["b"]])
    total = 0.0
    for t in range(4):
        key = jr.key(t)
        x, state = method.step(problem(), x, state, key)
        alpha = (1 + np.sqrt(1 + 4 * total / rate)) * rate / 2
        assert np.isclose(total + alpha, alpha**2 / rate)
        y = (total * flat + alpha * z) / (total + alpha)
        z = z - alpha * by_hand({"a": y[:2], "b": y[2:]}, jr.fold_in(key, 1), 0.3, 3, "sphere")
        flat = (total * flat + alpha * z) / (total + alpha)
        total += alpha
        np.testing.assert_allclose(np.concatenate([x["a"], x["b"]]), flat, rtol=1e-9)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [({"radius": 0.0}, "radius"), ({"pairs": 0}, "pairs"), ({"law": "cube"}, "law: expected one of sphere, normal")],
)
def test_bad_values_are_refused_by_name(wrong, words):
    with pytest.raises(ValueError, match=words):
        two_point_gradient(skewed, start(), KEY, **{"radius": 0.1, **wrong})
