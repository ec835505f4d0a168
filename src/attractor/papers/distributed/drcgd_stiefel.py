"""DRCGD: agents who share a frame follow conjugate gradients, with projections for retraction and vector transport.

```python
from attractor import distributed, problems, run

images = problems.digits()[0][0][:1_432]  # their principal components, 8 agents on a ring
problem = problems.shared_components((images - images.mean(0)).reshape(8, -1, 64), 3)
print(run(problem, distributed.RiemannianGossip(1.0, share=0.5), steps=100).summary("off"))
```
"""

from typing import Any

import jax.numpy as jnp
import numpy as np

from attractor.distributed.local import disagreement
from attractor.distributed.riemannian import RiemannianGossip
from attractor.papers.words import Evidence, cached, claim, first_step, mean, ratio_of_means, run, seeds
from attractor.problems.digits import digits
from attractor.problems.principal_components import off_span, shared_components

RATES = tuple(float(rate) for rate in np.geomspace(0.05, 12.0, 8))
LONG = [(2.0, 0.5, 1.0), (2.0, 0.25, 1.0), (2.0, 0.0, 1.0), (2.0, 0.5, 0.0)]  # the last is DPRGD


def _problem(seed, real):
    """Five components of 1,000 rows of 16 agents each, singular values falling by 0.8; or three of digits, 8 agents."""
    if real:
        images = np.asarray(digits(seed=seed)[0][0], float)[:1_432]
        return shared_components((images - images.mean(0)).reshape(8, -1, 64), 3, seed)
    u, _, vt = np.linalg.svd(np.random.default_rng(seed).normal(size=(16_000, 10)), full_matrices=False)
    return shared_components(((u * 0.8 ** np.arange(10.0)) @ vt).reshape(16, -1, 10), 5, seed)


def _off(problem, x, key, state):
    return jnp.sqrt(jnp.mean(off_span(state.models, problem.full[1][:, 0]) ** 2))


def _run(seed, real, configs, steps):
    problem, names = _problem(seed, real), ("learning_rate", "decay", "share")
    sweep: list[dict[str, Any]] = [dict(zip(names, c, strict=True)) for c in configs]
    measured = {"slope": problem.probes["gradient_norm"], "off": _off, "apart": disagreement}
    trace = run(problem, RiemannianGossip, sweep=sweep, steps=steps, every=1, probes=measured, lanes=4)
    return {name: trace[name].values[:, 0] for name in measured}


@cached
def _long(scale):
    """Runs with the settings of `LONG`: (instances, settings, steps + 1) by name."""
    n, steps = (6, 1_000) if scale == "quick" else (24, 20_000)
    found = [_run(s, False, LONG, steps) for s in seeds(n)]
    return {name: np.stack([f[name] for f in found]) for name in found[0]}


@cached
def _steps(scale, real):
    """Steps to 0.1, at most 300, on fresh instances: shares 0, 1, 1/2 at their best of 16, and 1.2 at that of 1."""
    best = []
    for share in (0.0, 1.0, 0.5):
        configs = [(rate, decay, share) for rate in RATES for decay in (0.0, 0.5)]
        tried = [first_step(_run(s, real, configs, 300)["off"], 0.1) for s in seeds(3, 1)]
        best.append(configs[int(np.minimum(tried, 300).mean(0).argmin())])
    best.append((*best[1][:2], 1.2))
    curves = [_run(s, real, best, 300)["off"] for s in seeds(8 if scale == "quick" else 32)]
    return np.minimum(first_step(curves, 0.1), 300).T


def _compared(scale, column, at_most):
    found = {"Gaussian": _steps(scale, False), "digits": _steps(scale, True)}
    cases: dict[str, Any] = {name: ratio_of_means(steps[column], steps[0]) for name, steps in found.items()}
    given = {f"DPRGD solves {name}": steps[0].max() < 300 for name, steps in found.items()}
    return Evidence.of_cases(cases, at_most=at_most, given=given)


@claim("16 agents, steps 2/sqrt(k): mean square distance over steps squared grows at most 1.2 times from 200 to 1,000",
       source="paper", broken={"steps that fall half as fast": {"column": 1}},
       reason="0.04 to 2.1 on four draws of six instances: directions swing, too few to tell")  # fmt: skip
def agrees_as_the_steps_fall(column=0, *, scale):
    apart = _long(scale)["apart"][:, column]
    scaled = apart * np.arange(apart.shape[-1])
    early, late = scaled[:, 100:200].max(-1), scaled[:, -500:].max(-1)
    return Evidence(ratio_of_means(late, early), at_most=1.2, given={"agents differ": early.min() > 1e-3})


@claim("components, 16 agents, steps 2/sqrt(k), 1,000 of them: the gradient of the mean frame gets down to 1e-3",
       source="scaled", broken={"steps that do not fall": {"column": 2}},
       reason="0.022: agents' own gradients do not vanish, factors near 1 damp nothing, directions swing")  # fmt: skip
def becomes_stationary(column=0, *, scale):
    least = _long(scale)["slope"].min(-1)
    return Evidence(mean(least[:, column]), at_most=1e-3, given={"DPRGD's does": least[:, 3].max() < 1e-3})


@claim("components of data and of digits, both tuned: DRCGD has all agents within 0.1 in no more steps than DPRGD",
       source="paper", broken={"a fifth more than the factor": {"column": 3}},
       reason="1.1 to 2.6 times as many on Gaussian rows, 3.5 to 8.9 on digits: directions swing")  # fmt: skip
def needs_fewer_steps(column=1, *, scale):
    return _compared(scale, column, 1.0)


@claim("components of data and of digits, tuned: with half of the factor, at most 0.8 of DPRGD's steps to 0.1",
       source="ours", broken={"all of the factor": {"column": 1}},
       reason="0.4 to 0.6 on Gaussian rows, 0.7 to 1.2 on digits; and each step sends twice as much")  # fmt: skip
def half_of_the_factor_is_faster(column=2, *, scale):
    return _compared(scale, column, 0.8)
