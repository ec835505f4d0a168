"""FSGLD: Langevin steps at one client for a while, corrected by normal approximations of all clients' likelihoods.

```python
from attractor import distributed, problems, run

problem = problems.diabetes_posterior(clients=10)
trace = run(problem, distributed.FederatedLangevin(2e-5, local_steps=40), steps=2_000)
print(trace.summary("moment"))  # of the posterior, 1: the mean square of the distance, in its standard deviations
```
"""

import jax
import jax.numpy as jnp
import numpy as np

from attractor.distributed.langevin import FederatedLangevin, Surrogates, laplace_surrogates
from attractor.papers.words import Evidence, cached, claim, mean, ratio_of_means, run, seeds
from attractor.problems.diabetes import diabetes_posterior

KINDS = ("conducive", "none", "of another client", "with half the curvature")
DELAYS = (1.0, 10.0, 40.0)
WRONG = {"approximations of another client": {"kind": "of another client"},
         "approximations with half the curvature": {"kind": "with half the curvature"}}  # fmt: skip


def _table(problem):
    """The approximations of every kind, stacked; those of the first are exact, as the likelihoods are normal."""
    centers, precisions = laplace_surrogates(problem, jnp.zeros(4), 1)
    kinds = (precisions, 0 * precisions, jnp.roll(precisions, 1, 0), precisions / 2)
    return Surrogates(jnp.stack([centers, centers, jnp.roll(centers, 1, 0), centers]), jnp.stack(kinds))


@claim("diabetes by severity over 10 clients: all see the same drift, to 1e-8 of it, where approximations are exact",
       source="paper", deterministic=True, broken=WRONG)  # fmt: skip
def drift_is_the_same_everywhere(kind="conducive"):
    with jax.enable_x64(True):
        problem, x = diabetes_posterior(), jnp.asarray([0.3, -1.0, 0.2, 2.0])
        made = jax.tree.map(lambda leaf: leaf[KINDS.index(kind)], _table(problem))
        everywhere = jax.vmap(FederatedLangevin(1e-5).drift, (None, None, None, 0, 0))
        clients = jnp.arange(problem.n_clients), problem.full
        plain, drifts = (np.asarray(everywhere(problem, x, with_, *clients)) for with_ in (None, made))
        given = {"without, they differ by a tenth": np.ptp(plain, 0).max() > 0.1 * np.abs(plain).max()}
        return Evidence(np.ptp(drifts, 0).max() / np.abs(drifts).max(), at_most=1e-8, given=given)


def _made(table, *, kind, delay):
    chosen = jax.tree.map(lambda leaf: leaf[jnp.asarray(kind).astype(int)], table)
    return FederatedLangevin(2e-5, jnp.asarray(delay).astype(int), chosen)


@cached
def _moments(scale):
    """Per kind, delay and chain, the mean of (x - mean)² / variance of the exact posterior: (kinds, delays, seeds)."""
    problem = diabetes_posterior(batch_size=22)
    sweep = {"kind": [0.0, 1.0, 2.0, 3.0], "delay": DELAYS}
    how = {"steps": 10_000 if scale == "quick" else 100_000, "seeds": seeds(8 if scale == "quick" else 32)}
    trace = run(problem, jax.tree_util.Partial(_made, _table(problem)), sweep=sweep, every=20, **how)
    moments = trace["moment"].values
    return moments[..., moments.shape[-1] // 5 :].mean(-1).reshape(4, 3, -1)


def _cases(kind, scale):
    return {
        f"{int(delay)} local steps": mean(m)
        for delay, m in zip(DELAYS, _moments(scale)[KINDS.index(kind)], strict=True)
    }


@claim("diabetes over 10 clients: FSGLD's mean square about the exact mean is 0.75 to 1.25 variances, 1 to 40 steps",
       source="scaled", broken=WRONG)  # fmt: skip
def samples_the_posterior(kind="conducive", *, scale):
    return Evidence.of_cases(_cases(kind, scale), within=(0.75, 1.25))


@claim("diabetes over 10 clients, 40 local steps: DSGLD's mean square about the exact mean is 5 times FSGLD's or more",
       source="scaled", broken=WRONG, reason="here it is about 5 times, as chance has it on the line")  # fmt: skip
def plain_chains_drift_off(kind="conducive", *, scale):
    ours, plain = _moments(scale)[KINDS.index(kind), 2], _moments(scale)[1, 2]
    return Evidence(ratio_of_means(plain, ours), at_least=5.0,
                    given={"FSGLD samples": 0.5 < _moments(scale)[0, 2].mean() < 2})  # fmt: skip


@claim("diabetes over 10 clients: from 1 to 40 local steps DSGLD's mean square about the exact mean grows 5 times",
       source="scaled", broken={"conducive gradients": {"kind": "conducive"}},
       reason="it grows 4.7 times; longer stays would grow it further")  # fmt: skip
def delay_is_what_harms(kind="none", *, scale):
    moments = _moments(scale)[KINDS.index(kind)]
    return Evidence(ratio_of_means(moments[2], moments[0]), at_least=5.0)
