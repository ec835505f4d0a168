"""Arithmetic units: layers that add or multiply chosen inputs exactly, so that learned arithmetic extrapolates.

```python
import optax
from attractor import run
from attractor.nn import add_sparsity_gradient, keep_in_range
from attractor.problems import arithmetic_extrapolation

pressure = optax.linear_schedule(0.0, 0.3, transition_steps=300, transition_begin=500)
optimizer = optax.chain(add_sparsity_gradient(pressure), optax.adam(1e-2), keep_in_range())
trace = run(arithmetic_extrapolation("*"), optimizer, steps=1_000, seeds=2)  # 60,000 steps solve it
print(trace["interpolation"].values[0, :, -1], trace["sparsity_error"].values[0, :, -1])
```
"""

import functools

import equinox as eqx
import jax
import numpy as np
import optax

from attractor.engine import run
from attractor.nn.arithmetic import NALU, NAU, NMU, add_sparsity_gradient, keep_in_range
from attractor.papers import Evidence, claim
from attractor.problems.arithmetic import arithmetic_extrapolation, arithmetic_units
from attractor.stats import mean, paired_difference


def _stack(first, second):
    def build(operation, size, key):
        keys = jax.random.split(key)
        return eqx.nn.Sequential([first(size, 2, key=keys[0]), second(2, 1, key=keys[1])])

    return build


def _relu_network(operation, size, key):
    return eqx.nn.MLP(size, 1, 32, 1, key=key)


_nalu, _multiplying = _stack(NALU, NALU), _stack(NAU, NMU)

# Quick: 20 inputs instead of 100, batches of 64 instead of 128, 20,000 (+) and 60,000 (*) steps instead of 5,000,000.
# Fewer steps want a larger rate (0.01 for 0.001) and, as losses shrink with the number of inputs, a smaller pressure,
# which comes later. These were chosen on
# seeds 0 … 7; the claims run on seeds that played no part in that (100 … 115 tried batches of 32: 75 % solved *).
PRESSURE = {"+": 0.03, "*": 0.3}


@functools.cache
def _train(operation, build, rates, sparse, seeds, scale):
    """Per seed, at the rate with the most: is extrapolation solved at the step that interpolates best; is W whole?"""
    size, batch_size, steps, pressure, ramp = {
        "quick": (20, 64, {"+": 20_000, "*": 60_000}[operation], PRESSURE[operation], (0.5, 0.8)),
        "full": (100, 128, 5_000_000, 10.0, (0.2, 0.4)),
    }[scale]

    def optimizer(learning_rate):
        begin, end = (int(share * steps) for share in ramp)
        schedule = optax.linear_schedule(0.0, pressure * sparse, end - begin, begin)
        return optax.chain(add_sparsity_gradient(schedule), optax.adam(learning_rate), keep_in_range())

    problem = arithmetic_extrapolation(operation, size, functools.partial(build, operation, size), batch_size)
    sweep = {"learning_rate": list(rates)}
    trace = run(problem, optimizer, sweep=sweep, seeds=range(200, 200 + seeds), steps=steps, every=steps // 100)
    chosen = np.nan_to_num(trace["interpolation"].values, nan=np.inf).argmin(-1)[..., None]
    solved = np.take_along_axis(trace["extrapolation"].values, chosen, -1)[..., 0] <= 1
    best = solved.mean(1).argmax()
    return solved[best].astype(float), trace["sparsity_error"].values[best, :, -1]


def _rates(scale):
    return {"quick": (1e-2,), "full": (1e-3,)}[scale]


def _success(operation, sparse, scale):
    seeds = {"quick": 16, "full": 100}[scale]
    solved, off = _train(operation, arithmetic_units, _rates(scale), sparse, seeds, scale)
    note = f"solved {solved.mean():.0%}; weights within 0.01: {(off <= 0.01).mean():.0%}"
    return Evidence(mean(solved * (off <= 0.01)), at_least=0.8, note=note)


BROKEN = {"no sparsity pressure": {"sparse": 0.0}}
SOLVES = (
    "at least 80 % of runs solve {} of two sums (error on [2, 6] and [-2, 2] below that of weights off by 1e-5) "
    "and end with all weights within 0.01 of -1, 0 or 1"
)


@claim(
    "nau-nmu",
    SOLVES.format("the sum"),
    broken=BROKEN,
    reason="all 16 runs solve it, but only 14 end with whole weights: too few to bound the share above 80 %",
)
def learns_to_add(sparse=1.0, *, scale):
    return _success("+", sparse, scale)


@claim("nau-nmu", SOLVES.format("the product"), broken=BROKEN)
def learns_to_multiply(sparse=1.0, *, scale):
    return _success("*", sparse, scale)


@claim(
    "nau-nmu",
    "on the sum, addition units solve at least 0.3 more of the runs than either NALU or a ReLU network "
    "(the paper: all, against 14 % and 62 %)",
    broken={"multiplication unit on top": {"units": _multiplying}},
)
def is_ahead_of_nalu_and_relu(units=arithmetic_units, *, scale):
    seeds = {"quick": 8, "full": 100}[scale]
    trained = 16 if scale == "quick" and units is arithmetic_units else seeds  # the run that the first claim made
    ours = _train("+", units, _rates(scale), 1.0, trained, scale)[0][:seeds]
    tried = {"quick": (1e-3, 1e-2), "full": (1e-3,)}[scale]
    others = [_train("+", build, tried, 1.0, seeds, scale)[0] for build in (_nalu, _relu_network)]
    best = max(others, key=np.mean)
    note = f"ours {ours.mean():.0%}, NALU {others[0].mean():.0%}, ReLU {others[1].mean():.0%}"
    return Evidence(paired_difference(ours, best), at_least=0.3, note=note)
