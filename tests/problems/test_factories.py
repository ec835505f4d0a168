"""What is common to the factories: the same arguments give the same problem, and another seed other data."""

import functools
import inspect
import pickle

import equinox as eqx
import jax
import numpy as np
import pytest

from attractor import problems, registry

WHOLE = [
    "digits_mlp", "digits_logistic", "digits_conv", "digits_resnet", "digits_diffusion", "digits_wide_mlp",
    "char_transformer", "char_lstm", "text_transformer", "diagonal_quadratic",
]  # fmt: skip
SMALL: dict[str, dict] = {name: {} for name in WHOLE} | {
    "deep_hedging": {"paths": 20, "batch_size": 5},
    "overlaid_digits": {"pairs": 50, "batch_size": 5},
    "burgers_pinn": {"points": 10, "batch_size": 5},
    "temporal_order": {"samples": 20},
}

# Of those that are not built in a moment, by registered name.
SMALLER: dict[str, dict] = {
    "bundle-adjustment": {}, "burgers-pinn": {"points": 10, "batch_size": 5}, "deep-hedging": SMALL["deep_hedging"],
    "overlaid-digits": SMALL["overlaid_digits"], "poisson-pinn": {"dim": 3, "points": 8, "indices": 2, "batch_size": 4},
}  # fmt: skip


def content(problem):
    """What `attractor.papers.words.tune` and compiled programs know a problem by."""
    arrays, rest = eqx.partition(problem, eqx.is_array)
    return [np.asarray(a) for a in jax.tree.leaves(arrays)], (jax.tree.structure(arrays), *jax.tree.flatten(rest))


@pytest.mark.parametrize("name", SMALL)
def test_problems_are_equal_by_content_and_seeds_change_their_data(name):
    make = getattr(problems, name)
    assert inspect.signature(make).parameters["seed"].default == 0
    (first, rest), (second, same), (other, _) = (
        content(make(**SMALL[name], **options)) for options in ({}, {"seed": 0}, {"seed": 1})
    )
    assert rest == same
    assert all(map(np.array_equal, first, second))
    assert len(first) == len(other)
    assert not all(map(np.array_equal, first, other))


@pytest.mark.parametrize("name", registry.problems())
def test_registered_problems_can_be_sent_to_another_process(name):
    problem = registry.find_problem(name).factory(**SMALLER.get(name, {}))
    # Its directions are drawn by a lambda; to name it would make claims stale that time a machine which is to be idle.
    sent = pytest.importorskip("ray.cloudpickle", reason="Ray is an extra") if name == "poisson-pinn" else pickle
    again = sent.loads(sent.dumps(problem))
    (first, (*_, structure)), (second, (*_, same)) = content(problem), content(again)
    assert structure == same
    assert all(map(np.array_equal, first, second))
    assert list(again.probes) == list(problem.probes)  # the first one decides
    functions, found = ([plain(leaf) for leaf in jax.tree.leaves(p) if callable(leaf)] for p in (problem, again))
    if sent is pickle:
        assert eqx.tree_equal(functions, found)


def plain(function):
    """`functools.partial` compares by identity."""
    is_partial = isinstance(function, functools.partial)
    return (function.func, function.args, function.keywords) if is_partial else function
