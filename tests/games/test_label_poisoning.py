"""Adversarial labels against NumPy, and kernel machines against scikit-learn."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from scipy.optimize import minimize
from sklearn.svm import SVC

from attractor.games import AdversarialLabels, flip_influential
from attractor.problems import KernelMachine, poisoned_labels

RNG = np.random.default_rng(0)
POINTS, LABELS = RNG.standard_normal((14, 3)), np.array([1.0, -1, -1, 1, 1, 1, -1, 1, -1, -1, 1, 1, 1, -1])


def machine(**how):
    return KernelMachine(jnp.asarray(POINTS, float), jnp.asarray(LABELS, float), **how)


def test_rounds_are_those_of_numpy():
    with jax.enable_x64(True):
        start = np.clip(np.random.default_rng(1).normal(0.2, 0.6, 14), 0.0, 0.7)
        assert {0.0, 0.7} < set(start)  # at both ends, and between
        problem, method = machine(cost=0.7, gamma=0.4, weights=jnp.asarray(start)), AdversarialLabels(0.3, budget=3)
        x, step = problem.init(jr.key(0)), jax.jit(lambda x, k: method.step(problem, x, None, k)[0])
        weights = start
        gram = np.exp(-0.4 * ((POINTS[:, None] - POINTS) ** 2).sum(2))
        for k in range(3):
            x = step(x, jr.key(k))
            lots = np.asarray(jr.uniform(jr.fold_in(jr.key(k), 1), (14,)))
            top = [i for i in np.argsort(-weights, kind="stable")[:6] if weights[i] > 1e-5]
            labels = LABELS.copy()
            labels[sorted(top, key=lambda i: -lots[i])[:3]] *= -1
            v = weights - 0.3 * ((np.outer(labels, labels) * gram) @ weights - 1)
            rule = {"type": "eq", "fun": lambda u, s=labels: s @ u, "jac": lambda u, s=labels: s}
            weights = minimize(
                lambda u, v=v: (np.sum((u - v) ** 2) / 2, u - v),
                np.full(14, 0.3),
                jac=True,
                bounds=[(0, 0.7)] * 14,
                constraints=rule,
                tol=1e-15,
            ).x
            np.testing.assert_allclose(x[1], labels)
            np.testing.assert_allclose(x[0], weights, atol=1e-7)
            weights = np.asarray(x[0])


def test_few_candidates_are_all_flipped_and_none_else():
    weights, labels = jnp.array([0.0, 0.5, 0.2, 0.0, 1e-6]), jnp.array([1.0, 1.0, -1.0, -1.0, 1.0])
    np.testing.assert_allclose(flip_influential(jr.key(0), weights, labels, 3), [1, -1, 1, -1, 1])
    np.testing.assert_allclose(flip_influential(jr.key(0), weights, labels, 0), labels)
    draw = jax.vmap(lambda key: flip_influential(key, jnp.arange(1.0, 6), labels, 1))
    flipped = np.asarray(draw(jr.split(jr.key(0), 20)) != labels).astype(int)
    assert set(map(tuple, flipped.tolist())) == {(0, 0, 0, 0, 1), (0, 0, 0, 1, 0)}  # either of the two largest


def test_without_flips_it_finds_the_support_vector_machine():
    with jax.enable_x64(True):
        tests = RNG.standard_normal((40, 3))
        oracle = SVC(C=2.0, gamma=0.4, tol=1e-10).fit(POINTS, LABELS)
        truth = np.where(oracle.decision_function(tests) > 0, 1.0, -1.0)
        problem = machine(cost=2.0, gamma=0.4, held_out={"test": (jnp.asarray(tests), jnp.asarray(truth))})
        method, x = AdversarialLabels(0.4, budget=0), problem.init(jr.key(0))
        x = jax.lax.fori_loop(0, 3_000, lambda _, x: method.step(problem, x, None, jr.key(0))[0], x)
        expected = np.zeros(14)
        expected[oracle.support_] = np.abs(oracle.dual_coef_[0])
        np.testing.assert_allclose(problem.dual(*x), problem.dual(jnp.asarray(expected), problem.labels), rtol=1e-9)
        np.testing.assert_allclose(x[0], expected, atol=1e-6)
        np.testing.assert_allclose(problem.offset(*x), oracle.intercept_[0], atol=1e-6)
        assert problem.probes["test_accuracy"](problem, x, jr.key(0)) == 1.0


@pytest.mark.parametrize("data", ["digits", "moons"])
def test_the_adversary_flips_its_share_and_the_machine_starts_at_its_solution(data):
    clean, poisoned = (poisoned_labels(data, flipped=share, cost=1.0, seed=5) for share in (0.0, 0.1))
    assert int((clean.labels != poisoned.labels).sum()) == round(0.1 * len(clean.labels))
    x = poisoned.init(jr.key(0))
    moved = AdversarialLabels(1e-3, budget=0).step(poisoned, x, None, jr.key(0))[0]
    np.testing.assert_allclose(moved[0], x[0], atol=2e-6)
    accuracy = [p.probes["test_accuracy"](p, p.init(jr.key(0)), jr.key(0)) for p in (clean, poisoned)]
    assert accuracy[0] > 0.94
    assert accuracy[1] <= accuracy[0]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: AdversarialLabels(0.1, budget=-1), "budget"),
        (lambda: flip_influential(jr.key(0), jnp.ones(2), jnp.ones(2), -1), "budget"),
        (lambda: KernelMachine(jnp.ones((2, 1)), jnp.array([0.0, 1.0])), "labels"),
        (lambda: KernelMachine(jnp.ones((2, 1)), jnp.array([-1.0, 1.0]), cost=0.0), "cost"),
        (lambda: poisoned_labels("iris"), "data"),
        (lambda: poisoned_labels(flipped=0.6), "flipped"),
        (lambda: poisoned_labels(attack="random"), "attack"),
    ],
)
def test_bad_arguments_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()
