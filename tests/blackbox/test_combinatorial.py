"""Slopes through solvers against finite steps by hand, and paths that are counted."""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import pytest
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.stats import norm

from attractor import run
from attractor.blackbox import interpolated, solver_of, surrogate_costs, surrogate_network
from attractor.problems import grid_paths, random_deadlines

PATHS = grid_paths(4)
RNG = np.random.default_rng(8)


def shortest(costs):
    table = jnp.asarray(PATHS, costs.dtype)
    return table[(table @ costs).argmin()]


def bent(x):
    return (x @ jnp.linspace(0.3, 1.7, x.size) - 2.0) ** 2 + 0.1 * jnp.sin(3 * x).sum()


def test_paths_are_all_and_whole():
    assert PATHS.shape == (math.comb(6, 3), 2 * 4 * 3)
    assert (PATHS.sum(1) == 6).all()
    assert len(np.unique(PATHS, axis=0)) == len(PATHS)


def test_a_way_is_late_as_a_sum_of_normal_times_is():
    cases = random_deadlines(PATHS, 5, jr.key(3))
    means, variances, deadlines = (np.asarray(leaf, float) for leaf in cases)
    share = variances / (5.5 - 5 * means) ** 2
    np.testing.assert_allclose([means.min(), means.max()], [0.9, 1.1], atol=0.02)
    np.testing.assert_allclose([share.min(), share.mean(), share.max()], [0.1, 0.55, 1.0], atol=0.06)
    for i in range(5):
        edges = [np.flatnonzero(way) for way in PATHS]
        np.testing.assert_allclose(deadlines[i], 1.2 * min(means[i][e].sum() for e in edges), rtol=1e-6)
        spread = np.sqrt(variances[i][edges[7]].sum())
        chance = norm.sf(deadlines[i], means[i][edges[7]].sum(), spread)
        one = jax.tree.map(lambda leaf, i=i: leaf[i], cases)
        np.testing.assert_allclose(one.late(jnp.asarray(PATHS[7])), chance, rtol=1e-4)
    with pytest.raises(ValueError, match="n: "):
        random_deadlines(PATHS, 0, jr.key(0))


def test_the_slope_is_the_difference_of_two_answers():
    costs = jnp.asarray(RNG.normal(size=24), jnp.float32)
    answer, slope = jax.vjp(interpolated(shortest, 0.7), costs)
    np.testing.assert_array_equal(answer, shortest(costs))
    g = jnp.asarray(RNG.normal(size=24), jnp.float32)
    other = shortest(costs + 0.7 * g)
    assert not np.array_equal(other, answer)
    np.testing.assert_allclose(slope(g)[0], -(answer - other) / 0.7, rtol=1e-6)


def test_a_python_solver_is_asked_inside_a_compiled_batch():
    """Choose exactly two of five, by SciPy's HiGHS."""

    def two(costs):
        exactly = LinearConstraint(np.ones((1, 5)), 2, 2)
        return milp(costs, constraints=exactly, integrality=np.ones(5), bounds=Bounds(0, 1)).x

    costs = jnp.asarray(RNG.normal(size=(3, 5)), jnp.float32)
    answers = jax.jit(jax.vmap(interpolated(solver_of(two, 5))))(costs)
    expected = np.zeros((3, 5))
    np.put_along_axis(expected, np.argsort(np.asarray(costs), 1)[:, :2], 1.0, 1)
    np.testing.assert_allclose(answers, expected, atol=1e-6)


def test_learned_costs_answer_better_than_the_first():
    losses = np.array([float(bent(jnp.asarray(p))) for p in PATHS])
    start = 1 - 0.5 * jnp.asarray(PATHS[losses.argmax()])  # with which the worst path is the answer
    trace = run(surrogate_costs(bent, shortest, start), optax.adam(0.1), steps=60)["loss"].values[0, 0]
    assert losses.max() > losses.min() + 1
    assert trace[0] == pytest.approx(losses.max(), abs=1e-5)
    assert trace.min() == pytest.approx(losses.min(), abs=1e-5)


def test_a_model_learns_costs_for_instances():
    def far(x, y):
        return jnp.sum((x - y) ** 2)

    rows = PATHS[RNG.integers(len(PATHS), size=32)].astype(np.float32)
    problem = surrogate_network(far, shortest, lambda key: eqx.nn.Linear(24, 24, key=key), jnp.asarray(rows))
    losses = run(problem, optax.adam(0.03), steps=150)["loss"].values[0, 0]
    assert losses[-1] < 0.3 * losses[0]
    assert problem.model(problem.init(jr.key(0)))(rows[0]).shape == (24,)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: interpolated(shortest, 0.0), "strength"),
        (lambda: solver_of(shortest, 0), "n"),
        (lambda: grid_paths(1), "side"),
    ],
)
def test_bad_values_are_refused_by_name(call, words):
    with pytest.raises(ValueError, match=words):
        call()
