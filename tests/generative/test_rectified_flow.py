"""Rectified flows against the Gaussian case, where every round is known by linear algebra."""

import itertools

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import pytest
import scipy.linalg
from scipy.optimize import linear_sum_assignment
from scipy.special import ndtri
from scipy.stats import qmc

from attractor import run
from attractor.generative import (
    TimeMLP,
    c_rectified_flow,
    gradient_velocity,
    potential_matching,
    power_cost,
    rectified_flow,
    reflow,
    sliced_wasserstein_to_normal,
    transport,
    velocity_matching,
)

START = np.diag([2.0, 0.5]) @ np.array([[0.5, -(0.75**0.5)], [0.75**0.5, 0.5]])


class Linear(eqx.Module):
    """The exact flow of the coupling X₁ = M X₀, X₀ ~ N(0, I), fitted over all velocities or over gradients."""

    m: jax.Array
    gradient: bool = eqx.field(static=True)

    def __call__(self, x, t):
        line = t * self.m + (1 - t) * jnp.eye(2)
        slope = self.m - jnp.eye(2)
        if not self.gradient:
            return slope @ jnp.linalg.solve(line, x)
        c, b = line @ line.T, slope @ line.T  # symmetric S with C S + S C = B + B'
        system = jnp.kron(c, jnp.eye(2)) + jnp.kron(jnp.eye(2), c)
        return jnp.linalg.solve(system, (b + b.T).ravel()).reshape(2, 2) @ x


def linear_rounds(gradient, rounds):
    with jax.enable_x64(True):
        x0 = jnp.eye(2)  # the images of the axes are the columns of the map
        fit = lambda coupling: Linear(coupling[1].T, gradient)  # noqa: E731
        return [np.asarray(x1).T for _, x1 in reflow(fit, (x0, jnp.asarray(START.T)), rounds, steps=200)]


def test_exact_gradient_flow_converges_to_the_optimal_map_and_keeps_the_marginal():
    maps = linear_rounds(True, 4)
    for m in maps:
        np.testing.assert_allclose(m @ m.T, np.diag([4.0, 0.25]), atol=1e-4)
    costs = [((m - np.eye(2)) ** 2).sum() for m in maps]
    assert all(after < before for before, after in itertools.pairwise(costs))
    np.testing.assert_allclose(maps[-1], np.diag([2.0, 0.5]), atol=1e-3)


def test_exact_plain_flow_leaves_a_straight_coupling_alone():
    np.testing.assert_allclose(linear_rounds(False, 1)[1], START, atol=1e-4)


def test_losses_against_numpy():
    x0, x1 = np.asarray(jr.normal(jr.key(0), (2, 50, 2)))
    t = np.linspace(0, 1, 50, dtype=np.float32)
    s = np.array([[1.0, 0.3], [0.3, -0.5]], np.float32)
    xt, d = t[:, None] * x1 + (1 - t[:, None]) * x0, x1 - x0
    paths = (jnp.asarray(x0), jnp.asarray(x1), jnp.asarray(t))
    plain = velocity_matching(lambda x, t: t * (s @ x), paths)
    np.testing.assert_allclose(plain, ((d - t[:, None] * xt @ s) ** 2).sum(1).mean(), rtol=1e-5)
    g = t[:, None] * xt @ s
    for p in (1.5, 2.0, 3.0):
        q = p / (p - 1)
        matched = potential_matching(power_cost(p), lambda x, t: t * (x @ s @ x) / 2, paths)
        norms = lambda z: np.linalg.norm(z, axis=1)  # noqa: E731
        expected = (norms(g) ** q / q - (d * g).sum(1) + norms(d) ** p / p).mean()
        np.testing.assert_allclose(matched, expected, rtol=1e-5)


def test_quadratic_matching_is_half_of_velocity_matching():
    x0, x1 = jr.normal(jr.key(0), (2, 20, 3))
    paths = (x0, x1, jr.uniform(jr.key(1), (20,)))
    potential = TimeMLP(3, "scalar", 8, key=jr.key(2))
    half = velocity_matching(gradient_velocity(potential), paths) / 2
    np.testing.assert_allclose(potential_matching(power_cost(), potential, paths), half, rtol=1e-5)


@pytest.mark.parametrize("exponent", [1.5, 2.0, 4.0])
def test_conjugate_is_the_conjugate(exponent):
    cost = power_cost(exponent)
    z = jr.normal(jr.key(0), (5, 3))
    y = jax.vmap(jax.grad(cost.value))(z)
    # Fenchel-Young holds with equality at the gradient, and the gradients are inverse to each other.
    np.testing.assert_allclose(jax.vmap(cost.value)(z) + jax.vmap(cost.conjugate)(y), jnp.sum(z * y, 1), rtol=1e-5)
    np.testing.assert_allclose(jax.vmap(jax.grad(cost.conjugate))(y), z, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(jax.grad(cost.conjugate)(jnp.zeros(3)), jnp.zeros(3))


def test_cost_of_the_velocity_is_used():
    velocity = gradient_velocity(lambda x, t: x @ x / 2, power_cost(3.0))
    x = jnp.array([3.0, 4.0])
    np.testing.assert_allclose(velocity(x, jnp.asarray(0.0)), x / 5**0.5, rtol=1e-6)


def test_transport_integrates_and_takes_any_solver():
    x0 = jnp.array([[1.0, 2.0], [0.0, -1.0]])
    np.testing.assert_allclose(transport(lambda x, t: t * x, x0, steps=200), x0 * np.exp(0.5), rtol=1e-4)
    np.testing.assert_allclose(transport(lambda x, t: x, x0, steps=1, solver=diffrax.Euler()), 2 * x0, rtol=1e-6)


def test_optimal_map_of_the_paper_file_is_optimal_by_assignment():
    x0 = np.random.default_rng(0).standard_normal((200, 2))
    x1 = x0 @ np.diag([2.0, 0.5])
    rows, columns = linear_sum_assignment(((x0[:, None] - x1) ** 2).sum(-1))
    np.testing.assert_array_equal(rows, columns)
    s = scipy.linalg.sqrtm(START @ START.T).real
    np.testing.assert_allclose(s, np.diag([2.0, 0.5]), atol=1e-8)


@pytest.mark.parametrize("problem_of", [rectified_flow, c_rectified_flow])
def test_trains_through_run_with_fresh_times(problem_of):
    x0 = jr.normal(jr.key(0), (64, 2))
    size = 2 if problem_of is rectified_flow else "scalar"
    problem = problem_of(lambda key: TimeMLP(2, size, 8, key=key), (x0, x0 + 1.0), batch_size=16)
    golden = (5**0.5 - 1) / 2
    np.testing.assert_allclose(problem.full[2], np.arange(64) * golden % 1, atol=1e-5)
    (_, _, t), (_, _, again) = problem.sample(jr.key(1)), problem.sample(jr.key(2))
    assert t.shape == (16,)
    assert not jnp.array_equal(t, again)
    trace = run(problem, optax.adam(1e-2), steps=60, seeds=2)
    assert (trace.last("loss") < 0.7 * trace["loss"].isel(step=0)).all()


def test_errors():
    x = jnp.zeros((4, 2))
    with pytest.raises(ValueError, match="exponent"):
        power_cost(1.0)
    with pytest.raises((ValueError, TypeError), match="coupling"):  # a type checker may be first to see it
        rectified_flow(lambda key: TimeMLP(2, 2, 4, key=key), (x, x[:3]))
    with pytest.raises(ValueError, match="steps"):
        transport(lambda x, t: x, x, steps=0)
    with pytest.raises(ValueError, match="rounds"):
        reflow(lambda coupling: lambda x, t: x, (x, x), -1)


def test_the_sliced_distance_to_a_normal_distribution():
    root = np.array([[2.0, 0.5], [0.5, 1.0]])
    grid = ndtri(qmc.Sobol(2, rng=0).random(2**14))
    assert sliced_wasserstein_to_normal(grid @ root, root) < 0.02
    # a shift by s moves the projections by s cos: the distance is s over the root of 2
    assert sliced_wasserstein_to_normal(grid @ root + [3.0, 0.0], root) == pytest.approx(3 / 2**0.5, rel=0.01)
    # doubled: the mean over directions of |R u|^2 is half the squared Frobenius norm
    expected = (np.sum(root**2) / 2) ** 0.5
    assert sliced_wasserstein_to_normal(2 * grid @ root, root) == pytest.approx(expected, rel=0.02)
    with pytest.raises(ValueError, match="projections"):
        sliced_wasserstein_to_normal(grid, root, 0)
