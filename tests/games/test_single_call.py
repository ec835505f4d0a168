"""The proximal point, two step sizes, and single-call extragradient against loops in NumPy on a nonlinear field."""

import itertools

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from attractor.games import (
    Extragradient,
    OptimisticGradient,
    PastExtragradient,
    ProximalPoint,
    ReflectedGradient,
    convergence_factor,
    convergence_factors,
)
from attractor.problem import Game
from attractor.problems import comonotone_matrix, comonotone_rotation, comonotonicity, linear_game, turning_matrix

RNG = np.random.default_rng(0)
A, B, START = RNG.normal(size=(5, 5)), RNG.normal(size=(5, 5)), RNG.normal(size=5)


def field(z):
    return A @ z + 0.5 * np.tanh(B @ z) - 0.2


def in_jax(z):
    flat = jnp.concatenate(z)
    out = A @ flat + 0.5 * jnp.tanh(B @ flat) - 0.2
    return out[:2], out[2:]


def clip(z):
    return np.clip(z, -0.6, 0.9)


def clip_players(z):
    return jax.tree.map(lambda p: jnp.clip(p, -0.6, 0.9), z)


def path(method, steps=12):
    """The points of a method, as rows."""
    with jax.enable_x64(True):
        game = Game(in_jax, (jnp.asarray(START[:2]), jnp.asarray(START[2:])))
        x = game.init(jr.key(0))
        state = method.init(game, x, jr.key(0))
        step, points = eqx.filter_jit(method.step), []
        for _ in range(steps):
            x, state = step(game, x, state, jr.key(0))
            points.append(np.concatenate(x))
        return np.array(points)


def rate_of(k):
    return 0.3 / (k + 2)


def past(rate, ahead, project, k_steps=12):
    z, memory, points = START, np.zeros(5), []
    for k in range(k_steps):
        step = rate(k) if callable(rate) else rate
        lead = project(z - (ahead or step) * memory)
        memory = field(lead)
        z = project(z - step * memory)
        points.append(z)
    return np.array(points)


def optimistic(rate, ahead, project):
    z, memory, points = START, np.zeros(5), []
    for k in range(12):
        step = rate(k) if callable(rate) else rate
        lead = project(z - (ahead or step) * memory)
        new = field(lead)
        z, memory = lead + (ahead or step) * memory - step * new, new
        points.append(z)
    return np.array(points)


def reflected(rate, ahead, project):
    z, before, points = START, START, []
    for k in range(12):
        step = rate(k) if callable(rate) else rate
        lead = z + (ahead or step) / step * (z - before)
        z, before = project(z - step * field(lead)), z
        points.append(z)
    return np.array(points)


def extragradient(rate, ahead, project):
    z, points = START, []
    for _ in range(12):
        z = project(z - rate * field(project(z - (ahead or rate) * field(z))))
        points.append(z)
    return np.array(points)


METHODS = [(PastExtragradient, past), (OptimisticGradient, optimistic), (ReflectedGradient, reflected)]


@pytest.mark.parametrize(("method", "reference"), [*METHODS, (Extragradient, extragradient)])
@pytest.mark.parametrize("ahead", [None, 0.23])
def test_is_the_loop_in_numpy_in_a_box_and_with_two_step_sizes(method, reference, ahead):
    ours = path(method(0.11, look_ahead=ahead, projection=clip_players))
    np.testing.assert_allclose(ours, reference(0.11, ahead, clip), atol=1e-12)
    assert np.abs(ours - reference(0.11, ahead, lambda z: z)).max() > 1e-3  # the box is felt


@pytest.mark.parametrize(("method", "reference"), METHODS)
def test_the_step_size_may_be_a_schedule(method, reference):
    np.testing.assert_allclose(path(method(rate_of)), reference(rate_of, None, lambda z: z), atol=1e-12)


def test_free_players_and_one_step_size_make_all_three_the_same():
    first, *others = (path(method(0.1)) for method, _ in METHODS)
    for other in others:
        np.testing.assert_allclose(other, first, atol=1e-12)


def test_the_proximal_point_solves_its_equation():
    points = np.vstack([START, path(ProximalPoint(0.4, iterations=8), 5)])
    for old, new in itertools.pairwise(points):
        np.testing.assert_allclose(new, old - 0.4 * field(new), atol=1e-10)


def test_random_fields_have_the_constants_that_are_asked_for():
    with jax.enable_x64(True):
        matrix = comonotone_matrix(jr.key(1), 6, 0.3)
        np.testing.assert_allclose([np.linalg.norm(matrix, 2), comonotonicity(matrix)], [1.0, 0.3], rtol=1e-9)
        z = np.random.default_rng(1).normal(size=(6, 1_000))
        inner, square = (z * (matrix @ z)).sum(0), ((matrix @ z) ** 2).sum(0)
        assert (inner >= -0.3 * square - 1e-9).all()
        assert np.linalg.norm(matrix @ matrix.T - matrix.T @ matrix) > 0.1
        game = comonotone_rotation(2.0, 0.3)
        np.testing.assert_allclose(comonotonicity(jnp.asarray(turning_matrix(-0.6, 2.0))), 0.3)
        turned = np.concatenate(game.field((jnp.array([1.0]), jnp.array([0.0])), None))
        np.testing.assert_allclose([turned[0], np.linalg.norm(turned)], [-0.3 * 4.0, 2.0], rtol=1e-9)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: PastExtragradient(0.0), "learning_rate"),
        (lambda: OptimisticGradient(0.1, look_ahead=-1.0), "look_ahead"),
        (lambda: ProximalPoint(0.1, iterations=0), "iterations"),
        (lambda: comonotone_rotation(2.0, 0.5), "comonotonicity"),
        (lambda: linear_game(np.ones((2, 3))), "matrix"),
        (lambda: comonotone_matrix(jr.key(0), 1, 0.3), "dim"),
    ],
)
def test_bad_arguments_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_the_convergence_factor_is_that_of_a_long_run():
    with jax.enable_x64(True):
        game = linear_game(comonotone_matrix(jr.key(2), 4, 0.2))
        method = PastExtragradient(0.1, look_ahead=0.7)
        z = game.init(jr.key(0))
        carry = z, method.init(game, z, jr.key(0))

        def step(carry, _):
            return method.step(game, *carry, jr.key(0)), jnp.linalg.norm(jnp.concatenate(carry[0]))

        distances = np.asarray(jax.lax.scan(step, carry, None, 6_000)[1])
        long = (distances[-1] / distances[-2_001]) ** (1 / 2_000)
        np.testing.assert_allclose(long, convergence_factor(method, game), rtol=1e-3)


def test_a_map_of_factors_has_an_axis_for_the_fields_and_one_for_each_hyper_parameter():
    with jax.enable_x64(True):
        fields, rates, aheads = turning_matrix(np.array([0.5, -0.3, 0.0])), [0.1, 0.2], [0.4, 0.6, 0.8, 1.0]
        found = convergence_factors(lambda r, a: Extragradient(r, look_ahead=a), fields, rates, aheads)
        eigenvalue = np.exp(1j * np.arccos([0.5, -0.3, 0.0]))[:, None, None]
        ahead = 1 - np.array(aheads) * eigenvalue
    np.testing.assert_allclose(found, abs(1 - np.array(rates)[:, None] * eigenvalue * ahead), rtol=1e-12)


def test_without_a_solution_there_is_no_factor():
    with pytest.raises(ValueError, match="solution"):
        convergence_factor(ProximalPoint(0.1), Game(in_jax, (jnp.zeros(2), jnp.zeros(3))))
