"""Decentralized training: clients descend at home, and average with their neighbors in a graph."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import PRNGKeyArray, PyTree

from attractor.checks import Scalar
from attractor.distributed.local import center, combine, keys_of_local_steps, sharp_gradients, shift, spread
from attractor.distributed.topologies import Mixing, check_mixing, mixing_for, ring_mixing
from attractor.method import Method, hyper
from attractor.problem import Federated
from attractor.registry import LogUniform, method


class Network(NamedTuple):
    """The clients' models, a pytree like x with the clients as first axis, and what one averages them with."""

    models: PyTree
    mixing: PyTree  # (n, n), all gossip steps of a round at once


@method(
    "dfedsam",
    {"learning_rate": LogUniform(1e-2, 1.0), "radius": LogUniform(1e-3, 0.3)},
    paper="dfedsam",
    example={"local_steps": 2, "gossip_steps": 2},
)
class LocalGossip(Method):
    r"""Local steps, sharpness-aware if wanted, then gossip: DFedSAM, DFedSAM-MGS, DFedAvg and D-SGD.

    From its model x_i each client takes K steps, each on a minibatch of its own, and then Q rounds of averaging:

    $$
    y \leftarrow y - \gamma \nabla f_i\Big(y + \rho \frac{\nabla f_i(y)}{|\nabla f_i(y)|}\Big), \qquad
    x_i \leftarrow \sum_j (W^Q)_{ij}\, y_j
    $$

    ρ = 0 is DFedAvg, and K = 1 beside it decentralized SGD, by steps at home before the averaging. Disagreement shrinks
    by λ^Q in a round, where 1 - λ is W's `spectral_gap`. The iterate is the mean of the models.

    Arguments:
        learning_rate: Step size γ > 0.
        radius: ρ ≥ 0, how far uphill the gradient is taken, in the norm of all parameters.
        local_steps: K, at least 1.
        gossip_steps: Q, at least 1. Each sends every model to every neighbor.
        mixing: Doubly stochastic weights (n, n), or a function of n; a ring by default.

    Raises:
        ValueError: for an argument out of its range; when it starts, if the weights are not those of the clients.

    Paper: Improving the Model Consistency of Decentralized Federated Learning (Shi, Shen, Wei, Sun, Yuan, Wang and Tao,
    2023)
    """

    learning_rate: Scalar = hyper(low=0.0, open_low=True)
    radius: Scalar = hyper(0.0, low=0.0)
    local_steps: int = hyper(1, low=1, static=True)
    gossip_steps: int = hyper(1, low=1, static=True)
    mixing: Mixing | Callable[[int], Mixing] = hyper(ring_mixing)

    def __check_init__(self) -> None:
        if not callable(self.mixing):
            check_mixing(self.mixing)

    def init(self, problem: Federated, x: PyTree, key: PRNGKeyArray) -> Network:
        weights = mixing_for(self.mixing, problem.n_clients)
        rounds = jnp.linalg.matrix_power(jnp.asarray(weights, float), self.gossip_steps)
        return Network(spread(x, problem.n_clients), rounds)

    def step(self, problem: Federated, x: PyTree, state: Network, key: PRNGKeyArray) -> tuple[PyTree, Network]:
        def local(models: PyTree, key: PRNGKeyArray) -> tuple[PyTree, None]:
            slopes = sharp_gradients(problem, models, problem.sample(key), self.radius)
            return shift(models, -self.learning_rate, slopes), None

        models, _ = jax.lax.scan(local, state.models, keys_of_local_steps(key, self.local_steps))
        models = combine(state.mixing, models)
        return center(models), Network(models, state.mixing)
