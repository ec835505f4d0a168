import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import pytest

from attractor.engine import run
from attractor.optim.quasar_convex import (
    VarianceReduced,
    quasar_accelerated,
    quasar_accelerated_svrg,
    quasar_convexity,
    quasar_convexity_within,
)
from attractor.optim.variance_reduction import Svrg
from attractor.problem import Minimization


def regression(batch_size=None):
    rng = np.random.default_rng(0)
    rows, targets = rng.standard_normal((30, 4)), rng.standard_normal(30)
    return Minimization(
        lambda x, batch: jnp.mean((batch[0] @ x - batch[1]) ** 2) / 2, jnp.ones(4), (rows, targets),
        batch_size=batch_size,
    )  # fmt: skip


def test_matches_the_recursion_in_numpy():
    with jax.enable_x64(True):
        problem, s, gamma = regression(), 0.3, 0.6
        rows, targets = (np.asarray(a) for a in problem.full)
        trace = run(problem, quasar_accelerated(s, gamma), steps=10, every=1, probes={"y": lambda p, x, key: x})
    x = y = z = np.ones(4)
    total = 0.0
    for k in range(10):
        g = rows.T @ (rows @ y - targets) / 30
        a = max(np.roots([1, -s * gamma, -s * total]))  # a^2 = s (A + gamma a)
        total += gamma * a
        x, z = y - s * g, z - a * g
        after = max(np.roots([1, -s * gamma, -s * total]))
        y = (total * x + after * z) / (total + after)
        np.testing.assert_allclose(trace["y"].values[0, 0, k + 1], y, rtol=1e-9)


def test_plain_steps_in_stages_are_svrg_that_restarts_at_its_last_point():
    problem = regression(batch_size=5)
    ours, svrg = VarianceReduced(optax.sgd(0.1), period=20), Svrg(0.1, period=20)
    ends = [run(problem, m, steps=19, probes={"x": lambda p, x, key: x}).last("x").values for m in (ours, svrg)]
    np.testing.assert_allclose(*ends, rtol=1e-5)


def test_a_stage_ends_with_the_full_gradient_and_a_fresh_start():
    problem = regression(batch_size=5)
    staged = quasar_accelerated_svrg(0.1, 0.5, period=3)
    x = problem.init(jr.key(0))
    state = staged.init(problem, x, jr.key(0))
    for t in range(3):
        x, state = staged.step(problem, x, state, jr.key(t))
    assert state.steps == 0
    assert state.inner.weight == 0
    np.testing.assert_allclose(state.snapshot, x)
    np.testing.assert_allclose(state.gradient, jax.grad(problem.loss)(x, problem.full), rtol=1e-6)


def test_the_constant_of_known_functions():
    points = jnp.linspace(-3, 3, 301)[:, None]
    square = quasar_convexity(lambda x: jnp.sum(x**2), jnp.zeros(1), points)
    np.testing.assert_allclose(square, 2.0, rtol=1e-5)  # <grad, x> is twice the value
    # For log(1 + x^2): 2 x^2 / (1 + x^2) / log(1 + x^2), which falls with |x|
    logarithm = quasar_convexity(lambda x: jnp.log1p(jnp.sum(x**2)), jnp.zeros(1), points)
    np.testing.assert_allclose(logarithm, 1.8 / np.log(10), rtol=1e-5)


def test_the_parameters_are_needed():
    optimizer = quasar_accelerated(0.1)
    with pytest.raises(ValueError, match=r"^params:"):
        optimizer.update(jnp.ones(2), optimizer.init(jnp.ones(2)))


def test_the_constant_within_a_ball():
    center = {"a": jnp.array([1.0, -1.0]), "b": jnp.asarray(2.0)}

    def loss(x):  # |x - center|^p has the constant p, where the distance is at most 1
        size = jnp.sqrt(jnp.sum((x["a"] - center["a"]) ** 2) + (x["b"] - center["b"]) ** 2)
        return jnp.where(size <= 1, size**1.5, 0.5 * size**2 + 0.5)

    assert float(quasar_convexity_within(loss, center, 1.0, jr.key(0), 400)) == pytest.approx(1.5, rel=1e-3)
    far = float(quasar_convexity_within(loss, center, 1.2, jr.key(0), 400))
    assert far == pytest.approx(1.0, abs=0.1)  # just beyond 1, where slope and loss are 1
    with pytest.raises(ValueError, match="radius"):
        quasar_convexity_within(loss, center, 0.0, jr.key(0))
