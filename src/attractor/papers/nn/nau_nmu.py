"""Arithmetic units: layers that add or multiply chosen inputs exactly, so that learned arithmetic extrapolates.

```python
import optax
from attractor import run
from attractor.nn import add_sparsity_gradient, keep_in_range
from attractor.problems import arithmetic_extrapolation

pressure = optax.linear_schedule(0.0, 0.3, transition_steps=300, transition_begin=500)
optimizer = optax.chain(add_sparsity_gradient(pressure), optax.adam(1e-2), keep_in_range())
trace = run(arithmetic_extrapolation("*"), optimizer, steps=1_000, seeds=2)  # 45,000 steps solve it
print(trace["interpolation"].values[0, :, -1], trace["sparsity_error"].values[0, :, -1])
```
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax

from attractor.nn.arithmetic.units import NALU, add_sparsity_gradient, keep_in_range
from attractor.papers.words import Evidence, cached, claim, paired_difference, proportion, run, seeds, sizes
from attractor.problems.arithmetic import arithmetic_extrapolation, arithmetic_units

# Quick: 20 inputs instead of 100, and far fewer steps than the paper's 5,000,000 with 128 samples, so larger rates
# (constant ones, as there, where it is 0.001) and, as losses shrink with the number of inputs, a smaller pressure,
# which comes later.
QUICK = {"+": {"steps": 20_000, "batch": 32, "n": 36, "pressure": 0.05, "wait": 0.5},
         "*": {"steps": 45_000, "batch": 64, "n": 24, "pressure": 0.3, "wait": 0.5}}  # fmt: skip
FULL = {"steps": 5_000_000, "batch": 128, "n": 100, "pressure": 10.0, "wait": 0.2}
RATES = [1e-3, 3e-3, 1e-2, 3e-2]


def _nalus(operation, size, key):
    first, second = jax.random.split(key)
    return eqx.nn.Sequential([NALU(size, 2, key=first), NALU(2, 1, key=second)])


def _relu_network(operation, size, key):
    return eqx.nn.MLP(size, 1, 2, 1, key=key)  # two hidden units, as the others have, and as in the paper


BUILD = {"arithmetic units": arithmetic_units, "NALU": _nalus, "ReLU network": _relu_network}


def _optimizer(learning_rate, pressure, begin, end):
    schedule = lambda step: pressure * jnp.clip((step - begin) / (end - begin), 0.0, 1.0)  # noqa: E731
    return optax.chain(add_sparsity_gradient(schedule), optax.adam(learning_rate), keep_in_range())


def _runs(operation, units, sparse, rates, n, stream, scale):
    """By rate and run: is [2, 6] solved, are [2, 6] and [-2, 2] both, with whole weights; the interpolation error. At
    the step that interpolates best, n runs on each of three problems, which differ in what is added. ``sparse`` is a
    factor on the pressure; above 1 it does not wait."""
    how, size = sizes(scale, how=(QUICK[operation], FULL), size=(20, 100)).values()
    steps, build = how["steps"], eqx.Partial(BUILD[units], operation, size)
    begin = 0.0 if sparse > 1 else how["wait"] * steps
    sweep = {"learning_rate": rates, "pressure": [sparse * how["pressure"]], "begin": [begin],
             "end": [begin + 0.2 * steps]}  # fmt: skip
    found = []
    for draw in seeds(3, stream=2):
        problem = arithmetic_extrapolation(operation, size, build, how["batch"], seed=draw)
        measured = {name: problem.probes[name] for name in ("interpolation", "extrapolation", "sparsity_error")}
        measured["ahead"] = eqx.tree_at(  # on [2, 6] alone, as in the paper
            lambda p: p.measure.args[1], measured["extrapolation"], replace_fn=lambda data: (data[0][:1], data[1][:1])
        )
        how_to = {"seeds": seeds(n, stream), "steps": steps, "every": steps // 100, "probes": measured, "lanes": 12}
        trace = run(problem, _optimizer, sweep=sweep, **how_to)
        chosen = np.nan_to_num(trace["interpolation"].values, nan=np.inf).argmin(-1)[..., None]
        at = {k: np.take_along_axis(trace[k].values, chosen, -1)[..., 0] for k in measured}
        whole = trace["sparsity_error"].values[..., -1] <= 0.01
        found.append((at["ahead"] <= 1, (at["extrapolation"] <= 1) & whole, at["interpolation"]))
    return [np.concatenate(part, 1) for part in zip(*found, strict=True)]


@cached
def _best_rate(operation, units, scale):
    """Of 4, on other seeds: the one that solves both with whole weights most often, else [2, 6]."""
    ahead, strictly, _ = _runs(operation, units, 1.0, RATES, 3, 1, scale)
    return RATES[(strictly.mean(1) + 1e-3 * ahead.mean(1)).argmax()]


@cached
def _train(operation, units, sparse, scale):
    n = sizes(scale, n=(QUICK[operation]["n"], FULL["n"]))["n"] // 3 if sparse == 1 else 4  # enough for a damaged one
    parts = _runs(operation, units, sparse, [_best_rate(operation, units, scale)], n, 0, scale)
    return [part[0].astype(float) for part in parts]


def _success(operation, sparse, scale):
    ahead, strictly, _ = _train(operation, "arithmetic units", sparse, scale)
    return Evidence(proportion(int(strictly.sum()), len(strictly)), at_least=0.8,
                    note=f"[2, 6] solved {ahead.mean():.0%}")  # fmt: skip


BROKEN = {"no sparsity pressure": {"sparse": 0.0}}
SOLVES = "at least 80 % of runs solve {} of two sums outside the training range with weights within 0.01 of -1, 0, 1"


@claim(SOLVES.format("the sum"), source="ours", broken=BROKEN,
       reason="undecided: 32 of 36 runs do, 89 % [74, 97]; on other seeds 67, 97 and 94 %")  # fmt: skip
def learns_to_add(sparse=1.0, *, scale):
    return _success("+", sparse, scale)


@claim(SOLVES.format("the product"), source="ours", broken=BROKEN,
       reason="undecided: 20 of 24 do, 83 % [63, 95]; on other seeds 54, 58 and 75 %")  # fmt: skip
def learns_to_multiply(sparse=1.0, *, scale):
    return _success("*", sparse, scale)


@claim("the sum on [2, 6]: addition units solve 0.3 more of runs than a NALU and a ReLU network (paper: 0.86, 0.38)",
       source="ours", broken={"100 times the pressure, from the start": {"sparse": 100.0}})  # fmt: skip
def is_ahead_of_nalu_and_relu(sparse=1.0, *, scale):
    ours, *_ = _train("+", "arithmetic units", sparse, scale)
    others = {name: _train("+", name, 1.0, scale) for name in ("NALU", "ReLU network")}
    gains = {name: paired_difference(ours, solved[: len(ours)]) for name, (solved, *_) in others.items()}
    note = ", ".join(
        f"{k} {solved.mean():.0%}, interpolation {np.median(e):.1e}" for k, (solved, _, e) in others.items()
    )
    return Evidence.of_cases(gains, at_least=0.3, note=f"solved on [2, 6]: {note}")
