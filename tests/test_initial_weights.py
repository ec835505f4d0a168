"""The law of the initial weights of every registered layer and operator: its ends or its deviation, and what is zero.

All sizes of an instance differ, so that a law with a wrong size in it is another law. A new layer is asked for its
laws the day it is registered.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from attractor import nn, registry
from attractor.generative import TimeMLP
from attractor.operators import FNO, SpectralConv
from attractor.operators.baselines import LocalConv
from attractor.operators.fourier import Pointwise

KEY = jr.key(3)


class Law(NamedTuple):
    """Mean, standard deviation, and the ends where there are any."""

    mean: float
    deviation: float
    ends: tuple[float, float] | None = None


def normal(deviation: float) -> Law:
    return Law(0.0, deviation)


def uniform(low: float, high: float) -> Law:
    return Law((low + high) / 2, (high - low) / 12**0.5, (low, high))


def within(fan_in: int) -> Law:
    """Uniform in ±1/√(fan in)."""
    return uniform(-(fan_in**-0.5), fan_in**-0.5)


ZERO = Law(0.0, 0.0)
GLOROT = uniform(-((6 / 190) ** 0.5), (6 / 190) ** 0.5)
CONV = within(24 * 9)

# Of each an instance, and the laws of its arrays by path; arrays that share a law and a letter are drawn apart.
PARTS: dict[str, tuple[Callable[[], Any], dict[str, Law]]] = {
    "nau": (lambda: nn.NAU(150, 40, key=KEY), {".weight": GLOROT}),
    "nmu": (lambda: nn.NMU(150, 40, key=KEY), {".weight": uniform(0.25, 0.75)}),
    "nalu": (lambda: nn.NALU(150, 40, key=KEY), {".choice": GLOROT, ".strength": GLOROT, ".gate": GLOROT}),
    "elman-cell": (
        lambda: nn.ElmanCell(40, 90, radius=1.3, key=KEY),
        {".recurrent": normal(1.3 / 90**0.5), ".input": normal(0.1), ".bias": ZERO},
    ),
    "latent-attention": (
        lambda: nn.LatentAttention(2, 90, 40, key=KEY),
        {
            ".query": normal(90**-0.5), ".compress": normal(90**-0.5), ".keys": normal(40**-0.5),
            ".values": normal(40**-0.5), ".output": normal(90**-0.5),
        },
    ),
    "mixture-of-experts": (
        lambda: nn.MixtureOfExperts(90, 40, experts=30, key=KEY),
        {".router": normal(90**-0.5), ".up": normal(90**-0.5), ".down": normal(40**-0.5)},
    ),
    "bypass-network": (
        lambda: nn.BypassNetwork(60, 40, 80, key=KEY),
        {
            ".hidden.weight": within(60), ".hidden.bias": within(60), ".output.weight": within(140),
            ".output.bias": within(140),
        },
    ),
    "edge-graph-network": (
        lambda: nn.EdgeGraphNetwork(50, 60, 40, 1, key=KEY),
        {
            f".{name}.layers[{i}].{array}": within((given, 40)[i])
            for name, given in (
                ("encode_nodes", 50), ("encode_edges", 60), ("edge_rounds[0]", 120), ("node_rounds[0]", 80),
                ("decode", 40),
            )
            for i in (0, 1) for array in ("weight", "bias")
        },
    ),
    "residual-conv-net": (
        lambda: nn.ResidualConvNet(24, 4, key=KEY),
        {
            ".convolutions[0].weight": within(9), ".convolutions[0].bias": within(9),
            ".convolutions[1].weight": CONV, ".convolutions[1].bias": CONV,
            ".convolutions[2].weight": CONV, ".convolutions[2].bias": CONV,
            ".convolutions[3].weight": ZERO, ".convolutions[3].bias": ZERO,
        },
    ),
    "multilevel-conv-net": (
        lambda: nn.MultilevelConvNet(24, 2, key=KEY),
        {".first.weight": within(9), ".last.weight": CONV}
        | {f".blocks[{level}][{block}][{i}].weight": CONV for level in (0, 1) for block in (0, 1) for i in (0, 1)},
    ),
    "time-mlp": (
        lambda: TimeMLP(20, 30, width=60, key=KEY),
        {
            ".mlp.layers[0].weight": within(21), ".mlp.layers[0].bias": within(21),
            ".mlp.layers[1].weight": within(60), ".mlp.layers[1].bias": within(60),
            ".mlp.layers[2].weight": within(60), ".mlp.layers[2].bias": within(60),
        },
    ),
    "spectral-conv": (lambda: SpectralConv(6, 8, (5, 9), key=KEY), {".weight": uniform(0.0, 1 / 48)}),
    "fno": (
        lambda: FNO(3, 2, modes=16, width=12, depth=3, hidden=70, key=KEY),
        {
            ".lift.weight": within(4), ".lift.bias": within(4), ".layers.kernel.weight": uniform(0.0, 1 / 144),
            ".layers.pointwise.weight": within(12), ".layers.pointwise.bias": within(12),
            ".project[0].weight": within(12), ".project[0].bias": within(12), ".project[1].weight": within(70),
            ".project[1].bias": within(70),
        },
    ),
}  # fmt: skip
# Parts of these that are not registered themselves.
INNER: dict[str, tuple[Callable[[], Any], dict[str, Law]]] = {
    "local-conv": (lambda: LocalConv(30, 20, 7, key=KEY), {".weight": normal(210**-0.5)}),
    "pointwise": (lambda: Pointwise(60, 50, key=KEY), {".weight": within(60), ".bias": within(60)}),
}
LAWS = PARTS | INNER


def test_every_layer_and_operator_has_its_laws_here():
    assert {*registry.parts("layer"), *registry.parts("operator")} == set(PARTS)


@functools.cache
def built(name: str) -> Any:
    return eqx.filter_jit(LAWS[name][0])()


@pytest.mark.parametrize("name", LAWS)
def test_initial_weights_have_the_documented_law(name: str):
    laws = LAWS[name][1]
    leaves = {
        jax.tree_util.keystr(path): np.asarray(leaf, float)
        for path, leaf in jax.tree_util.tree_leaves_with_path(built(name))
        if isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jnp.floating)
    }
    assert set(leaves) == set(laws)
    for path, law in laws.items():
        a = leaves[path].ravel()
        if law == ZERO:
            np.testing.assert_array_equal(a, 0.0, err_msg=path)
            continue
        error = a.size**-0.5  # of a mean, in deviations; that of a deviation is smaller
        np.testing.assert_allclose(a.mean(), law.mean, atol=4 * error * law.deviation, err_msg=path)
        np.testing.assert_allclose(a.std(), law.deviation, rtol=4 * error, err_msg=path)
        if law.ends is not None:
            assert law.ends[0] <= a.min() <= a.max() <= law.ends[1], path


@pytest.mark.parametrize("name", LAWS)
def test_no_two_arrays_and_no_two_rows_are_drawn_alike(name: str):
    drawn = [np.asarray(a, float) for a in jax.tree.leaves(built(name)) if isinstance(a, jax.Array)]
    drawn = [(a - a.mean()) / a.std() for a in drawn if a.std() > 0]
    rows = [row.ravel() for a in drawn for row in (a if a.ndim > 1 and len(a) <= 40 else [a])]
    for i, left in enumerate(rows):
        for right in rows[:i]:
            n = min(left.size, right.size)
            if n >= 8:
                assert not np.allclose(left[:n], right[:n], atol=0.02)
