"""Runs after the fact, one or several: each is looked at, and several are taken as seeds of one experiment."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from jaxtyping import Float

from attractor.diagnosis.columns import curve_of
from attractor.diagnosis.findings import Diagnosis, Finding
from attractor.diagnosis.rules import RULES, judge
from attractor.diagnosis.signs import Signs
from attractor.trace import Trace

UNSEEN = "layers, activations, batches, labels: a log has curves alone"


def diagnose_run(*runs: Any, loss: str | None = None, config: int | None = None) -> Diagnosis:
    """What is wrong in a run that is done; several runs are taken as seeds of one experiment.

    Arguments:
        runs: What `attractor.run` gave, all its seeds; or monitors, of JAX's loops or PyTorch's, one for each seed.
        loss: The metric of a trace that is minimized; default: the one that is called a loss. Other metrics are taken
            by their usual names: ``validation loss``, ``gradient norm``, …
        config: The configuration of a trace; default: that whose loss ends lowest.

    Raises:
        TypeError: if a run is neither a trace nor a monitor.
        ValueError: if there is no run, or no loss in a trace, or no such configuration.

    !!! example
        ```python
        print(diagnose_run(attractor.run(problem, optax.adam(1e-2), steps=1000, seeds=5)))
        ```
    """
    found: dict[str, Signs] = {}
    for run in runs:
        if isinstance(run, Trace):
            new = _of_trace(run, loss, config)
        elif hasattr(run, "signs"):
            new = {f"run {len(found)}": run.signs()}
        else:
            raise TypeError(f"runs: expected what attractor.run gave, or monitors, got {type(run).__name__}")
        found |= {name if name not in found else f"{name} ({len(found)})": signs for name, signs in new.items()}
    if not found:
        raise ValueError("runs: expected at least one")
    return judge_all(found)


def _of_trace(trace: Trace, loss: str | None, config: int | None) -> dict[str, Signs]:
    """The signs of every seed of one configuration."""
    curves = {metric: curve_of(metric) for metric in trace.metrics if trace[metric].ndim == 3}
    if loss is None:
        loss = next((metric for metric, curve in curves.items() if curve == "loss"), None)
    if loss not in curves:
        got = "none that is called a loss" if loss is None else repr(loss)
        raise ValueError(f"loss: expected the name of one of the metrics {', '.join(curves)}, got {got}")
    curves = {metric: curve for metric, curve in curves.items() if curve and curve != "loss"} | {loss: "loss"}
    configs = trace.dataset.sizes["config"]
    if config is not None and config not in range(configs):
        raise ValueError(f"config: expected one of 0 to {configs - 1}, got {config!r}")
    chosen = trace.best(loss) if config is None else config
    steps, notes = trace.dataset["step"].values.astype(float), [UNSEEN]
    if configs > 1:
        notes.append(f"of {configs} configurations this is {trace.label(chosen)}")
    rate = trace.configuration(chosen).get("learning_rate")
    found = {}
    for i, seed in enumerate(trace.dataset["seed"].values):
        signs = Signs("log", steps, notes=list(notes))
        signs.curves = {curve: trace[metric].values[chosen, i].astype(float) for metric, curve in curves.items()}
        if isinstance(rate, float):
            signs.curves.setdefault("learning rate", np.full(len(steps), rate))
        found[f"seed {seed}"] = signs
    return found


def judge_all(runs: Mapping[str, Signs]) -> Diagnosis:
    """The findings of runs by name: one in any of them counts, with the run in which it is clearest."""
    whole = judge(together(runs))
    if len(runs) == 1:
        return whole
    seen: dict[str, list[tuple[Finding, str]]] = {f.name: [] for f in whole}
    for name, signs in runs.items():
        for finding in judge(signs):
            seen.setdefault(finding.name, []).append((finding, name))
    found = []
    for name, among in seen.items():
        if not among:
            found.append(whole[name])
            continue
        finding, clearest = max(among, key=lambda pair: pair[0].confidence)
        finding.sentence += f" (In {len(among)} of {len(runs)} runs; clearest in {clearest}.)"
        finding.where = ", ".join(filter(None, [clearest, finding.where]))
        found.append(finding)
    order = list(RULES)
    found.sort(key=lambda f: (bool(f.follows), -round(f.confidence, 2), order.index(f.name)))
    return Diagnosis(found, whole.signs)


def together(runs: Mapping[str, Signs]) -> Signs:
    """One run's signs, or those of the run that ends in the middle, with the spread over all."""
    if len(runs) == 1:
        return next(iter(runs.values()))
    ends = {name: _end(signs.curve("loss")[1]) for name, signs in runs.items()}
    finite = sorted(v for v in ends.values() if np.isfinite(v))
    ranked = sorted(runs, key=lambda name: ends[name] if np.isfinite(ends[name]) else np.inf)
    middle = ranked[(len(ranked) - 1) // 2]
    signs = replace(runs[middle], notes=list(runs[middle].notes), runs=dict(runs))
    signs.numbers = signs.numbers | {"seeds": float(len(runs))}
    mean = abs(float(np.mean(finite))) if finite else 0.0
    if len(finite) >= 2 and mean > 0:
        signs.numbers["seed spread"] = float(np.std(finite, ddof=1)) / mean
    signs.notes.append(f"{len(runs)} runs, taken as seeds of one experiment; the curves shown are those of {middle}")
    if len(finite) < len(runs):
        signs.notes.append(f"{len(runs) - len(finite)} runs end without a finite loss; the spread is over the others")
    return signs


def _end(loss: Float[np.ndarray, " n"]) -> float:
    """Where a run's loss ends: the mean over its last tenth."""
    return float(np.mean(loss[-max(len(loss) // 10, 1) :])) if len(loss) else float("nan")
