"""FedSpeed: local steps held near the server's model, corrected so that long runs at home do not move the solution.

```python
from attractor import distributed, problems, run

method = distributed.FedSpeed(0.1, prox=3.0, local_steps=50)
print(run(problems.federated_digits(10), method, steps=20).summary("gradient_norm"))
```
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from attractor.distributed.federated_averaging import Corrections, FedSpeed
from attractor.papers.words import Evidence, cached, claim, first_step, paired_difference, probes, run, seeds
from attractor.problem import Federated
from attractor.problems.client_splits import dirichlet_digits, split_by_label
from attractor.problems.digits import cross_entropy_of, small_digits

FORGETS = {"half of the correction is forgotten": {"kept": 0.5}}
PLAIN = [(float(rate), 1e9) for rate in np.geomspace(0.01, 1.0, 16)]
HELD = [(float(rate), prox) for rate in np.geomspace(0.02, 0.3, 4) for prox in (0.5, 2.0, 8.0, 32.0)]


class _Kept(FedSpeed):
    kept: float = 1.0  # the share of the correction that the next round starts with

    def step(self, problem, x, state, key):
        return super().step(problem, x, Corrections(jax.tree.map(lambda c: self.kept * c, state.correction)), key)


def _speed(local_steps, kept, *, learning_rate, prox, radius=1e-3):
    return _Kept(learning_rate, prox, radius, 1.0, local_steps, kept=kept)


def _averaging(local_steps, kept, *, learning_rate, prox):
    return FedSpeed(learning_rate, prox, 0.0, 0.0, local_steps, corrected=False)


def _swept(problem, made, configs, local_steps, kept, **how):
    sweep = [{"learning_rate": rate, "prox": prox} for rate, prox in configs]
    return run(problem, eqx.Partial(made, local_steps, jnp.asarray(kept)), sweep=sweep, **how)


def _loss(x, batch):
    return cross_entropy_of(batch[0] @ x, batch) + 0.05 * jnp.sum(x**2)


def _slope(problem, x, key):
    return jnp.linalg.norm(jax.grad(problem.loss)(x, problem.full))


@cached
def _slopes(made, configs, local_steps=5, kept=1.0):
    """Norms of the gradient after 0 to 300 rounds, over that at the start: (configurations, rounds)."""
    images, labels = small_digits(4, 4)
    index = split_by_label(labels, 8)
    problem = Federated(_loss, jnp.zeros((16, 4)), (images[index], labels[index]))
    trace = _swept(problem, made, configs, local_steps, kept, steps=300, every=1, probes={"slope": _slope})
    return trace["slope"].values[:, 0] / trace["slope"].values[:, 0, :1]


@claim("one digit a client, 5 full gradients at home: FedSpeed ends with 1e-3 of the gradient after 300 rounds, tuned",
       source="scaled", deterministic=True, broken=FORGETS)  # fmt: skip
def converges_to_the_solution(kept=1.0):
    return Evidence(np.nanmin(_slopes(_speed, HELD, kept=kept)[:, -1]), at_most=1e-3)


@claim("one digit a client, 5 full gradients at home: FedAvg and FedProx, tuned, end with 10 times FedSpeed's gradient",
       source="scaled", deterministic=True, broken=FORGETS)  # fmt: skip
def averages_do_not(kept=1.0):
    ours = np.nanmin(_slopes(_speed, HELD, kept=kept)[:, -1])
    ends = {name: np.nanmin(_slopes(_averaging, c)[:, -1]) for name, c in {"FedAvg": PLAIN, "FedProx": HELD}.items()}
    given = {f"{name} gets to a tenth": end < 0.1 for name, end in ends.items()}
    return Evidence.of_cases({name: end / ours for name, end in ends.items()}, at_least=10.0, given=given)


@claim("one digit a client: with 50 steps at home, 1e-2 of the gradient in half of the rounds that 5 need, tuned",
       source="ours", deterministic=True, broken=FORGETS,
       reason="0.83 of the rounds: what holds the models near the server's is then what takes time")  # fmt: skip
def long_runs_save_rounds(kept=1.0):
    long, short = (first_step(_slopes(_speed, HELD, k, s), 0.01).min() for k, s in ((50, kept), (5, 1.0)))
    return Evidence(long / short, at_most=0.5, given={"5 steps get there": np.isfinite(short)})


@cached
def _accuracies(scale, made, configs, kept=1.0):
    """Test accuracies on splits of the digits, at the configuration that is best on validation images of another."""
    (steps, n), found = (30, 7) if scale == "quick" else (300, 21), []
    for split in seeds(n):
        problem = dirichlet_digits(10, 0.3, width=16, batch_size=8, seed=split)
        measured = probes(problem, "validation_accuracy", "test_accuracy")
        trace = _swept(problem, made, configs, 5, kept, steps=steps, every=steps, seeds=seeds(1, 1), probes=measured)
        found.append([trace[name].values[:, 0, -1] for name in measured])
    best = found[0][0].argmax()
    return np.array([test[best] for _, test in found[1:]])


@claim("digits by Dirichlet(0.3) over 10 clients, 30 rounds, tuned: FedSpeed is 1 point of accuracy above FedAvg",
       source="scaled", broken=FORGETS, reason="3 points on average, and too few splits to tell")  # fmt: skip
def classifies_better(kept=1.0, *, scale):
    ours = _accuracies(scale, eqx.Partial(_speed, radius=0.1), HELD, kept)
    plain = _accuracies(scale, _averaging, PLAIN)
    return Evidence(paired_difference(ours, plain), at_least=0.01, given={"FedAvg gets 8 of 10": plain.mean() > 0.8})
