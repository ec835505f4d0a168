"""Model-based steps against closed forms and SciPy, several outputs, the Moreau envelope, and errors."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from scipy.optimize import minimize

from attractor import run
from attractor.objectives import Composite
from attractor.optim import ModelBased, moreau_gradient
from attractor.problems import digits_mlp

ROW, X, B, RATE = np.array([1.0, -2.0, 0.5]), np.array([0.7, 0.4, -1.0]), 0.3, 0.05


def stepped(model, outer=lambda t: jnp.sum(jnp.abs(t)), rate=RATE, x=X):
    problem = Composite(lambda x: (jnp.asarray(ROW) @ x) ** 2 - B, outer, jnp.asarray(x))
    method = ModelBased(rate, model, power=0.0, inner_steps=60)
    start = problem.init(jr.key(0))
    return np.asarray(method.step(problem, start, method.init(problem, start, jr.key(0)), jr.key(0))[0])


def test_prox_linear_of_the_absolute_value_is_a_clipped_projection():
    with jax.enable_x64(True):
        for rate in (0.001, 0.05, 10.0):
            c, a = (ROW @ X) ** 2 - B, 2 * (ROW @ X) * ROW
            multiplier = np.clip(c / (rate * a @ a), -1, 1)
            np.testing.assert_allclose(
                stepped("prox_linear", rate=rate), X - rate * multiplier * a, rtol=1e-6, atol=1e-9
            )


def test_subgradient_step():
    expected = X - RATE * np.sign((ROW @ X) ** 2 - B) * 2 * (ROW @ X) * ROW
    np.testing.assert_allclose(stepped("subgradient"), expected, rtol=1e-5)


@pytest.mark.parametrize("model", ["prox_linear", "prox_point"])
def test_smooth_outer_against_scipy(model):
    with jax.enable_x64(True):
        found = stepped(model, outer=lambda t: jnp.sum(jnp.cosh(t)))

    def value(y):
        t = (ROW @ X) ** 2 - B + 2 * (ROW @ X) * (ROW @ (y - X)) if model == "prox_linear" else (ROW @ y) ** 2 - B
        return np.cosh(t) + np.sum((y - X) ** 2) / (2 * RATE)

    np.testing.assert_allclose(found, minimize(value, X, method="BFGS", tol=1e-10).x, atol=1e-6)


def test_inner_steps_of_the_proximal_point_by_hand():
    start, rate = np.array([0.1, 0.05, 0.2]), 50.0

    def value(x):
        return ((ROW @ x) ** 2 - B) ** 2 / 2 + np.sum((x - start) ** 2) / (2 * rate)

    x, damping, accepted = start, 0.0, []
    for _ in range(5):
        weight, slope, residual = 1 / rate + damping, 2 * (ROW @ x) * ROW, (ROW @ x) ** 2 - B
        middle = (start / rate + damping * x) / weight
        new = middle - slope * (residual + slope @ (middle - x)) / (weight + slope @ slope)
        accepted.append(value(new) <= value(x))
        x, damping = (new, damping / 4) if accepted[-1] else (x, 4 * damping + 1 / rate)
    assert 0 < sum(accepted) < 5
    with jax.enable_x64(True):
        problem = Composite(lambda x: (jnp.asarray(ROW) @ x) ** 2 - B, lambda t: t**2 / 2, jnp.asarray(start))
        method = ModelBased(rate, "prox_point", power=0.0, inner_steps=5)
        found, _ = method.step(problem, jnp.asarray(start), jnp.asarray(0), jr.key(0))
    np.testing.assert_allclose(found, x, rtol=1e-8)


@pytest.mark.parametrize("model", ["prox_linear", "prox_point"])
def test_two_outputs_against_scipy(model):
    other, weight = np.array([0.2, 1.0, -0.6]), np.array([0.5, 2.0])

    def outputs(x):
        return np.array([(ROW @ x) ** 2 - B, other @ x + (other @ x) ** 3])

    jacobian = np.array([2 * (ROW @ X) * ROW, (1 + 3 * (other @ X) ** 2) * other])

    def value(y):
        t = outputs(X) + jacobian @ (y - X) if model == "prox_linear" else outputs(y)
        return np.sum(weight * np.cosh(t)) + np.sum((y - X) ** 2) / (2 * RATE)

    with jax.enable_x64(True):
        problem = Composite(
            lambda x: jnp.array([(ROW @ x) ** 2 - B, other @ x + (other @ x) ** 3]),
            lambda t: jnp.sum(weight * jnp.cosh(t)),
            jnp.asarray(X),
        )
        method = ModelBased(RATE, model, power=0.7, inner_steps=20)
        found = method.step(problem, jnp.asarray(X), jnp.asarray(0), jr.key(0))
    np.testing.assert_allclose(found[0], minimize(value, X, method="BFGS", tol=1e-10).x, atol=1e-6)
    assert found[1] == 1


def test_a_vanishing_gradient_stays():
    np.testing.assert_allclose(stepped("prox_linear", x=np.zeros(3)), 0.0)


@pytest.mark.parametrize("model", ["prox_linear", "prox_point"])
def test_trains_a_network(model):
    trace = run(digits_mlp(width=8), ModelBased(5.0, model, power=0.0, inner_steps=3), steps=20, every=20)
    assert trace["loss"].values[0, 0, -1] < 0.6 * trace["loss"].values[0, 0, 0]


def test_steps_decay():
    problem = Composite(lambda x: x, lambda t: jnp.sum(t), jnp.zeros(2))
    trace = run(problem, ModelBased(1.0, "subgradient"), steps=3, every=1)
    np.testing.assert_allclose(np.diff(-trace["loss"].values[0, 0]), 2 / np.sqrt([1, 2, 3]), rtol=1e-5)


def test_moreau_gradient_of_the_absolute_value():
    x = {"w": jnp.array([0.05, 3.0])}
    gradient = moreau_gradient(lambda x: jnp.sum(jnp.abs(x["w"])), x, 0.1)
    np.testing.assert_allclose(gradient["w"], [0.5, 1.0], atol=1e-2)


def test_moreau_gradient_after_few_steps_by_hand():
    curvature, center, step = np.array([[2.0, 0.5], [0.5, 1.0]]), np.array([1.0, -2.0]), 0.3
    y = average = center
    for t in range(4):
        y = y - 4 * step / (t + 2) * (curvature @ y + (y - center) / step)
        average = average + 2 / (t + 2) * (y - average)
    found = moreau_gradient(lambda x: x @ jnp.asarray(curvature) @ x / 2, jnp.asarray(center), step, 4)
    np.testing.assert_allclose(found, (center - average) / step, rtol=1e-4)


@pytest.mark.parametrize(
    ("name", "arguments"), [("learning_rate", {"learning_rate": 0.0}), ("model", {"model": "linear"})]
)
def test_rejects(name, arguments):
    with pytest.raises(ValueError, match=name):
        ModelBased(**arguments)
