"""EControl: compressed gradient differences with a controlled share of the past error mixed in.

```python
import attractor
from attractor import distributed, problems

problem = problems.federated_digits(n_clients=20)
method = distributed.EControl(0.1, feedback=0.1, compressor=distributed.top_k(0.1))
print(attractor.run(problem, method, steps=100).summary("gradient_norm"))
```
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np

from attractor.distributed.error_feedback import EControl, Memory
from attractor.papers.words import Evidence, cached, claim, key, paired_ratio, probes, run, seeds, sizes
from attractor.problem import Federated
from attractor.problems.federated_digits import federated_digits

# Feedback, and the shares of the error and of the gradient estimates that clients keep: one program serves all.
CONTROLLED, UNCONTROLLED, EF21, COMPENSATION, NOTHING = (0.1, 1, 1), (1, 1, 1), (1, 0, 1), (1, 1, 0), (1, 0, 0)
FORGETS = {"nothing is remembered": {"shares": NOTHING}}  # compressed SGD as one would write it at first


class _Shared(EControl):
    kept: tuple = (1.0, 1.0)

    def step(self, problem, x, state, key):
        state = Memory(*(jax.tree.map(lambda a, s=s: s * a, part) for s, part in zip(self.kept, state, strict=True)))
        return super().step(problem, x, state, key)


def _method(shares, learning_rate):
    return _Shared(learning_rate, shares[0], kept=(shares[1], shares[2]))


@claim(
    "whatever is compressed (here to the top 10 %), x - lr · mean error does plain SGD steps, to 1e-6 over 50 of them",
    source="paper", broken={"the error is forgotten": {"shares": EF21}})  # fmt: skip
def corrected_point_does_plain_steps(shares=CONTROLLED):
    problem, rate = federated_digits(batch_size=8), 0.1
    made = _method(shares, rate)

    def step(carry, key):
        x, state, plain = carry
        slopes = problem.client_gradients(x, problem.sample(key))
        plain = jax.tree.map(lambda p, g: p - rate * g.mean(0), plain, slopes)
        return (*made.step(problem, x, state, key), plain), None

    x = problem.init(key())
    start = (x, made.init(problem, x, key()), x)
    x, state, plain = jax.jit(lambda c, k: jax.lax.scan(step, c, k)[0])(start, jr.split(key(), 50))
    corrected = jax.tree.map(lambda p, e: p - rate * e.mean(0), x, state.error)
    return Evidence(max(float(jnp.abs(corrected[k] - plain[k]).max()) for k in x), at_most=1e-6)


@claim(
    "|gradient| at most 1e-8 after 750 full-gradient steps, top 10 % sent by 20 clients holding digits sorted by label",
    source="ours", deterministic=True,
    broken={"classical error compensation": {"shares": COMPENSATION},
            "feedback not controlled (1 instead of 0.1)": {"shares": UNCONTROLLED}})  # fmt: skip
def converges_linearly_on_heterogeneous_clients(shares=CONTROLLED):
    return Evidence(_full_gradient_run(shares), at_most=1e-8)


@claim("classical error compensation stalls where EControl does not: after 750 steps of equal size |gradient| >= 1e-4",
       source="ours", deterministic=True, broken={"controlled": {"shares": CONTROLLED}})  # fmt: skip
def error_compensation_stalls(shares=COMPENSATION):
    return Evidence(_full_gradient_run(shares), at_least=1e-4)


def _run(problem, shares, learning_rate, **how):
    """Norms of the full gradient, (seeds, records)."""
    made, sweep = eqx.Partial(_method, jnp.asarray(shares, float)), {"learning_rate": [learning_rate]}
    return run(problem, made, sweep=sweep, **how)["gradient_norm"].values[0]


@cached
def _full_gradient_run(shares):
    with jax.enable_x64(True):
        return float(_run(federated_digits(), shares, 0.3, steps=750, every=750)[0, -1])


@claim("under gradient noise, 10 times the clients leave at most 0.4 times the squared gradient norm",
       source="ours", broken=FORGETS)  # fmt: skip
def more_clients_average_the_noise(shares=CONTROLLED, *, scale):
    return Evidence(paired_ratio(_noise_floor(shares, 20, scale), _noise_floor(shares, 2, scale)), at_most=0.4)


@claim(
    "under gradient noise, EControl leaves at most 0.9 times EF21-SGD's squared gradient norm: equal steps, 20 clients",
    source="ours", broken=FORGETS)  # fmt: skip
def less_noise_than_when_the_error_is_forgotten(shares=CONTROLLED, *, scale):
    return Evidence(paired_ratio(_noise_floor(shares, 20, scale), _noise_floor(EF21, 20, scale)), at_most=0.9)


@cached
def _noise_floor(shares, n_clients, scale):
    """Per seed, the mean squared norm of the full gradient in the second half of a run on one sample per client. All
    clients hold one of two halves of the digits, sorted by label: objective, heterogeneity and noise are those of 2."""
    halves = federated_digits(n_clients=2)
    clients = jax.tree.map(lambda leaf: jnp.repeat(leaf, n_clients // 2, axis=0), halves.full)
    problem = Federated(halves.client_loss, halves.init, clients, batch_size=1)
    how = sizes(scale, steps=(1_000, 10_000), every=20, probes=probes(halves, "gradient_norm"))
    norms = _run(problem, shares, 0.1, seeds=seeds(**sizes(scale, n=(8, 32))), **how)
    return np.mean(norms[:, norms.shape[1] // 2 :] ** 2, axis=1)
