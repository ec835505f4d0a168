"""The runs that stand in for the core: every branch of the loop, the problems, comparison and statistics, in small.

Methods are written here, so that nothing but the core is measured; in double precision, where 1e-6 is no rounding.
"""

import hashlib
import math
import re
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax

from attractor import stats
from attractor.comparison import compare, tune
from attractor.engine import lowered, run
from attractor.method import Method
from attractor.papers.evidence import Evidence
from attractor.papers.words import first_step, log_slope
from attractor.probe import Probe
from attractor.problem import Federated, FixedPoint, Game, Minimization
from attractor.registry import Choice, LogUniform, Uniform, sample

DATA = np.random.default_rng(0).standard_normal((12, 3))
TARGETS = np.sin(DATA.sum(1))


def _loss(x: Any, batch: Any) -> jax.Array:
    rows, targets = batch
    return jnp.mean((jnp.tanh(rows @ x["w"]) @ x["v"] - targets) ** 2)


def _start(key: jax.Array) -> dict[str, jax.Array]:
    for_w, for_v = jr.split(key)
    return {"w": jr.normal(for_w, (3, 4)), "v": jr.normal(for_v, (4,))}


def _network(**how: Any) -> Minimization:
    return Minimization(_loss, _start, (DATA, TARGETS), **how)


def _quadratic() -> Minimization:
    return Minimization(lambda x: jnp.sum(jnp.asarray([1.0, 7.0]) * (x - 1) ** 2), jnp.asarray([3.0, -2.0]))


class _Extragradient(Method):
    rate: Any = 0.3

    def step(self, problem: Game, x: Any, state: Any, key: Any) -> tuple[Any, Any]:
        half = jax.tree.map(lambda a, g: a - self.rate * g, x, problem.field(x, problem.sample(key)))
        field = problem.field(half, problem.sample(jr.fold_in(key, 1)))
        return jax.tree.map(lambda a, g: a - self.rate * g, x, field), state


class _Averaging(Method):
    """Counts its steps, averages its iterates, and shows the average."""

    rate: Any = 0.1

    def init(self, problem: Any, x: Any, key: Any) -> Any:
        return x, jr.uniform(key)

    def step(self, problem: Minimization, x: Any, state: Any, key: Any) -> tuple[Any, Any]:
        oracles = problem.oracles(x, problem.sample(key))
        curved = oracles["hvp"](oracles["grad"])
        x = jax.tree.map(lambda a, g, h: a - self.rate * (g + 0.1 * h), x, oracles["grad"], curved)
        return x, (jax.tree.map(lambda m, a: 0.7 * m + 0.3 * a, state[0], x), state[1])

    def readout(self, x: Any, state: Any) -> Any:
        return jax.tree.map(lambda m: m + 1e-3 * state[1], state[0])


class _Picard(Method):
    def step(self, problem: FixedPoint, x: Any, state: Any, key: Any) -> tuple[Any, Any]:
        return problem.operator(x), state


class _ClientDescent(Method):
    def step(self, problem: Federated, x: Any, state: Any, key: Any) -> tuple[Any, Any]:
        gradients = problem.client_gradients(x, problem.sample(key))
        return jax.tree.map(lambda a, g: a - 0.1 * g.mean(0) - 0.01 * g[0], x, gradients), state


def _noisy_game() -> Game:
    coupling = jnp.asarray([[1.0, 0.4], [-0.2, 0.8]])
    payoff = lambda x, y: x @ coupling @ y + 0.1 * jnp.sum(x**2)  # noqa: E731
    return Game.minimax(payoff, (jnp.ones(2), -jnp.ones(2)), solution=(jnp.zeros(2), jnp.zeros(2)))


def _federated() -> Federated:
    clients = (DATA.reshape(4, 3, 3), TARGETS.reshape(4, 3))
    return Federated(_loss, _start, clients, batch_size=2)


def _spread(problem: Any, x: Any, key: Any) -> jax.Array:
    return jnp.stack([x["v"].max(), x["v"].min() + 0.1 * jr.uniform(key)])


Case = tuple[tuple[Any, Any], dict[str, Any]]
RUNS: dict[str, Callable[[], Case]] = {
    "descent": lambda: ((_quadratic(), optax.sgd(0.05)), {"steps": 20, "every": 5}),
    "sweep and minibatches": lambda: (
        (_network(batch_size=4), optax.adam),
        {"steps": 9, "every": 4, "seeds": [3, 5, 8], "sweep": {"learning_rate": [0.1, 0.01, 0.003]}},
    ),
    "structural choices": lambda: (
        (_network(), lambda learning_rate, nesterov: optax.sgd(learning_rate, 0.9, nesterov)),
        {"steps": 6, "every": 3, "sweep": {"learning_rate": [0.1, 0.05, 0.01], "nesterov": [True, False]}},
    ),
    "lanes": lambda: (
        (_network(batch_size=2), optax.adam),
        {"steps": 7, "every": 7, "seeds": 4, "lanes": 3, "sweep": [{"learning_rate": 0.1}, {"learning_rate": 0.02}]},
    ),
    "curvature and readout": lambda: ((_network(batch_size=5), _Averaging()), {"steps": 8, "every": 2, "seeds": 3}),
    "game": lambda: ((_noisy_game(), _Extragradient()), {"steps": 10, "every": 5}),
    "fixed point": lambda: (
        (FixedPoint(lambda x: jnp.cos(x) / 2, jnp.asarray([0.1, 2.0]), solution=jnp.full(2, 0.45)), _Picard()),
        {"steps": 5, "every": 1},
    ),
    "clients": lambda: ((_federated(), _ClientDescent()), {"steps": 6, "every": 3, "seeds": 3}),
    "own probes": lambda: (
        (_network(), optax.sgd(0.2)),
        {"steps": 5, "every": 2, "seeds": 3, "probes": {"spread": Probe(_spread, "max"), "loss": _problem_loss}},
    ),
    "averaged iterates": lambda: (
        (_network(batch_size=3), optax.contrib.schedule_free_sgd(0.2)),
        {"steps": 10, "every": 5, "seeds": 3},
    ),
    "divergence": lambda: (
        (Minimization(lambda x: jnp.sum(x**4), jnp.asarray([2.0])), optax.sgd),
        {"steps": 12, "every": 3, "sweep": {"learning_rate": [0.01, 3.0, 0.1]}},
    ),
}


def _problem_loss(problem: Any, x: Any, key: Any) -> jax.Array:
    return problem.loss(x, problem.full)


def measure() -> dict[str, dict[str, Any]]:
    """Every run's program, as a hash of its text, and its values."""
    with jax.enable_x64(True):
        found = {name: _measured(case()) for name, case in RUNS.items()}
        found["comparison"] = {"program": "", "values": _numbers(_comparison())}
        found["statistics"] = {"program": "", "values": _numbers(_statistics())}
    return found


def _measured(case: Case) -> dict[str, Any]:
    arguments, how = case
    text = re.sub(r"@\w+", "@f", lowered(*arguments, **how))  # what functions are called is no part of a program
    trace = run(*arguments, **how, progress=False)
    values = [trace[m].values for m in trace.metrics] + [trace.dataset["diverged_at"].values]
    values += [trace.last(m).values for m in trace.metrics if trace[m].ndim == 3]
    return {"program": hashlib.sha256(text.encode()).hexdigest()[:16], "values": _numbers(values)}


def _comparison() -> list[Any]:
    space = {"learning_rate": LogUniform(1e-3, 1.0), "momentum": Uniform(0.0, 0.9), "nesterov": Choice([False, True])}
    probes = {"test_loss": _problem_loss, "validation_loss": lambda p, x, k: 2 * _problem_loss(p, x, k)}
    found = compare(
        _network(batch_size=4), {"sgd": (optax.sgd, space), "adam": optax.adam}, steps=30, seeds=5, budget=6,
        target=0.3, every=3, probes=probes, progress=False,
    )  # fmt: skip
    alone = tune(_network(batch_size=4), optax.adam, steps=10, seeds=3, budget=3, progress=False)
    rows = [[e.final, e.penalized_steps, list(e.winner.values()), e.chosen] for e in found.entries.values()]
    ratio, difference = found.ratio("steps_to_target", "sgd", "adam"), found.difference("sgd", "adam")
    order = [list(found.entries).index(n) for n in found.ranking]
    chance = list(found.probability_best().values())
    drawn = [list(c.values()) for c in sample(space, 5)]
    return [rows, vars(ratio).values(), vars(difference).values(), order, chance, drawn, alone.final, alone.chosen]


def _statistics() -> list[Any]:
    rng = np.random.default_rng(1)
    a, b = rng.normal(2, 1, 12) ** 2 + 0.1, rng.normal(2, 1, 12) ** 2 + 0.1
    intervals = [stats.mean(a), stats.mean(a[:3]), stats.median(a), stats.proportion(3, 11)]
    intervals += [stats.paired_difference(a, b), stats.paired_ratio(a, b), stats.ratio_of_means(a, b)]
    intervals += [stats.ratio_of_means(a[:5], b[:5]), stats.paired_ratio(a, np.where(b > 4, np.inf, b))]
    at = np.arange(30)
    curves = np.stack([3 * 0.9**at, 2 * 0.92**at])
    power = (1 + at) ** -1.5 * np.array([[2.0], [3.0]])
    intervals += [stats.fit_rate(at, curves).value, stats.fit_rate(at, power).value, log_slope(at, power, 5)]
    cases = {"a": stats.mean(a), "b": stats.mean(b)}
    outcomes = ["holds", "fails", "inconclusive", "void", "error"]
    judged = [
        Evidence.of_cases(cases, at_most=t, given={"so": t < 9}).outcome for t in (1.0, 4.0, 6.0, 8.0, 9.5)
    ]  # fmt: skip
    return [[vars(i).values() for i in intervals], first_step(curves, 1.0), list(map(outcomes.index, judged))]


def _numbers(values: Any) -> list[float | None]:
    """All numbers of nested lists and arrays in order, to nine digits; `None` where not finite."""
    if isinstance(values, dict | list | tuple | type({}.values())):
        nested = values.values() if isinstance(values, dict) else values
        return [n for v in nested for n in _numbers(v)]
    flat = np.asarray(values, float).ravel()
    return [float(f"{v:.9g}") if math.isfinite(v) else None for v in flat]
