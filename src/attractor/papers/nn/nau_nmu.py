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

from functools import partial

import equinox as eqx
import jax
import numpy as np
import optax

from attractor.nn.arithmetic.units import NALU, NAU, NMU, add_sparsity_gradient, keep_in_range
from attractor.papers.words import Evidence, cached, claim, paired_difference, proportion, run, seed, seeds, sizes
from attractor.problems.arithmetic import arithmetic_extrapolation, arithmetic_units


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
UNUSED = 200  # the first of them
QUICK_STEPS, QUICK_PRESSURE = {"+": 20_000, "*": 60_000}, {"+": 0.03, "*": 0.3}


@cached
def _train(operation, build, rates, sparse, n, scale):
    """Per seed, at the rate with the most: is extrapolation solved at the step that interpolates best; is W whole?"""
    how = sizes(
        scale, size=(20, 100), batch=(64, 128), steps=(QUICK_STEPS[operation], 5_000_000),
        pressure=(QUICK_PRESSURE[operation], 10.0), ramp=((0.5, 0.8), (0.2, 0.4)),
    )  # fmt: skip
    steps = how["steps"]

    def optimizer(learning_rate):
        begin, end = (int(share * steps) for share in how["ramp"])
        schedule = optax.linear_schedule(0.0, how["pressure"] * sparse, end - begin, begin)
        return optax.chain(add_sparsity_gradient(schedule), optax.adam(learning_rate), keep_in_range())

    build = partial(build, operation, how["size"])
    problem = arithmetic_extrapolation(operation, how["size"], build, how["batch"], seed=seed())
    sweep, fresh = {"learning_rate": list(rates)}, [UNUSED + s for s in seeds(n)]
    trace = run(problem, optimizer, sweep=sweep, seeds=fresh, steps=steps, every=steps // 100)
    chosen = np.nan_to_num(trace["interpolation"].values, nan=np.inf).argmin(-1)[..., None]
    solved = np.take_along_axis(trace["extrapolation"].values, chosen, -1)[..., 0] <= 1
    best = solved.mean(1).argmax()
    return solved[best].astype(float), trace["sparsity_error"].values[best, :, -1]


def _ours(operation, sparse, scale):
    how = sizes(scale, rates=((1e-2,), (1e-3,)), seeds=(16, 100))
    return _train(operation, arithmetic_units, how["rates"], sparse, how["seeds"], scale)


def _success(operation, sparse, scale):
    solved, off = _ours(operation, sparse, scale)
    note = f"solved {solved.mean():.0%}; weights within 0.01: {(off <= 0.01).mean():.0%}"
    return Evidence(proportion(int((solved * (off <= 0.01)).sum()), len(solved)), at_least=0.8, note=note)


BROKEN = {"no sparsity pressure": {"sparse": 0.0}}
SOLVES = "at least 80 % of runs solve {} of two sums outside the training range with weights within 0.01 of -1, 0, 1"


@claim(
    SOLVES.format("the sum"),
    source="ours",
    broken=BROKEN,
    reason="all 16 runs solve it, but only 14 end with whole weights: too few to bound the share above 80 %",
)
def learns_to_add(sparse=1.0, *, scale):
    return _success("+", sparse, scale)


@claim(
    SOLVES.format("the product"),
    source="ours",
    broken=BROKEN,
    reason="15 of 16 runs do: too few to bound the share above 80 %, which not even 16 of 16 would",
)
def learns_to_multiply(sparse=1.0, *, scale):
    return _success("*", sparse, scale)


@claim(
    "on the sum, addition units solve at least 0.3 more of the runs than a NALU and a ReLU network (paper: 0.86, 0.38)",
    source="ours",
    broken={"multiplication unit on top": {"units": _multiplying}},
)
def is_ahead_of_nalu_and_relu(units=arithmetic_units, *, scale):
    how = sizes(scale, rates=((1e-2,), (1e-3,)), tried=((1e-3, 1e-2), (1e-3,)), seeds=(8, 100))
    n = how["seeds"]
    ours = _ours("+", 1.0, scale) if units is arithmetic_units else _train("+", units, how["rates"], 1.0, n, scale)
    others = {
        name: _train("+", build, how["tried"], 1.0, n, scale)[0]
        for name, build in (("NALU", _nalu), ("ReLU network", _relu_network))
    }
    gains = {name: paired_difference(ours[0][: len(solved)], solved) for name, solved in others.items()}
    note = "solved: " + ", ".join(f"{name} {solved.mean():.0%}" for name, solved in others.items())
    return Evidence.of_cases(gains, at_least=0.3, note=note)
