"""The vocabulary of claim files: what experiments are made of, each thing said in one way."""

import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
from jaxtyping import Array, Float, PRNGKeyArray, PyTree
from numpy.typing import ArrayLike

from attractor import comparison
from attractor.comparison import TUNING_SEEDS, Entry
from attractor.engine import run
from attractor.papers.claims import Scale, claim
from attractor.papers.evidence import Bounded, Evidence, bounds
from attractor.papers.setting import SHIFT, cached, seed, seeds
from attractor.probe import Probe
from attractor.problem import Problem
from attractor.registry import Dimension, Space, find_method, sample, space_of
from attractor.stats import (
    Interval,
    bootstrap,
    mean,
    median,
    paired_difference,
    paired_ratio,
    proportion,
    ratio_of_means,
)

__all__ = [
    "Entry", "Evidence", "Interval", "Scale", "bootstrap", "cached", "claim", "descend", "first_step", "graded",
    "key", "log_slope", "log_slopes", "mean", "median", "paired_difference", "paired_ratio", "probes", "proportion",
    "ratio_of_means", "run", "seconds", "seed", "seeds", "sizes", "tune", "tune_descent", "tune_splits", "worst",
]  # fmt: skip

TRIES = 4  # configurations per searched hyper-parameter, at least


def key(stream: int = 0) -> PRNGKeyArray:
    """A JAX key of this replication; ``jax.random.key(stream)`` at first."""
    return jr.key(seed(stream))


def sizes(scale: Scale, **choices: Any) -> dict[str, Any]:
    """The sizes of an experiment: ``sizes(scale, seeds=(8, 64), steps=500)`` gives 8 seeds quick and 64 in full.

    A pair is (quick, full); anything else serves both.
    """
    which = 0 if scale == "quick" else 1
    return {name: choice[which] if isinstance(choice, tuple) else choice for name, choice in choices.items()}


def tune(problem: Problem, method: Any, *, seeds: int = 8, budget: int = 16, **how: Any) -> Entry:
    """`attractor.comparison.tune` in a claim: seeds of this replication, computed once, and never with a thin budget.

    Arguments:
        problem: What to solve; compared by content, so that a second call costs nothing.
        method: A factory, a registered name, or ``(factory, space)``.
        seeds: How many fresh seeds.
        budget: Configurations to try: at least `TRIES` per searched hyper-parameter.
        **how: As in `attractor.comparison.tune`.

    Raises:
        ValueError: if the budget is too thin for the space.
    """
    # A made optax transformation is a tuple, too.
    pair: Any = method if isinstance(method, tuple) and len(method) == 2 and isinstance(method[1], Mapping) else None
    space = pair[1] if pair else space_of(find_method(method).factory if isinstance(method, str) else method)
    if budget < TRIES * len(space):
        raise ValueError(
            f"budget: expected at least {TRIES} configurations per searched hyper-parameter, which is "
            f"{TRIES * len(space)} for {', '.join(space)}, got {budget}"
        )
    if pair:
        return _tune(problem, pair[0], _Space(pair[1]), seeds, budget, _Space(how))
    return _tune(problem, method, None, seeds, budget, _Space(how))


class _Space(dict):
    """A dict that is compared by content and hashes by its names."""

    def __hash__(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]
        return hash(tuple(sorted(self)))


@cached
def _tune(problem: Problem, method: Any, space: Space | None, n: int, budget: int, how: Mapping[str, Any]) -> Entry:
    shift = seeds(1)[0]  # 0 at first, so that replication 0 has the seeds of `compare`
    tuning = [s + shift for s in TUNING_SEEDS]
    what = method if space is None else (method, dict(space))
    return comparison.tune(problem, what, seeds=seeds(n), budget=budget, tuning_seeds=tuning, **how)


def tune_splits(
    problem: Callable[..., Problem], method: Any, n: int, *, tuning: int, runs: int, **how: Any
) -> Float[np.ndarray, " n"]:
    """The mean final metric on each of ``n`` splits of the data, tuned anew on every one of them.

    Arguments:
        problem: ``problem(seed=…)`` with another split for another seed.
        method: As in `tune`.
        n: Splits.
        tuning: Seeds to tune on, of each split's own.
        runs: Others that are run then and averaged.
        **how: As in `attractor.comparison.tune`.
    """
    splits = seeds(n)
    drawn = np.reshape(seeds((tuning + runs) * len(splits), 1), (-1, tuning + runs)).tolist()
    return np.array([
        comparison.tune(problem(seed=split), method, seeds=own[tuning:], tuning_seeds=own[:tuning], **how).final.mean()
        for split, own in zip(splits, drawn, strict=False)
    ])  # fmt: skip


@partial(jax.jit, static_argnames=("start", "slope", "grade", "steps", "optimizer"))
def _descents(
    rates: Array, numbers: Array, traced: PyTree, start: Any, slope: Any, grade: Any, steps: int, optimizer: Any
):
    def one(rate: Array, number: Array) -> tuple[Array, Array]:
        of_start, of_grade, of_steps = jr.split(jr.key(number), 3)
        given = jr.split(of_steps, steps), jnp.arange(steps) / steps
        x = descend(optimizer(rate), lambda x, g: slope(x, *g, *traced), start(of_start), given)
        return grade(x, of_grade, *traced)

    return jax.vmap(one)(rates, numbers)


def tune_descent(
    start: Callable[..., PyTree],
    slope: Callable[..., PyTree],
    grade: Callable[..., tuple[Array, Array]],
    *traced: PyTree,
    searched: Dimension,
    steps: int,
    n: int = 8,
    optimizer: Callable[..., Any] = optax.adam,
) -> Float[np.ndarray, "n ..."]:
    """`tune` for a loop that is no `Problem`: the results on ``n`` fresh seeds at the best of `TRIES` rates.

    One program, of eight runs side by side, serves all values of ``traced`` and, for 8 seeds, the verdict.

    Arguments:
        start: ``start(key) -> x``.
        slope: ``slope(x, key, share, *traced)``, the gradient; ``share`` of the steps is done, in [0, 1).
        grade: ``grade(x, key, *traced) -> (score, results)``; the larger the score, on validation data, the better.
        *traced: What the variants of an experiment differ in, as arrays.
        searched: The learning rates.
        steps: How many.
        n: Fresh seeds. A rate is scored by its mean over two others.
        optimizer: ``rate -> transformation``.
    """
    rates = np.array([tried["rate"] for tried in sample({"rate": searched}, TRIES)])
    of = start, slope, grade, steps, optimizer
    lanes = jnp.repeat(jnp.asarray(rates), 2), jnp.asarray(seeds(2, 1)[:2] * TRIES)
    scores = np.asarray(_descents(*lanes, traced, *of)[0], float)
    best = rates[np.where(np.isfinite(scores), scores, -np.inf).reshape(TRIES, 2).mean(1).argmax()]
    fresh = jnp.asarray(seeds(n))
    return np.asarray(_descents(jnp.full(len(fresh), best), fresh, traced, *of)[1], float)


def probes(problem: Problem, *names: str) -> dict[str, Probe]:
    """Some of a problem's own probes, by name."""
    return {name: problem.probes[name] for name in names}


def graded(problem: Problem, measure: str) -> dict[str, Any]:
    """For `tune`: graded by ``test_…``, chosen by ``validation_…``, and nothing else recorded.

    ``tune(digits_mlp(), optax.adam, **graded(digits_mlp(), "accuracy"))``
    """
    return {"metric": f"test_{measure}", "probes": probes(problem, f"test_{measure}", f"validation_{measure}")}


def descend(
    optimizer: optax.GradientTransformation, slope: Callable[[Any, Any], Any], x: PyTree, steps: int | PyTree
) -> PyTree:
    """Where an optax optimizer ends: the loop of an experiment that has no `Problem`, inside a compiled program.

    Arguments:
        optimizer: What makes steps of gradients.
        slope: The gradient, ``slope(x, given)``.
        x: The start, a pytree of arrays.
        steps: How many, each given `None`; or what they are given, such as a key each, along the first axis.
    """

    def step(carry: tuple[PyTree, PyTree], given: Any) -> tuple[tuple[PyTree, PyTree], None]:
        x, state = carry
        updates, state = optimizer.update(slope(x, given), state, x)
        return (optax.apply_updates(x, updates), state), None

    each, length = (None, steps) if isinstance(steps, int) else (steps, None)
    return jax.lax.scan(step, (x, optimizer.init(x)), each, length)[0][0]


def first_step(
    curves: ArrayLike, level: ArrayLike, steps: ArrayLike | None = None, rising: bool = False
) -> Float[np.ndarray, "..."]:
    """Per curve, the first recorded step whose value is at most ``level``; infinite if none is.

    Arguments:
        curves: Values ``(…, records)``.
        level: One for all, or one per curve.
        steps: At which the values were recorded; default: 0, 1, 2 ….
        rising: Whether the level is to be reached from below instead.
    """
    values = np.asarray(curves, float)
    at = np.arange(values.shape[-1]) if steps is None else np.asarray(steps, float)
    bar = np.asarray(level, float)[..., None]
    with np.errstate(invalid="ignore"):
        hit = values >= bar if rising else values <= bar
    return np.where(hit.any(-1), at[hit.argmax(-1)], np.inf)


def log_slopes(x: ArrayLike, curves: ArrayLike, since: float = 0.0, until: float = np.inf) -> Float[np.ndarray, " n"]:
    """Per curve, the least-squares slope of log(values) over log(x), for ``since <= x <= until`` and x > 0.

    Arguments:
        x: Abscissae ``(records,)``.
        curves: Values ``(records,)`` or ``(n, records)``.
        since: First x that counts.
        until: Last x that counts.
    """
    at, values = np.asarray(x, float), np.atleast_2d(np.asarray(curves, float))
    used = (at >= since) & (at <= until) & (at > 0)
    centered = np.log(at[used]) - np.log(at[used]).mean()
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = np.log(values[:, used])
        return logs @ centered / (centered @ centered)


def log_slope(x: ArrayLike, curves: ArrayLike, since: float = 0.0, until: float = np.inf) -> Interval:
    """The mean of `log_slopes` over curves, one a seed, with its interval."""
    return mean(log_slopes(x, curves, since, until))


def worst(cases: Sequence[float | Bounded], *, largest: bool = True) -> float | Bounded:
    """Of several numbers the one with the largest upper bound, or the smallest lower one."""
    return max(cases, key=lambda c: bounds(c)[2]) if largest else min(cases, key=lambda c: bounds(c)[1])


def seconds(
    *calls: Callable[[], Any], rounds: int = 9, clock: Callable[[], float] = time.perf_counter
) -> list[Float[np.ndarray, " rounds"]]:
    """Wall seconds of calls, one array each, in interleaved rounds after one call of each that may compile.

    Arguments:
        *calls: Functions without arguments; what they return is waited for.
        rounds: How often each is timed.
        clock: `time.process_time` counts processor seconds instead, which a busy machine does not change.
    """
    for call in calls:
        jax.block_until_ready(call())
    taken = np.zeros((len(calls), rounds))
    for r in range(rounds):
        for i, call in enumerate(calls):
            begun = clock()
            jax.block_until_ready(call())
            taken[i, r] = clock() - begun
    return list(taken)


assert max(TUNING_SEEDS) < 2**31 - 1_000 * SHIFT  # a thousand replications stay within the range of seeds
