"""Gradient descent with energy."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from attractor import Minimization, run
from attractor.second_order.energy import (
    audit_energy,
    energy_descent,
    gaussian_divergence,
    gaussian_metric,
    rosenbrock_by_fisher,
    simplex_metric,
    simplex_mixture,
)


def test_steps_by_hand():
    curvature, eta, c = np.array([[3.0, 1.0], [1.0, 2.0]]), 0.7, 0.5
    x = np.array([1.0, -2.0])
    r = np.sqrt(0.5 * x @ curvature @ x + c)
    with jax.enable_x64(True):
        problem = Minimization(lambda x: 0.5 * x @ jnp.asarray(curvature) @ x, jnp.asarray(x))
        found = run(problem, energy_descent(eta, c, lambda x, g: g / jnp.array([3.0, 2.0])), steps=10).final[0, 0]
    for _ in range(10):
        g = curvature @ x / (2 * np.sqrt(0.5 * x @ curvature @ x + c))
        v = g / np.array([3.0, 2.0])
        r = r / (1 + 2 * eta * g @ v)
        x = x - 2 * eta * r * v
    np.testing.assert_allclose(found, x, rtol=1e-8)


def test_simplex_metric_solves_the_constrained_system():
    rng = np.random.default_rng(0)
    x, g = rng.dirichlet(np.ones(4)), rng.standard_normal(4)
    system = np.block([[np.diag(1 / x), np.ones((4, 1))], [np.ones((1, 4)), np.zeros((1, 1))]])
    expected = np.linalg.solve(system, [*g, 0])[:4]
    with jax.enable_x64(True):
        np.testing.assert_allclose(simplex_metric(jnp.asarray(x), jnp.asarray(g)), expected, rtol=1e-9)


def test_gaussian_metric_inverts_the_fisher_matrix():
    def log_density(p, x):
        return -jnp.log(p[1]) - 0.5 * ((x - p[0]) / p[1]) ** 2

    with jax.enable_x64(True):
        p, g = (jnp.asarray(1.0), jnp.asarray(0.5)), (jnp.asarray(2.0), jnp.asarray(-3.0))
        nodes, weights = np.polynomial.hermite_e.hermegauss(20)
        scores = np.stack(jax.vmap(jax.grad(log_density), (None, 0))(p, 1.0 + 0.5 * jnp.asarray(nodes)))
        fisher = (scores * weights) @ scores.T / weights.sum()
        np.testing.assert_allclose(np.stack(gaussian_metric(p, g)), np.linalg.solve(fisher, np.stack(g)), rtol=1e-9)


def test_needs_the_value():
    optimizer = energy_descent()
    with pytest.raises(ValueError, match="value"):
        optimizer.update(jnp.ones(2), optimizer.init(jnp.ones(2)), jnp.ones(2))


def test_refuses_bad_hyperparameters():
    for name, value in {"learning_rate": 0.0, "offset": -1.0}.items():
        with pytest.raises(ValueError, match=name):
            energy_descent(**{name: value})


MIXTURE = np.random.default_rng(3)
_, MIXTURE = MIXTURE.standard_normal((8, 5)), MIXTURE.dirichlet(np.ones(5))


@pytest.mark.parametrize(
    ("make", "minimum"),
    [(rosenbrock_by_fisher, (1, 1)), (lambda: simplex_mixture(3), MIXTURE), (gaussian_divergence, (3, 2))],
)
def test_problems_with_a_metric(make, minimum):
    with jax.enable_x64(True):
        problem = make()
        x = jnp.asarray(problem.start)
        assert (x[jnp.array(problem.positive, int)] > 0).all()
        g = jax.grad(problem.loss)(x)
        v = problem.precondition(x, g)
        direction = jax.jvp(problem.loss, (x,), (-v,))[1]
        # the steepest descent in the metric: <g, v> = <v, A v>
        np.testing.assert_allclose(v @ problem.metric(x) @ v, -direction, rtol=1e-8)
        assert direction < 0
        least = problem.loss(jnp.asarray(minimum, float))
    assert float(least) == pytest.approx(0, abs=1e-12)


def test_the_audit_sees_what_breaks_the_laws():
    with jax.enable_x64(True):
        problem = gaussian_divergence()
        by_energy = lambda rate: energy_descent(rate, 1.0, problem.precondition)  # noqa: E731
        kept = audit_energy(by_energy(0.3), problem, 0.3, 1.0, 200)
        plain = optax.stateless(lambda g, x: -0.3 * problem.precondition(x, g))  # counts as a constant energy
        broken, far = (audit_energy(o, problem, r, 1.0, 40) for o, r in ((plain, 0.3), (by_energy(0.1), 0.2)))
        x, loss = jnp.asarray(problem.start), jax.jit(jax.value_and_grad(problem.loss))
        state, optimizer = by_energy(0.3).init(x), by_energy(0.3)
        for _ in range(200):
            value, g = loss(x)
            change, state = optimizer.update(g, state, x, value=value)
            x = x + change
        end = problem.loss(x)
    assert float(kept.violation) < 1e-12
    assert bool(kept.feasible)
    np.testing.assert_allclose(kept.loss, end, rtol=1e-9)
    assert float(broken.violation) > 1e-3
    assert float(far.violation) > 1e-3  # of another rate than it is told
    for name in ("rate", "offset", "steps"):
        with pytest.raises(ValueError, match=name):
            audit_energy(plain, problem, **({"rate": 0.1, "offset": 1.0, "steps": 3} | {name: -1}))
