"""Bilevel methods at cleaning labels, all tuned with one budget, with as many gradients for each.

The numbers go into docs/data/bilevel.json, which docs/methods/two-levels.md shows.

    python benchmarks/bilevel.py
    python benchmarks/bilevel.py --write
"""

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from attractor import Bilevel, Method, games, registry, run
from attractor.games.bilevel import levels
from attractor.games.hypergradient import lower_step
from attractor.method import hyper
from attractor.problems import label_cleaning
from attractor.registry import LogUniform, Space, Uniform
from attractor.stats import mean

OUT = Path(__file__).parents[1] / "docs" / "data" / "bilevel.json"
GRADIENTS, CONFIGURATIONS, SPLITS, RECORDS = 4_000, 24, 6, 20


class RandomSearch(Method):
    """Weights near the best so far, kept where the classifier trained with them is better on validation digits."""

    spread: float | Array = hyper(low=0.0)
    inner_rate: float | Array = hyper(low=0.0)

    def init(self, problem: Bilevel, x: PyTree, key: PRNGKeyArray) -> Array:
        return jnp.asarray(jnp.inf)

    def step(self, problem: Bilevel, x: PyTree, state: Array, key: PRNGKeyArray) -> tuple[PyTree, Array]:
        (point, y), (upper, lower) = x, levels(problem, key)
        tried = point + self.spread * jr.normal(jr.fold_in(key, 1), point.shape)
        fitted = jax.lax.fori_loop(0, 20, lambda _, y: lower_step(lower, tried, y, self.inner_rate), y)
        value = upper(tried, fitted)
        return jax.tree.map(lambda new, old: jnp.where(value < state, new, old), (tried, fitted), x), jnp.minimum(
            value, state
        )


class Entry(NamedTuple):
    """A method, its search space, and what a step costs: gradients of a level, products with its Hessian being two."""

    make: Callable[..., Method]
    space: Space
    gradients: int


INNER = LogUniform(0.05, 1.0)  # the lower level's curvature is between 2 and 4
RATES = {"learning_rate": LogUniform(10.0, 1e5), "inner_rate": INNER}  # a weight's slope is of the order of 1/300
METHODS: dict[str, Entry] = {
    "HypergradientDescent": Entry(lambda **h: games.HypergradientDescent(**h, inner_steps=10, depth=5), RATES, 21),
    "BilevelPenalty": Entry(games.BilevelPenalty, {**RATES, "sigma": LogUniform(0.01, 1.0)}, 33),
    "SingleLoopPenalty": Entry(games.SingleLoopPenalty, {**RATES, "sigma": LogUniform(0.01, 1.0)}, 6),
    "AveragedMultipliers": Entry(
        games.AveragedMultipliers, {**RATES, "multiplier_rate": INNER, "mix": LogUniform(0.01, 0.9)}, 7
    ),
    "NormalizedMomentum": Entry(
        lambda **h: games.NormalizedMomentum(**h, terms=5),
        {"learning_rate": LogUniform(0.03, 10.0), "inner_rate": INNER, "momentum": Uniform(0.0, 0.95)},
        14,
    ),
    "SelfTuning": Entry(
        games.SelfTuning,
        {"learning_rate": LogUniform(1e-3, 0.3), "inner_rate": LogUniform(0.01, 1.0), "width": LogUniform(0.1, 2.0)},
        3,
    ),
    # Its one rate serves x and y, so that y bounds it.
    "ProximalLagrangian": Entry(
        games.ProximalLagrangian,
        {"learning_rate": LogUniform(0.03, 3.0), "inner_rate": INNER, "weight": LogUniform(0.1, 30.0)},
        4,
    ),
    "random search": Entry(RandomSearch, {"spread": LogUniform(0.03, 3.0), "inner_rate": INNER}, 21),
}


@eqx.filter_jit
def refitted(problem: Bilevel, x: Float[Array, "*k n"], steps: int = 600) -> tuple[Array, Array, Array]:
    """A classifier trained anew with each row of weights: validation loss, test accuracy, and the slope that is left.

    Of all methods alike, as some of them train theirs on the validation digits, too.
    """
    start = problem.init(jr.key(0))[1]

    def one(x: Array) -> tuple[Array, Array, Array]:
        slope = jax.grad(lambda y: problem.lower(x, y, problem.full[1]))

        def step(t: Array, at: tuple[PyTree, PyTree]) -> tuple[PyTree, PyTree]:
            y, before = at
            ahead = jax.tree.map(lambda p, q: p + t / (t + 3) * (p - q), y, before)
            return jax.tree.map(lambda p, g: p - 0.2 * g, ahead, slope(ahead)), y

        y, _ = jax.lax.fori_loop(0, steps, step, (start, start))
        left = jnp.sqrt(sum(jnp.sum(g**2) for g in jax.tree.leaves(slope(y))))
        return problem.upper(x, y, problem.full[0]), problem.probes["test_accuracy"](problem, (x, y), jr.key(0)), left

    return jax.vmap(one)(x)


def found(wrong: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Of as many of the lightest weights as labels are wrong, the share whose labels are."""
    lightest = np.argsort(x, axis=-1, kind="stable")[..., : wrong.sum()]
    return wrong[lightest].mean(-1)


def wrong_of(problem: Bilevel) -> np.ndarray:
    """Which labels are wrong."""
    measure: Any = problem.probes["told_apart"].measure
    return np.asarray(measure.args[0])


def measure(entry: Entry, problem: Bilevel, gradients: int, configurations: int, seed: int) -> dict[str, Any]:
    """The configuration whose weights give the best classifier for the validation digits, of one split."""
    steps = gradients // entry.gradients
    configs = registry.sample(entry.space, configurations)
    how = {"sweep": configs, "seeds": [seed], "every": max(steps // RECORDS, 1), "progress": False}
    trace = run(problem, entry.make, steps=steps, probes={"weights": lambda _, z, key: z[0]}, **how)
    x = trace["weights"].values[:, 0]
    validation, accuracy, _ = map(np.asarray, refitted(problem, jnp.asarray(np.nan_to_num(x[:, -1]))))
    usable = np.where(np.isfinite(x[:, -1]).all(-1) & np.isfinite(validation), validation, np.inf)
    best = int(usable.argmin())
    return {
        "accuracy": float(accuracy[best]),
        "found": float(found(wrong_of(problem), x[best, -1])),
        "at": (trace.dataset["step"].values * entry.gradients).tolist(),
        "curve": found(wrong_of(problem), x[best]).tolist(),
        "winner": configs[best],
    }


def baselines(problem: Bilevel, configurations: int) -> dict[str, float]:
    """Test accuracy without cleaning, with the wrong labels left out, and of the clean validation digits alone."""
    wrong, logits = jnp.asarray(wrong_of(problem)), jnp.linspace(-6.0, 6.0, configurations)[:, None]
    alike = jnp.broadcast_to(logits, (configurations, len(wrong)))
    accuracies = {}
    for name, x in (("no cleaning", alike), ("wrong labels left out", jnp.where(wrong, -20.0, alike))):
        validation, accuracy, _ = refitted(problem, x)
        accuracies[name] = float(accuracy[jnp.argmin(validation)])
    pixels, digits = problem.full[0]
    clean = eqx.tree_at(lambda p: p.full, problem, (problem.full[0], (jnp.arange(len(digits)), pixels, digits)))
    accuracies["the 150 validation digits alone"] = float(refitted(clean, jnp.full((1, len(digits)), 20.0))[1][0])
    return accuracies


def measured(
    methods: dict[str, Entry] = METHODS, gradients: int = GRADIENTS, configurations: int = CONFIGURATIONS,
    splits: int = SPLITS,
) -> dict[str, Any]:  # fmt: skip
    """All of them on all splits: means with their t-intervals."""
    problems = [label_cleaning(seed=split) for split in range(splits)]
    rows: dict[str, dict[str, Any]] = {}
    for name, entry in methods.items():
        each = [measure(entry, p, gradients, configurations, seed) for seed, p in enumerate(problems)]
        rows[name] = {
            "accuracy": interval([e["accuracy"] for e in each]),
            "found": interval([e["found"] for e in each]),
            "steps": gradients // entry.gradients,
            "at": each[0]["at"],
            "curve": np.round(np.mean([e["curve"] for e in each], 0), 4).tolist(),
            "winners": [{k: float(f"{v:.3g}") for k, v in e["winner"].items()} for e in each],
        }
        print(name, rows[name]["accuracy"], rows[name]["found"], flush=True)
    each = [baselines(p, configurations) for p in problems]
    for name in each[0]:
        rows[name] = {"accuracy": interval([e[name] for e in each])}
        print(name, rows[name]["accuracy"], flush=True)
    return {"gradients": gradients, "configurations": configurations, "splits": splits, "rows": rows}


def interval(values: list[float]) -> list[float]:
    """Mean and bounds, as they are written down."""
    known = mean(values)
    return [round(v, 4) for v in (known.value, known.low, known.high)]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="write docs/data/bilevel.json")
    write = parser.parse_args().write
    result = measured()
    if write:
        OUT.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
