"""Federated averaging that does not wait: clients take their own time, and the server averages what has arrived."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from attractor.checks import Scalar, in_range
from attractor.distributed.local import gradients_at, keys_of_local_steps, shift, spread
from attractor.method import Method, hyper
from attractor.problem import Federated
from attractor.registry import LogUniform, method

Times = Float[Array, " n"]


class Underway(NamedTuple):
    """The model that each client works on, the clients as first axis, and how long it still needs."""

    models: PyTree
    left: Times


def staggered(n: int) -> Times:
    """Client i of n needs time i: 1, 2 … n."""
    return jnp.arange(1.0, n + 1.0)


def cycles(times: Times, interval: Scalar) -> Times:
    """Every how many aggregations a client delivers: its time over the interval, rounded up.

    Arguments:
        times: What a client needs for its local steps, (n,).
        interval: Time between two aggregations.
    """
    return jnp.ceil(times / interval - 1e-4)  # what rounding has added is no time


@method(
    "fedfix",
    {"learning_rate": LogUniform(1e-3, 1.0)},
    paper="fedfix",
    example={"interval": 2.0, "local_steps": 2},
)
class FedFix(Method):
    r"""Averaging at fixed intervals of what has arrived since: FedAvg in sync, asynchronous FedAvg, and in between.

    A client takes K local steps $\Delta_i = y - x_i$ from the model x_i that it was sent, which takes it the time τ_i.
    A step is one aggregation: with the arrivals A since the last one,

    $$ x \leftarrow x + \eta_g \sum_{i \in A} w_i \Delta_i, \qquad x_i \leftarrow x \text{ for } i \in A. $$

    The limit is near the minimum of $\sum_i q_i f_i$ with q_i proportional to the mean weight, that is w_i over the
    number of aggregations between two deliveries, `cycles`. By default $w_i = \lceil \tau_i / \Delta t \rceil / n$, for
    which all q_i are equal. An interval of max τ is FedAvg in sync, one that is small is asynchronous.

    Arguments:
        learning_rate: Local step size η > 0.
        interval: Δt > 0, in the unit of the times.
        server_rate: η_g > 0.
        local_steps: K, at least 1.
        times: τ, (n,), each > 0, or a function of n; 1, 2 … n by default.
        weights: w, (n,); `None`: those above.

    Raises:
        ValueError: for an argument out of its range; when it starts, for times or weights that are not one a client.

    Paper: A General Theory for Federated Optimization with Asynchronous and Heterogeneous Clients Updates (Fraboni,
    Vidal, Kameni and Lorenzi, 2023)
    """

    learning_rate: Scalar = hyper(low=0.0, open_low=True)
    interval: Scalar = hyper(1.0, low=0.0, open_low=True)
    server_rate: Scalar = hyper(1.0, low=0.0, open_low=True)
    local_steps: int = hyper(1, low=1, static=True)
    times: Times | Callable[[int], Times] = hyper(staggered)
    weights: Float[Array, " n"] | None = hyper(None)

    def __check_init__(self) -> None:
        in_range("times", self.times, 0.0, open_low=True)

    def init(self, problem: Federated, x: PyTree, key: PRNGKeyArray) -> Underway:
        n, times = problem.n_clients, self._times(problem)
        for name, given in (("times", times), ("weights", self.weights)):
            if given is not None and given.shape != (n,):
                raise ValueError(f"{name}: expected one number for each of {n} clients, got shape {given.shape}")
        return Underway(spread(x, n), jnp.array(times, float))

    def step(self, problem: Federated, x: PyTree, state: Underway, key: PRNGKeyArray) -> tuple[PyTree, Underway]:
        def local(models: PyTree, key: PRNGKeyArray) -> tuple[PyTree, None]:
            return shift(models, -self.learning_rate, gradients_at(problem, models, problem.sample(key))), None

        times = self._times(problem)
        left = state.left - self.interval
        arrived = left <= 1e-4 * self.interval
        weights = cycles(times, self.interval) / problem.n_clients if self.weights is None else self.weights
        weights = self.server_rate * jnp.where(arrived, weights, 0)
        models, _ = jax.lax.scan(local, state.models, keys_of_local_steps(key, self.local_steps))
        x = jax.tree.map(
            lambda p, y, held: p + jnp.tensordot(weights.astype(p.dtype), y - held, 1), x, models, state.models
        )

        def restarted(held: Array, p: Array) -> Array:
            return jnp.where(jnp.expand_dims(arrived, range(1, held.ndim)), p, held)

        return x, Underway(jax.tree.map(restarted, state.models, x), jnp.where(arrived, times, left))

    def _times(self, problem: Federated) -> Times:
        return self.times(problem.n_clients) if callable(self.times) else self.times
