"""Estimators of the gradient beside backpropagation, layer by layer, and what the backward pass keeps in memory.

The tables go into docs/data/credit.md, which docs/methods/credit.md shows.

    python benchmarks/credit.py
    python benchmarks/credit.py --write
"""

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import jax.random as jr
import optax

from attractor.credit import (
    backpropagation,
    direct_feedback,
    estimator_quality,
    few_bit,
    layered_digits,
    likelihood_ratio,
    smoothed_backpropagation,
    stored_bytes,
    value_and_forward_gradient,
)

OUT = Path(__file__).parents[1] / "docs" / "data" / "credit.md"
SIZES = (64, 32, 32, 10)

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


def quality(steps: int, draws: int) -> list[list[str]]:
    """A row per estimator: bias, variance and cosine in every layer, after some steps of Adam from one start."""
    problem = layered_digits(SIZES, jax.nn.gelu)
    params, adam = problem.init(jr.key(0)), optax.adam(3e-3)
    state = adam.init(params)
    for key in jr.split(jr.key(1), steps):
        updates, state = adam.update(jax.grad(problem.loss)(params, problem.sample(key)), state)
        params = optax.apply_updates(params, updates)
    batch, rows = problem.sample(jr.key(2)), []
    gradient = jax.grad(problem.loss)(params, batch)
    for name, (estimator, activation) in ESTIMATORS.items():
        loss = layered_digits(SIZES, activation).at(batch)
        found = jax.jit(partial(estimator_quality, estimator, loss, draws=draws))(params, jr.key(3), gradient=gradient)
        cells = (", ".join(f"{float(v):.2g}" for v in of_layers) for of_layers in found)
        rows.append([name, *cells])
    return rows


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


def page(draws: int = 256) -> str:
    """Both tables, with what they show."""
    layers = f"in {len(SIZES) - 1} layers"
    head = ["estimator", f"bias, {layers}", f"variance, {layers}", f"cosine, {layers}"]
    kept = [
        "network",
        "kB kept by `jax.nn.gelu`",
        "kB with its inputs",
        *(f"less by, {b} bit{'s' * (b > 1)}" for b in (1, 2, 3, 4)),
    ]
    parts = [f"At the start ({draws} estimates each, 64 images):\n", table(head, quality(0, draws))]
    parts += ["After 200 steps of Adam:\n", table(head, quality(200, draws))]
    parts += [
        "Memory of the backward pass, counted from what `jax.vjp` keeps. The paper says up to 40 % less, of whole "
        "models: in those, normalization, attention and dropout keep arrays, too, which no activation changes. Here "
        "the networks are little else than their activations.\n",
        table(kept, memory()),
    ]
    return "\n".join(parts)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="write docs/data/credit.md")
    write = parser.parse_args().write
    print(text := page())
    if write:
        OUT.write_text(text, encoding="utf-8")
