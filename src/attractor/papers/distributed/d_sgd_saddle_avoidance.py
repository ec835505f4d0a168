"""D-SGD: agents in a graph whose pull towards each other outlasts their steps agree, and leave saddles by their noise.

```python
from attractor import distributed, problems, run

method = distributed.ConsensusDescent(0.3, noise=0.3)
trace = run(problems.tilted_wells(10), method, steps=2_000, seeds=20, probes={"apart": distributed.disagreement})
print(trace.summary("apart"))
```
"""

import numpy as np

from attractor.distributed.gossip import ConsensusDescent
from attractor.distributed.local import disagreement
from attractor.papers.words import Evidence, cached, claim, log_slope, proportion, ratio_of_means, run, seeds
from attractor.problems.tilted_wells import tilted_wells


def _made(*, noise, coupling_decay):
    return ConsensusDescent(0.3, 0.3, 0.75, coupling_decay, noise)


def _point(problem, x, key):
    return x


@cached
def _runs(scale, noise=0.3, coupling_decay=0.25):
    """Of runs from the saddle's stable manifold the last points (seeds, 3); disagreements (seeds, records); steps."""
    steps, sweep = 4_000 if scale == "quick" else 100_000, {"noise": [noise], "coupling_decay": [coupling_decay]}
    measured = {"point": _point, "apart": disagreement}
    trace = run(tilted_wells(10), _made, sweep=sweep, steps=steps, every=40, seeds=seeds(200), probes=measured)
    return trace["point"].values[0, :, -1], trace["apart"].values[0], trace.dataset["step"].values


@claim("two wells and a kink, 10 agents on a ring, from a saddle's stable manifold: 97 % end within 0.1 of a minimum",
       source="scaled", broken={"no noise": {"noise": 0.0}},
       reason="the others are on their way after 4,000 steps, and 200 runs are too few to tell")  # fmt: skip
def leaves_the_saddle(noise=0.3, *, scale):
    off = np.linalg.norm(np.abs(_runs(scale, noise)[0]) - [1.0, 0.0, 0.0], axis=-1)
    return Evidence(proportion(int((off < 0.1).sum()), off.size), at_least=0.97)


@claim("two wells and a kink, 10 agents: without noise the saddle itself is reached, to 0.05 in every coordinate",
       source="paper", deterministic=True, broken={"with noise": {"noise": 0.3}})  # fmt: skip
def saddle_is_left_by_noise_only(noise=0.0):
    trace = run(tilted_wells(10), _made(noise=noise, coupling_decay=0.25), steps=4_000, every=4_000,
                probes={"x": _point})  # fmt: skip
    return Evidence(float(np.abs(trace["x"].values[0, 0, -1]).max()), at_most=0.05)


@claim("10 tilted agents: their mean square disagreement falls as (alpha / beta)^2, log-log slope -1.15 to -0.85",
       source="scaled", broken={"a pull that decays twice as fast": {"coupling_decay": 0.5}})  # fmt: skip
def agree_as_steps_over_pulls(coupling_decay=0.25, *, scale):
    _, apart, steps = _runs(scale, coupling_decay=coupling_decay)
    return Evidence(log_slope(steps, apart, since=400), within=(-1.15, -0.85))


@claim("10 tilted agents: where the pull decays faster than the steps, the disagreement left is 1,000 times as large",
       source="paper", broken={"a little slower": {"coupling_decay": 0.5}})  # fmt: skip
def the_pull_must_outlast_the_steps(coupling_decay=0.9, *, scale):
    fast, slow = _runs(scale, coupling_decay=coupling_decay)[1][:, -1], _runs(scale)[1][:, -1]
    return Evidence(ratio_of_means(fast, slow), at_least=1_000.0, given={"they agree": slow.mean() < 1e-3})
