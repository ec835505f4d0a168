"""EControl: compressed gradient differences with a controlled share of the past error mixed in.

```python
import attractor
from attractor import distributed, problems

problem = problems.federated_digits(n_clients=20)
method = distributed.EControl(0.1, feedback=0.1, compressor=distributed.top_k(0.1))
print(attractor.run(problem, method, steps=100).summary("gradient_norm"))
```
"""

import functools

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np

from attractor.distributed.error_feedback import TENTH, EControl, ef21, error_compensation
from attractor.papers.words import Evidence, cached, claim, key, paired_ratio, probes, run, seeds, sizes
from attractor.problem import Federated
from attractor.problems.federated_digits import federated_digits


@claim(
    "whatever is compressed (here to the top 10 %), x - lr · mean error does plain SGD steps, to 1e-6 over 50 of them",
    source="paper", broken={"the error is forgotten": {"method": ef21}},
)  # fmt: skip
def corrected_point_does_plain_steps(method=EControl):
    problem, rate = federated_digits(batch_size=8), 0.1
    made = method(rate)

    def step(carry, key):
        x, state, plain = carry
        slopes = problem.client_gradients(x, problem.sample(key))
        plain = jax.tree.map(lambda p, g: p - rate * g.mean(0), plain, slopes)
        return (*made.step(problem, x, state, key), plain), None

    x = problem.init(key())
    start = (x, made.init(problem, x, key()), x)
    x, state, plain = jax.jit(lambda c, k: jax.lax.scan(step, c, k)[0])(start, jr.split(key(), 50))
    error = {name: 0.0 for name in x} if state.error is None else {k: e.mean(0) for k, e in state.error.items()}
    return Evidence(max(float(jnp.abs(x[k] - rate * error[k] - plain[k]).max()) for k in x), at_most=1e-6)


@claim(
    "|gradient| at most 1e-8 after 750 full-gradient steps, top 10 % sent by 20 clients holding digits sorted by label",
    source="ours", deterministic=True,
    broken={
        "classical error compensation": {"method": error_compensation},
        "feedback not controlled (1 instead of 0.1)": {"method": functools.partial(EControl, feedback=1.0)},
    },
)  # fmt: skip
def converges_linearly_on_heterogeneous_clients(method=EControl):
    return Evidence(_full_gradient_run(method), at_most=1e-8)


@claim(
    "classical error compensation stalls where EControl does not: after 750 steps of equal size |gradient| >= 1e-4",
    source="ours", deterministic=True, broken={"controlled": {"method": EControl}},
)  # fmt: skip
def error_compensation_stalls(method=error_compensation):
    return Evidence(_full_gradient_run(method), at_least=1e-4)


@cached
def _full_gradient_run(method):
    with jax.enable_x64(True):
        trace = run(federated_digits(), method(0.3), steps=750, every=50)
        return float(trace.last("gradient_norm").item())


def _nothing_remembered(learning_rate):
    """Compressed SGD as one would write it at first."""
    return EControl(learning_rate, None, TENTH, shifted=False)


@claim(
    "under gradient noise, 10 times the clients leave at most 0.4 times the squared gradient norm",
    source="ours", broken={"nothing is remembered": {"method": _nothing_remembered}},
)  # fmt: skip
def more_clients_average_the_noise(method=EControl, *, scale):
    return Evidence(paired_ratio(_noise_floor(method, 20, scale), _noise_floor(method, 2, scale)), at_most=0.4)


@claim(
    "under gradient noise, EControl leaves at most 0.9 times EF21-SGD's squared gradient norm: equal steps, 20 clients",
    source="ours", broken={"nothing is remembered": {"method": _nothing_remembered}},
)  # fmt: skip
def less_noise_than_when_the_error_is_forgotten(method=EControl, *, scale):
    return Evidence(paired_ratio(_noise_floor(method, 20, scale), _noise_floor(ef21, 20, scale)), at_most=0.9)


@cached
def _noise_floor(method, n_clients, scale):
    """Per seed, the mean squared norm of the full gradient in the second half of a run on one sample per client.

    Every problem has the same two halves of the digits, sorted by label, as clients; n_clients > 2 only means that
    several clients hold the same half. So objective, heterogeneity and noise per client are those of 2 clients.
    """
    halves = federated_digits(n_clients=2)
    clients = jax.tree.map(lambda leaf: jnp.repeat(leaf, n_clients // 2, axis=0), halves.full)
    problem = Federated(halves.client_loss, halves.init, clients, batch_size=1)
    how = sizes(scale, steps=(1_000, 10_000), every=20, probes=probes(halves, "gradient_norm"))
    norms = run(problem, method(0.1), seeds=seeds(**sizes(scale, n=(8, 32))), **how)["gradient_norm"].values[0]
    return np.mean(norms[:, norms.shape[1] // 2 :] ** 2, axis=1)
