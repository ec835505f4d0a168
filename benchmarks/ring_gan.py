"""Methods for games on a generator and a discriminator, all tuned with one budget, with as many fields for each.

The numbers and some samples go into docs/data/ring_gan.json, which docs/methods/games.md shows.

    python benchmarks/ring_gan.py
    python benchmarks/ring_gan.py --write
"""

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.random as jr
import numpy as np
import optax
from jaxtyping import Array, Float

from attractor import Method, games
from attractor.comparison import tune
from attractor.games import FiniteSum
from attractor.problem import Game
from attractor.problems import ring_gan
from attractor.registry import LogUniform, Space, Uniform
from attractor.stats import mean

OUT = Path(__file__).parents[1] / "docs" / "data" / "ring_gan.json"
FIELDS, CONFIGURATIONS, SEEDS, SHOWN, HELD = 8_000, 16, 8, 256, 1_024
SCORES = ("energy_distance", "covered", "astray")


class Entry(NamedTuple):
    """A method, its search space, and what a step costs: fields, products with their derivative being two."""

    make: Callable[..., Method]
    space: Space
    fields: float
    held: bool = False  # whether it needs samples that are drawn once


RATE, ADAM = LogUniform(1e-2, 3.0), {"learning_rate": LogUniform(3e-4, 3e-2), "b1": Uniform(0.0, 0.9)}


def optimistic_adam(learning_rate: Any, b1: Any) -> Method:
    return games.DescentAscent(optax.optimistic_adam_v2(learning_rate, b1=b1))


def competitive(learning_rate: Any, interaction: Any) -> Method:
    return games.CompetitiveGradient(learning_rate, interaction, iterations=4)


METHODS: dict[str, Entry] = {
    "`adam_descent_ascent`": Entry(games.adam_descent_ascent, ADAM, 1),
    "`adam_descent_ascent`, in turn": Entry(lambda **h: games.adam_descent_ascent(**h, in_turn=True), ADAM, 2),
    "`DescentAscent(optimistic_adam_v2)`": Entry(optimistic_adam, ADAM, 1),
    "`GradientDescentAscent`": Entry(
        games.GradientDescentAscent, {"learning_rate": RATE, "timescale": LogUniform(0.1, 10.0)}, 1
    ),
    "`TwoTimescaleExtragradient`": Entry(
        games.TwoTimescaleExtragradient, {"learning_rate": RATE, "timescale": LogUniform(0.1, 10.0)}, 2
    ),
    "`PastExtragradient`": Entry(games.PastExtragradient, {"learning_rate": RATE, "look_ahead": RATE}, 1),
    # The field and its linearization, a product for the right-hand side, two at the start and two an iteration of
    # conjugate gradients, one for the other player.
    "`CompetitiveGradient`": Entry(competitive, {"learning_rate": RATE, "interaction": LogUniform(1e-2, 10.0)}, 25),
    # All 1,024 samples with a probability of 4/37, and else 64 of them twice.
    "`VarianceReducedHalpern`": Entry(
        games.VarianceReducedHalpern, {"learning_rate": LogUniform(1e-2, 10.0)}, 3.5, True
    ),
}


def held(game: Game) -> FiniteSum:
    """The game on as many points and latent vectors as are drawn once, with the same measures."""
    noise: Any = game.noise
    sampled = noise.func(noise.args[0], HELD, jr.key(1_000))
    return FiniteSum(game.field, game.init, sampled, 64, probes={name: game.probes[name] for name in SCORES})


def generated(game: Game, players: Any, key: Array) -> tuple[Float[np.ndarray, "n 2"], Float[np.ndarray, "n 2"]]:
    """Points of a generator, and true ones."""
    measure: Any = game.probes["astray"].measure
    noise: Any = game.noise
    true, latent = noise.func(noise.args[0], SHOWN, key)
    return np.asarray(jax.vmap(eqx.combine(players, measure.args[0])[0])(latent)), np.asarray(true)


def measure(entry: Entry, game: Game, fields: int, configurations: int, seeds: int) -> dict[str, Any]:
    """One method: tuned for the energy distance, measured on fresh seeds."""
    problem, steps = held(game) if entry.held else game, int(fields / entry.fields)
    probes = {name: game.probes[name] for name in SCORES}
    how = {"steps": steps, "seeds": seeds, "budget": configurations, "every": steps, "progress": False}
    best = tune(problem, (entry.make, entry.space), metric=SCORES[0], probes=probes, **how)
    ends = {name: best.trace[name].values[0, :, -1] for name in SCORES}
    players = jax.tree.map(lambda leaf: leaf[0, 0], best.trace.final)
    row = {name: interval(ends[name]) for name in ("energy_distance", "covered")}
    return row | {
        "good": interval(1 - ends["astray"]),
        "diverged": int(best.trace.diverged.values.sum()),
        "steps": steps,
        "winner": {name: float(f"{value:.3g}") for name, value in best.winner.items()},
        "samples": to_cents(generated(game, players, jr.key(7))[0]),
    }


def measured(
    methods: dict[str, Entry] = METHODS, fields: int = FIELDS, configurations: int = CONFIGURATIONS, seeds: int = SEEDS
) -> dict[str, Any]:
    """All of them: means with their t-intervals, and the samples of the first seed."""
    game, rows = ring_gan(), {}
    for name, entry in methods.items():
        rows[name] = measure(entry, game, fields, configurations, seeds)
        print(name, {k: v for k, v in rows[name].items() if k != "samples"}, flush=True)
    true = to_cents(generated(game, game.init(jr.key(0)), jr.key(7))[1])
    return {"fields": fields, "configurations": configurations, "seeds": seeds, "rows": rows, "true": true}


def to_cents(points: Float[np.ndarray, "n 2"]) -> list[list[float]]:
    """Rounded as they are written down."""
    return (np.round(points.astype(float), 2) + 0.0).tolist()  # + 0.0: no -0.0


def interval(values: Float[np.ndarray, " n"]) -> list[float]:
    """Mean and bounds, as they are written down."""
    known = mean(values)
    return [float(f"{v:.4g}") for v in (known.value, known.low, known.high)]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="write docs/data/ring_gan.json")
    write = parser.parse_args().write
    result = measured()
    if write:
        OUT.write_text(json.dumps(result) + "\n", encoding="utf-8")
