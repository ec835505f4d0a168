"""What is common to the factories: the same arguments give the same problem, and another seed other data."""

import inspect

import equinox as eqx
import jax
import numpy as np
import pytest

from attractor import problems

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
