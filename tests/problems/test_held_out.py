"""What chooses hyper-parameters is not what grades them."""

import jax
import numpy as np
import pytest

from attractor import compare, registry
from attractor.problems.held_out import halves

DATA = [
    "digits-mlp", "digits-conv", "digits-resnet", "digits-diffusion", "digits-wide-mlp", "overlaid-digits", "char-lstm",
    "text-transformer", "temporal-order", "deep-hedging",
]  # fmt: skip


def test_halves_share_nothing():
    parts = halves((np.arange(10), np.arange(20).reshape(10, 2)))
    assert parts["validation"][0].tolist() == [0, 1, 2, 3, 4]
    assert parts["test"][0].tolist() == [5, 6, 7, 8, 9]
    assert parts["test"][1].shape == (5, 2)


@pytest.mark.parametrize("name", DATA)
def test_every_test_measure_has_a_twin_on_other_data(name):
    problem = registry.find_problem(name).factory()
    tests = [p for p in problem.probes if p.startswith("test_")]
    assert tests
    for test in tests:
        graded, chosen = problem.probes[test], problem.probes[test.replace("test_", "validation_")]
        assert graded.goal == chosen.goal
        first, second = (np.asarray(jax.tree.leaves(p.measure.args[1])[0]) for p in (graded, chosen))
        assert first.shape == second.shape
        assert not np.array_equal(first, second)


def test_comparisons_on_digits_are_tuned_on_validation_images():
    problem = registry.find_problem("digits-logistic").factory()
    found = compare(problem, ["sgd"], steps=5, seeds=2, budget=2, metric="test_accuracy")
    assert found.settings["tuned_on"] == "validation_accuracy"
