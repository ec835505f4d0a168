"""Decentralized training: clients descend at home, and average with their neighbors in a graph."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Bool, Int, PRNGKeyArray, PyTree

from attractor.checks import Scalar
from attractor.distributed.local import (
    center,
    combine,
    gradients_at,
    keys_of_local_steps,
    sharp_gradients,
    shift,
    spread,
)
from attractor.distributed.topologies import (
    Adjacency,
    Mixing,
    check_mixing,
    mixing_for,
    mixing_matrix,
    ring,
    ring_mixing,
)
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


class Agents(NamedTuple):
    """The agents' points, a pytree like x with the agents as first axis; the graph's Laplacian; the steps taken."""

    models: PyTree
    laplacian: PyTree  # (n, n)
    taken: Int[Array, ""]


@method(
    "consensus-descent",
    {"learning_rate": LogUniform(1e-2, 1.0)},
    paper="d-sgd-saddle-avoidance",
    example={"coupling": 0.2},
)
class ConsensusDescent(Method):
    r"""Decentralized SGD with decaying weights: a pull towards the neighbors that outlasts the gradient steps.

    With $\alpha_t = a\, (t + 1)^{-\tau_\alpha}$, $\beta_t = b\, (t + 1)^{-\tau_\beta}$ and standard normal $\zeta$

    $$
    x_i \leftarrow x_i - \beta_t \sum_{l \sim i} (x_i - x_l) - \alpha_t \big(\nabla f_i(x_i) + \sigma \zeta_i\big)
    $$

    all at once. Agents agree in the limit if τ_β < τ_α, and follow the gradient flow of the mean loss; noise keeps them
    off saddles. The iterate is the mean of the points.

    Arguments:
        learning_rate: a > 0.
        coupling: b > 0; stable for b below 2 over the largest eigenvalue of the graph's Laplacian.
        decay: τ_α in [0, 1], above 1/2 for the noise to average out.
        coupling_decay: τ_β in [0, 1].
        noise: σ ≥ 0.
        graph: Adjacency (n, n), or a function of n; a `ring` by default.

    Raises:
        ValueError: for an argument out of its range or a graph that is not connected; at the start, if it is not of n.

    Paper: Distributed Stochastic Gradient Descent: Nonconvexity, Nonsmoothness, and Convergence to Local Minima
    (Swenson, Murray, Poor and Kar, 2022)
    """

    learning_rate: Scalar = hyper(low=0.0, open_low=True)
    coupling: Scalar = hyper(0.3, low=0.0, open_low=True)
    decay: Scalar = hyper(0.9, low=0.0, high=1.0)
    coupling_decay: Scalar = hyper(0.3, low=0.0, high=1.0)
    noise: Scalar = hyper(0.0, low=0.0)
    graph: Adjacency | Bool[Array, "n n"] | Callable[[int], Adjacency] = hyper(ring)

    def __check_init__(self) -> None:
        if not callable(self.graph) and not isinstance(self.graph, Tracer):
            mixing_matrix(np.asarray(self.graph))  # which refuses graphs that are not connected

    def init(self, problem: Federated, x: PyTree, key: PRNGKeyArray) -> Agents:
        n = problem.n_clients
        links = jnp.asarray(self.graph(n) if callable(self.graph) else self.graph, float)
        if links.shape != (n, n):
            raise ValueError(f"graph: expected ({n}, {n}) links for {n} clients, got shape {links.shape}")
        return Agents(spread(x, n), jnp.diag(links.sum(1)) - links, jnp.asarray(0))

    def step(self, problem: Federated, x: PyTree, state: Agents, key: PRNGKeyArray) -> tuple[PyTree, Agents]:
        models, laplacian, taken = state
        slopes = gradients_at(problem, models, problem.sample(key))
        leaves, structure = jax.tree.flatten(slopes)
        keys = jr.split(jr.fold_in(key, 1), len(leaves))
        noise = jax.tree.unflatten(
            structure, [jr.normal(k, g.shape, g.dtype) for k, g in zip(keys, leaves, strict=True)]
        )
        alpha = self.learning_rate * (taken + 1.0) ** -self.decay
        beta = self.coupling * (taken + 1.0) ** -self.coupling_decay
        moved = shift(models, -alpha, shift(slopes, self.noise, noise))
        models = shift(moved, -beta, combine(laplacian, models))
        return center(models), Agents(models, laplacian, taken + 1)
