import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import pytest

from attractor import Minimization, run
from attractor.credit import (
    ForwardGradient,
    directional_gradient,
    estimator_stats,
    forward_gradient,
    forward_gradient_descent,
    value_and_forward_gradient,
)

MATRIX = jnp.asarray([[2.0, 1.0, 0.0], [1.0, 3.0, 0.5], [0.0, 0.5, 1.0]])


def quadratic(x):
    return 0.5 * x @ MATRIX @ x


def test_is_the_projection_on_the_direction():
    with jax.enable_x64(True):
        x, v = np.array([1.0, -2.0, 0.5]), np.array([0.3, 0.1, -0.7])
        value, estimate = directional_gradient(quadratic, jnp.asarray(x), jnp.asarray(v))
        matrix = np.asarray(MATRIX, float)
        np.testing.assert_allclose(value, 0.5 * x @ matrix @ x, rtol=1e-12)
        np.testing.assert_allclose(estimate, (matrix @ x @ v) * v, rtol=1e-12)


def test_is_unbiased_with_the_gaussian_second_moment():
    x = jnp.asarray([1.0, -2.0, 0.5])
    estimates = jax.vmap(lambda key: forward_gradient(quadratic, x, key))(jr.split(jr.key(0), 100_000))
    stats = estimator_stats(estimates, MATRIX @ x)
    assert stats.error < 3
    assert abs(stats.second_moment - (3 + 2)) < 4 * stats.second_moment_error


def test_stats_see_a_bias():
    gradient = {"a": jnp.ones(4), "b": jnp.ones(())}
    noise = jax.tree.map(lambda g: jr.normal(jr.key(0), (1_000, *g.shape)), gradient)
    biased = jax.tree.map(lambda g, e: 1.5 * g + e, gradient, noise)
    assert estimator_stats(biased, gradient).error > 5


def test_stats_agree_with_numpy():
    rng = np.random.default_rng(0)
    drawn, true = rng.standard_normal((6, 3)) + 1, np.array([1.0, 0.5, -0.3])
    error, moment, moment_error = estimator_stats(jnp.asarray(drawn), jnp.asarray(true))
    noise = np.sqrt(np.trace(np.cov(drawn.T)) / 6)
    np.testing.assert_allclose(error, np.linalg.norm(drawn.mean(0) - true) / noise, rtol=1e-5)
    ratio = np.sum(drawn**2, 1) / (true @ true)
    np.testing.assert_allclose([moment, moment_error], [ratio.mean(), ratio.std(ddof=1) / np.sqrt(6)], rtol=1e-5)


def test_one_forward_pass_and_no_backward_one():
    weights = jnp.ones((4, 4))

    def loss(w):
        return jnp.sum((w @ jnp.ones(4)) ** 2)

    def products(function):
        return str(jax.make_jaxpr(function)(weights)).count("dot_general")

    # The value and its tangent are one product each: the tangent's goes through in the same pass.
    assert products(loss) == 1
    assert products(lambda w: forward_gradient(loss, w, jr.key(0))) == 2
    assert "transpose" not in str(jax.make_jaxpr(lambda w: forward_gradient(loss, w, jr.key(0)))(weights))


def collatz_like(x):
    """A while loop whose length depends on the data: reverse mode cannot differentiate it."""
    return jax.lax.while_loop(lambda s: s > 1.0, lambda s: 0.5 * s, jnp.sum(x**2))


@jax.custom_jvp
def forward_only(x):
    return jnp.sum(x**2)


@forward_only.defjvp
def _(primals, tangents):
    (x,), (t,) = primals, tangents
    # A while loop in the rule itself: nothing to transpose.
    slope = jax.lax.while_loop(lambda c: c[0] < 1, lambda c: (c[0] + 1, 2 * (x @ t)), (0, jnp.zeros(())))[1]
    return forward_only(x), slope


@pytest.mark.parametrize("function", [collatz_like, forward_only])
def test_differentiates_what_reverse_mode_cannot(function):
    x = jnp.asarray([2.0, 1.0])
    with pytest.raises(ValueError, match=r"[Rr]everse-mode|[Tt]ranspos"):
        jax.grad(function)(x)
    v = jnp.asarray([1.0, 0.5])
    factor = float(function(x)) / 5.0  # both are this multiple of |x|² near x
    np.testing.assert_allclose(directional_gradient(function, x, v)[1], factor * 2 * (x @ v) * v, rtol=1e-6)
    descent = forward_gradient_descent(1e-3)
    trace = run(Minimization(function, init=x), descent, steps=3)
    assert np.isfinite(trace["loss"].values).all()


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float32])
def test_keeps_structure_and_dtype(dtype):
    params = {"w": jnp.ones((2, 3), dtype), "b": jnp.ones((), dtype)}
    estimate = forward_gradient(lambda p: jnp.sum(p["w"]) * p["b"], params, jr.key(0))
    assert jax.tree.map(lambda a: (a.shape, a.dtype), estimate) == jax.tree.map(lambda a: (a.shape, a.dtype), params)


def test_zero_gradient_is_zero():
    estimate = forward_gradient(lambda x: jnp.sum(x**2), jnp.zeros(3), jr.key(0))
    np.testing.assert_array_equal(estimate, np.zeros(3))


def test_descent_follows_its_recursion():
    """Ten steps against NumPy, with the very directions that the method draws."""
    problem = Minimization(quadratic, init=jnp.asarray([1.0, -2.0, 0.5]))
    method, x, expected = forward_gradient_descent(0.05), problem.init(jr.key(0)), np.array([1.0, -2.0, 0.5])
    state = method.init(problem, x, jr.key(0))
    for t in range(10):
        key = jr.key(t)
        x, state = method.step(problem, x, state, key)
        v = np.asarray(optax.tree.random_like(jr.split(jr.fold_in(key, 1))[0], x, jr.normal), float)
        expected = expected - 0.05 * (np.asarray(MATRIX, float) @ expected @ v) * v
    np.testing.assert_allclose(x, expected, rtol=2e-5)


def test_feeds_any_transformation_and_schedule():
    problem = Minimization(lambda x: jnp.sum((x - 3.0) ** 2), init=jnp.zeros(4))
    for method in (
        ForwardGradient(optax.adam(0.05)),
        forward_gradient_descent(optax.exponential_decay(0.05, 1, 0.999)),
        ForwardGradient(optax.sgd(0.05), value_and_forward_gradient),
    ):
        trace = run(problem, method, steps=500, seeds=2)
        assert (trace["loss"].values[0, :, -1] < 1.0).all()


@pytest.mark.parametrize("rate", [-1.0, float("nan")])
def test_refuses_a_bad_rate(rate):
    with pytest.raises(ValueError, match="learning_rate"):
        forward_gradient_descent(rate)


def test_compiles_once_for_a_sweep():
    problem = Minimization(lambda x: jnp.sum(x**2), init=jnp.ones(3))
    trace = run(problem, forward_gradient_descent, sweep={"learning_rate": [0.0, 0.1]}, steps=20)
    assert trace["loss"].values[0, 0, -1] == 3.0 > trace["loss"].values[1, 0, -1]
    assert eqx.is_array(jnp.asarray(trace.final))
