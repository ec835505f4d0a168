"""Layers and nonlinearities seen inside a loss: against the same numbers from NumPy, and planted dead units."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from attractor.diagnosis.state.activations import observe
from attractor.diagnosis.state.layers import layer_names

RNG = np.random.default_rng(0)
N = 12
X, Y = RNG.normal(size=(N, 6)).astype(np.float32), (np.arange(N) % 3).astype(np.int32)


def normal(*shape):
    return RNG.normal(size=shape).astype(np.float32)


def kinds(layers):
    return [name.split(" ", 1)[1] if " " in name else name for name in layers]


def test_a_network_with_a_dead_a_saturated_and_a_smooth_layer():
    params = {"w1": normal(6, 8), "b1": np.float32([-99] * 6 + [0] * 2), "w2": 9 * normal(8, 8), "w3": normal(8, 8),
              "w4": 99 * normal(8, 3)}  # fmt: skip

    def loss(p, batch):
        h = jax.nn.relu(batch[0] @ p["w1"] + p["b1"])
        h = jnp.tanh(h @ p["w2"])
        h = jax.nn.gelu(h @ p["w3"])
        return jnp.mean((jax.nn.sigmoid(h @ p["w4"]) - jax.nn.one_hot(batch[1], 3)) ** 2)

    halves = [(X[:6], Y[:6]), (X[6:], Y[6:])]
    layers = observe(loss, params, halves)
    # The inside of the GELU and the sigmoid at the end are no hidden layers.
    assert kinds(layers) == ["w1", "relu", "w2", "tanh", "w3", "w4"]
    linear = X @ params["w1"] + params["b1"]
    rectified = np.maximum(linear, 0)
    bounded = np.tanh(rectified @ params["w2"])
    by_kind = dict(zip(kinds(layers), layers.values(), strict=True))
    assert by_kind["relu"].dead == np.mean(np.ptp(rectified, axis=0) == 0) >= 0.75
    assert by_kind["tanh"].saturated == pytest.approx(np.mean(abs(bounded) >= 0.98), abs=0.01)
    assert by_kind["w1"].output == pytest.approx(np.sqrt(np.mean(linear**2)), rel=1e-5)
    ranks = []
    for half in (linear[:6], linear[6:]):
        sigma = np.linalg.svd(half - half.mean(0), compute_uv=False)
        p = sigma[sigma > 0] / sigma.sum()
        ranks.append(np.exp(-(p * np.log(p)).sum()) / 5)
    assert by_kind["w1"].rank == pytest.approx(np.mean(ranks), rel=1e-3)


def test_a_module_under_vmap():
    model = eqx.nn.MLP(6, 3, N, 1, key=jr.key(0))
    model = eqx.tree_at(lambda m: m.layers[0].bias, model, jnp.where(jnp.arange(N) < 9, -99.0, 9.0))
    arrays, rest = eqx.partition(model, eqx.is_inexact_array)

    def loss(a, batch):
        return jnp.mean((jax.vmap(eqx.combine(a, rest))(batch[0]) - jax.nn.one_hot(batch[1], 3)) ** 2)

    layers = observe(loss, arrays, [(X, Y)])
    assert kinds(layers) == ["layers[0]", "relu", "layers[1]"]
    assert list(layers.values())[1].dead == 0.75


def test_examples_along_another_axis_are_found():
    params = {"w1": normal(N, 6), "b1": np.float32([-99] * 9 + [9] * 3), "w2": normal(3, N)}

    def loss(p, batch):  # features first, and as many units as examples: shapes alone do not tell
        h = jax.nn.relu(p["w1"] @ batch.T + p["b1"][:, None])
        return jnp.mean((p["w2"] @ h) ** 2)

    assert list(observe(loss, params, [X]).values())[1].dead == 0.75


def test_channels_of_a_convolution_are_its_units():
    kernel, weights = normal(3, 1, 2, 2), normal(3 * 4, 3)
    params = {"conv": {"weight": kernel, "bias": np.float32([[[-99]], [[9]], [[9]]])}, "out": {"w": weights}}
    images = normal(N, 1, 3, 3)

    def loss(p, batch):
        h = jax.lax.conv(batch, p["conv"]["weight"], (1, 1), "VALID") + p["conv"]["bias"]
        return jnp.mean((jax.nn.relu(h).reshape(len(batch), -1) @ p["out"]["w"]) ** 2)

    layers = observe(loss, params, [images])
    assert kinds(layers) == ["conv", "relu", "out"]
    assert list(layers.values())[1].dead == pytest.approx(1 / 3)


def test_a_transformer_with_tied_weights_integers_and_dropout():
    d = 8
    params = {"embed": normal(7, d), "attend": {n: normal(d, d) for n in "qkv"}, "up": normal(d, d)}
    params["norm"] = {"scale": np.ones(d, np.float32)}

    def loss(p, batch):
        tokens, key = batch["tokens"], batch["key"]
        x = p["embed"][tokens]
        x = (
            (x - x.mean(-1, keepdims=True))
            * jax.lax.rsqrt(jnp.maximum(x.var(-1, keepdims=True), 0))
            * p["norm"]["scale"]
        )
        q, k, v = (x @ p["attend"][n] for n in "qkv")
        x = x + jax.nn.softmax(q @ k.mT) @ v
        x = jnp.where(jr.bernoulli(key, 0.9, x.shape), x, 0)
        logits = jax.nn.relu(x @ p["up"]) @ p["embed"].T
        return -jnp.mean(jnp.take_along_axis(jax.nn.log_softmax(logits), tokens[..., None], -1))

    batch = {"tokens": RNG.integers(0, 7, (N, 5)), "key": jr.key(3)}
    layers = observe(loss, params, [jax.tree.map(jnp.asarray, batch)])
    assert kinds(layers) == ["embed", "norm", "attend.q", "attend.k", "attend.v", "up", "relu"]
    used = params["embed"][batch["tokens"]]
    assert layers["embed"].output == pytest.approx(np.sqrt(np.mean(used**2)), rel=1e-5), "its first use"
    assert list(layers.values())[-1].dead == 0


def test_weights_inside_a_scan_are_layers_without_outputs():
    def loss(p, batch):
        def turn(h, x):
            return jnp.tanh(p["w"] @ h + x), None

        return jnp.sum(jax.lax.scan(turn, jnp.zeros(6), batch)[0] @ p["out"])

    layers = observe(loss, {"out": normal(6), "w": normal(6, 6)}, [jnp.asarray(X)])
    assert next(iter(layers)) == "w"
    assert np.isnan(layers["w"].output)


@pytest.mark.parametrize(
    ("params", "names"),
    [
        ({"w1": (2, 3), "b1": (3,), "w2": (3, 3), "b2": (3,)}, {"w1": "w1", "b1": "w1", "w2": "w2", "b2": "w2"}),
        ({"dense": {"kernel": (2, 3), "bias": (3,)}}, {"kernel": "dense", "bias": "dense"}),
        ({"w": (2, 3), "b": (3,)}, {"w": "w", "b": "w"}),
        ({"cell": {"w_i": (2, 3), "w_h": (3, 3)}}, {"w_i": "cell.w_i", "w_h": "cell.w_h"}),
        ([[(2, 3), (3,)]], {"[0][0]": "[0]", "[0][1]": "[0]"}),
    ],
)  # fmt: skip
def test_leaves_of_a_module_are_one_layer(params, names):
    arrays = jax.tree.map(np.zeros, params, is_leaf=lambda s: isinstance(s, tuple))
    paths = [path for path, _ in jax.tree_util.tree_flatten_with_path(arrays)[0]]
    found = dict(zip(paths, layer_names(arrays), strict=True))
    for path, name in found.items():
        last = jax.tree_util.keystr(path[-1:], simple=True)
        expected = names[last] if last in names else names["".join(f"[{k.idx}]" for k in path)]
        assert name == expected


def rank(x, inputs: int) -> float:
    """The effective rank of centered outputs over what they could fill, from their singular values."""
    sigma = np.linalg.svd(x - x.mean(0), compute_uv=False)
    p = sigma[sigma > 1e-7 * sigma[0]] / sigma.sum()
    return np.exp(-(p * np.log(p)).sum()) / min(len(x) - 1, x.shape[1], inputs)


@pytest.mark.parametrize("layout", ["inputs first", "outputs first"])
def test_the_rank_of_a_product_is_over_as_many_dimensions_as_it_has_inputs(layout):
    x, w, b = normal(64, 5), normal(5, 24), normal(24)
    params = {"w1": w if layout == "inputs first" else w.T, "b1": b, "w2": normal(24, 3)}

    def loss(p, batch):
        h = batch @ p["w1"] if layout == "inputs first" else jnp.einsum("oi,ni->no", p["w1"], batch)
        return jnp.mean((jax.nn.relu(h + p["b1"]) @ p["w2"]) ** 2)

    layers = observe(loss, params, [jnp.asarray(x)])
    assert layers["w1"].rank == pytest.approx(rank(x @ w + b, inputs=5), rel=1e-3)
    assert layers["w1"].rank > 0.5, "of five dimensions, not of twenty-four"


def test_a_map_of_one_number_has_no_rank_to_lose():
    params = {"w1": normal(1, 24), "w2": normal(24, 3)}
    layers = observe(lambda p, batch: jnp.mean((jnp.tanh(batch @ p["w1"]) @ p["w2"]) ** 2), params, [normal(32, 1)])
    assert np.isnan(layers["w1"].rank)


def test_the_inputs_of_a_convolution_are_its_channels_places_and_groups():
    kernel, images = normal(12, 2, 1, 2), normal(16, 4, 3, 3)  # two groups of two channels, two places
    params = {"conv": {"weight": kernel}, "out": {"w": normal(12, 3)}}

    def convolved(k, x):
        return jax.lax.conv_general_dilated(x, k, (1, 1), "VALID", feature_group_count=2)

    def loss(p, batch):
        h = jax.nn.relu(convolved(p["conv"]["weight"], batch))
        return jnp.mean((h.mean((2, 3)) @ p["out"]["w"]) ** 2)

    found = observe(loss, params, [jnp.asarray(images)])["conv"].rank
    rows = np.moveaxis(np.asarray(convolved(kernel, images)), 1, -1).reshape(-1, 12)
    assert found == pytest.approx(rank(rows, inputs=8), rel=1e-3)
