"""Estimators of the gradient beside backpropagation, layer by layer, and what the backward pass keeps in memory.

The tables go into docs/data/credit.md and the cosines into docs/data/credit.json, which docs/methods/credit.md shows.

    python benchmarks/credit.py
    python benchmarks/credit.py --write
"""

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import jax.random as jr
import optax

from attractor import run
from attractor.credit import (
    Quality,
    backpropagation,
    direct_feedback,
    equilibrium_descent,
    equilibrium_digits,
    equilibrium_propagation,
    estimator_quality,
    few_bit,
    first_heads,
    guided_gradient,
    layered_digits,
    likelihood_ratio,
    smoothed_backpropagation,
    stored_bytes,
    value_and_forward_gradient,
)
from attractor.papers.words import descend

OUT = Path(__file__).parents[1] / "docs" / "data" / "credit.md"
SIZES, SETTLING = (64, 32, 32, 10), (64, 32, 32)

ESTIMATORS: dict[str, tuple[Any, Callable]] = {
    "backpropagation": (backpropagation, jax.nn.gelu),
    "`few_bit`, 3 bits": (backpropagation, few_bit(jax.nn.gelu, 3)),
    "`few_bit`, 1 bit": (backpropagation, few_bit(jax.nn.gelu, 1)),
    "`smoothed_backpropagation(0.1)`": (smoothed_backpropagation(0.1), jax.nn.gelu),
    "`likelihood_ratio`, 16 copies": (likelihood_ratio(0.1, 16, antithetic=False), jax.nn.gelu),
    "`likelihood_ratio`, in pairs": (likelihood_ratio(0.1, 16), jax.nn.gelu),
    "`likelihood_ratio`, a layer at a time": (likelihood_ratio(0.1, 16, layerwise=True), jax.nn.gelu),
    "`likelihood_ratio`, no baseline": (likelihood_ratio(0.1, 16, antithetic=False, baseline=False), jax.nn.gelu),
    "`direct_feedback`": (direct_feedback(), jax.nn.gelu),
    "`forward_gradient`": (value_and_forward_gradient, jax.nn.gelu),
}


GUIDED: dict[str, dict[str, str]] = {
    "local learning": {"target": "local"},
    "`guided_gradient`, activations": {},
    "`guided_gradient`, weights": {"space": "weights"},
    "`guided_gradient`, random activations": {"guess": "random"},
    "`guided_gradient`, random weights": {"guess": "random", "space": "weights"},
}
NUDGES: dict[str, Callable] = {
    "one nudge": equilibrium_propagation(0.4, 1),
    "two nudges": equilibrium_propagation(0.4, 2),
    "eight complex nudges": equilibrium_propagation(0.4, 8),
    "the limit": equilibrium_propagation(),
}


def quality(steps: tuple[int, ...], draws: int) -> list[dict[str, Quality]]:
    """Of each estimator in every layer, after some steps of Adam from one start; heads learn beside the network."""
    problem = layered_digits(SIZES, jax.nn.gelu)
    params, batch = problem.init(jr.key(0)), problem.sample(jr.key(2))
    start = params, first_heads(jr.key(4), problem.at(batch), params)

    def slope(both: tuple, key: jax.Array) -> tuple:
        (params, heads), loss = both, problem.at(problem.sample(key))
        return jax.grad(loss)(params), guided_gradient(loss, params, heads, key).heads

    train = jax.jit(partial(descend, optax.adam(3e-3), slope))
    networks = [train(start, jr.split(jr.key(1), n)) if n else start for n in steps]

    def measured(name: str, params: Any, heads: Any, gradient: Any) -> Quality:
        def guided(loss: Any, params: Any, key: jax.Array) -> tuple:
            return guided_gradient(loss, params, heads, key, **GUIDED[name])[:2]

        estimator, activation = ESTIMATORS.get(name, (guided, jax.nn.gelu))
        loss = layered_digits(SIZES, activation).at(batch)
        return estimator_quality(estimator, loss, params, jr.key(3), draws, gradient)

    programs = {name: jax.jit(partial(measured, name)) for name in [*ESTIMATORS, *GUIDED]}
    gradients = [jax.grad(problem.loss)(params, batch) for params, _ in networks]
    return [
        {name: program(*network, gradient) for name, program in programs.items()}
        for network, gradient in zip(networks, gradients, strict=True)
    ]


def by_layer(params: dict[str, Any]) -> list:
    """A settling network as its layers forward, its readout, and its weights back."""
    return [*params["forward"], params["readout"], *params["backward"]]


def by_name(layers: list) -> dict[str, Any]:
    """The other way round."""
    n = len(SETTLING) - 1
    return {"forward": layers[:n], "readout": layers[n], "backward": layers[n + 1 :]}


def settled(steps: int) -> dict[str, Quality]:
    """Of equilibrium propagation in every part of networks that settle, against the exact gradient of their loss."""
    same, apart = (equilibrium_digits(SETTLING, symmetry) for symmetry in (1.0, 0.0))

    descent, weights = partial(equilibrium_descent, 0.01), {"homeostasis": [0.0, 0.1]}
    final = run(apart, descent, sweep=weights, steps=steps, every=steps).final
    trained, aligned = (jax.tree.map(lambda a, i=i: a[i, 0], final) for i in (0, 1))
    limit, batch, found = ["the limit"], same.sample(jr.key(2)), {}
    networks: dict[str, tuple[Any, Sequence[str]]] = {
        "symmetric": (same.init(jr.key(0)), list(NUDGES)),
        "not symmetric": (apart.init(jr.key(0)), limit),
        "not symmetric, trained": (trained, limit),
        "homeostasis, trained": (aligned, limit),
    }
    loss = replace(same.at(batch), steps=100)  # more than training takes: the loss of a network that has settled

    def estimate(nudge: Callable, of: Callable, layers: list, key: jax.Array) -> tuple:
        value, slope = nudge(loss, by_name(layers), key)
        return value, by_layer(slope)

    def measured(nudge: Callable) -> Callable:
        return jax.jit(partial(estimator_quality, partial(estimate, nudge), lambda a: loss(by_name(a)), draws=2))

    programs = {name: measured(nudge) for name, nudge in NUDGES.items()}
    for name, (params, nudges) in networks.items():
        for nudge in nudges:
            found[f"{name}: {nudge}"] = programs[nudge](by_layer(params), jr.key(3))
    return found


def cells(found: Mapping[str, Quality]) -> list[list[str]]:
    """A row per estimator: bias, variance and cosine, of all layers each."""
    return [[name, *(", ".join(f"{float(v):.2g}" for v in each) for each in of)] for name, of in found.items()]


def block(activation: Callable, normalized: bool, params: list, x: jax.Array) -> jax.Array:
    """Residual layers of four times the width, with or without normalization, as in a transformer without attention."""
    for widen, narrow in params:
        h = x
        if normalized:
            h = h - h.mean(-1, keepdims=True)
            h = h * jax.lax.rsqrt((h * h).mean(-1, keepdims=True) + 1e-6)
        x = x + activation(h @ widen) @ narrow
    return x.sum()


def plain_layers(activation: Callable, params: list, x: jax.Array) -> jax.Array:
    """Full layers of one width."""
    for w in params:
        x = activation(x @ w)
    return x.sum()


def memory() -> list[list[str]]:
    """A row per network: what is kept with the inputs of GELU, and how much less with 1 to 4 bits."""
    x, wide = jax.ShapeDtypeStruct((128, 64), jnp.float32), [(jnp.zeros((64, 256)), jnp.zeros((256, 64)))] * 4
    networks: dict[str, tuple[Callable, list]] = {
        "8 full layers": (plain_layers, [jnp.zeros((64, 64))] * 8),
        "4 residual blocks": (lambda f, *of: block(f, False, *of), wide),
        "4 residual blocks, normalized": (lambda f, *of: block(f, True, *of), wide),
    }
    rows = []
    for name, (network, params) in networks.items():
        exact = stored_bytes(partial(network, jax.checkpoint(jax.nn.gelu)), params, x)
        ours = [stored_bytes(partial(network, few_bit(jax.nn.gelu, bits)), params, x) for bits in (1, 2, 3, 4)]
        unfused = stored_bytes(partial(network, jax.nn.gelu), params, x)
        rows.append([name, f"{unfused / 1e3:.0f}", f"{exact / 1e3:.0f}", *(f"{1 - n / exact:.0%}" for n in ours)])
    return rows


def table(head: list[str], rows: list[list[str]]) -> str:
    """As Markdown."""
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *rows)) + "\n"


def head(what: str, where: str) -> list[str]:
    """Of a table of `cells`."""
    return [what, f"bias, {where}", f"variance, {where}", f"cosine, {where}"]


def page(
    start: Mapping[str, Quality], later: Mapping[str, Quality], settling: Mapping[str, Quality], draws: int
) -> str:
    """All tables, with what they show."""
    layers = head("estimator", f"in {len(SIZES) - 1} layers")
    kept = [
        "network",
        "kB kept by `jax.nn.gelu`",
        "kB with its inputs",
        *(f"less by, {b} bit{'s' * (b > 1)}" for b in (1, 2, 3, 4)),
    ]
    parts = [f"At the start ({draws} estimates each, 64 images):\n", table(layers, cells(start))]
    parts += ["After 200 steps of Adam:\n", table(layers, cells(later))]
    parts += [
        f"Equilibrium propagation in networks that settle ({', '.join(map(str, SETTLING[1:]))} units), nudged by 0.4, "
        "against the exact gradient of the loss at the fixed point; trained from there by Adam at 0.01 for 200 steps, "
        "without homeostasis or with 0.1 of it:\n",
        table(head("network", "in 2 layers, the readout, weights back"), cells(settling)),
    ]
    parts += [
        "Memory of the backward pass, counted from what `jax.vjp` keeps. The paper says up to 40 % less, of whole "
        "models: in those, normalization, attention and dropout keep arrays, too, which no activation changes. Here "
        "the networks are little else than their activations.\n",
        table(kept, memory()),
    ]
    return "\n".join(parts)


def cosines(**found: Mapping[str, Quality]) -> str:
    """What the plot shows, as JSON: by network and estimator, the cosines in layers from the first to the last."""
    kept = {
        network: {n: [round(float(v), 3) for v in q.cosine[:3]] for n, q in of.items()} for network, of in found.items()
    }
    return json.dumps(kept, indent=1) + "\n"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="write docs/data/credit.md and .json")
    write = parser.parse_args().write
    measured = dict(zip(("start", "later"), quality((0, 200), 256), strict=True)) | {"settling": settled(200)}
    print(text := page(**measured, draws=256))
    if write:
        OUT.write_text(text, encoding="utf-8")
        OUT.with_suffix(".json").write_text(cosines(**measured), encoding="utf-8")
