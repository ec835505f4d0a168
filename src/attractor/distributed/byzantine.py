"""Training together without a server, while some of the clients lie: momentum at home, robust averaging of models."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import jax.random as jr
from jax.flatten_util import ravel_pytree
from jaxtyping import PRNGKeyArray, PyTree

from attractor.checks import Scalar
from attractor.distributed.aggregation import Aggregator, mean, nearest_neighbors
from attractor.distributed.attacks import Attack, Round
from attractor.distributed.local import center, gradients_at, shift, spread, vectors
from attractor.method import Method, hyper
from attractor.problem import Federated
from attractor.registry import LogUniform, method


class Peers(NamedTuple):
    """What each client has; pytrees like x with the clients as first axis, the faulty ones last."""

    models: PyTree
    momentum: PyTree
    sent: PyTree  # models of the last round, before they were averaged


class RobustGossip(Method):
    r"""Decentralized SGD with local momentum, in which everybody sends to everybody and aggregates what arrives.

    $$
    m_i \leftarrow \beta m_i + (1 - \beta)\, g_i(x_i), \qquad y_i = x_i - \gamma m_i, \qquad
    x_i \leftarrow R(y_1 \dots y_n;\ y_i)
    $$

    The rule R sees one's own model last. An attack replaces what the last clients send; the iterate is the mean model
    of the others. We start from m = 0, all at one point.

    Arguments:
        learning_rate: Step size γ > 0.
        momentum: β in [0, 1): the weight of the past. Noise that liars may hide in shrinks with 1 - β.
        rule: ``(received, own) -> vector`` of `attractor.distributed.aggregation`.
        faulty: How many of the clients are, at least 0 and fewer than all: the last ones.
        attack: What they send, of `attractor.distributed.attacks`; `None`: they keep to the protocol.

    Raises:
        ValueError: for an argument out of its range; when it starts, if the clients are too few for ``faulty`` or the
            rule.
    """

    learning_rate: Scalar = hyper(low=0.0, open_low=True)
    momentum: Scalar = hyper(0.99, low=0.0, high=1.0, open_high=True)
    rule: Aggregator = hyper(mean)
    faulty: int = hyper(0, low=0, static=True)
    attack: Attack | None = hyper(None)

    def init(self, problem: Federated, x: PyTree, key: PRNGKeyArray) -> Peers:
        n = problem.n_clients
        if self.faulty >= n:
            raise ValueError(f"faulty: expected 0 … {n - 1} of {n} clients, got {self.faulty}")
        vector, _ = ravel_pytree(x)
        jax.eval_shape(self.rule, jax.ShapeDtypeStruct((n, vector.size), vector.dtype), vector)
        return Peers(spread(x, n), jax.tree.map(jnp.zeros_like, spread(x, n)), spread(x, n))

    def step(self, problem: Federated, x: PyTree, state: Peers, key: PRNGKeyArray) -> tuple[PyTree, Peers]:
        models, momentum, before = state
        slopes = gradients_at(problem, models, problem.sample(key))
        momentum = jax.tree.map(
            lambda m, g: (self.momentum * m + (1 - self.momentum) * g).astype(m.dtype), momentum, slopes
        )
        sent = shift(models, -self.learning_rate, momentum)
        received = vectors(sent)
        if self.attack is not None and self.faulty:
            round = Round(received, vectors(models), vectors(before))
            received = received.at[-self.faulty :].set(self.attack(round, self.faulty, jr.fold_in(key, 1)))
        restore = ravel_pytree(x)[1]
        models = jax.vmap(restore)(jax.vmap(self.rule, (None, 0))(received, vectors(sent)).astype(received.dtype))
        honest = jax.tree.map(lambda leaf: leaf[: problem.n_clients - self.faulty], models)
        return center(honest), Peers(models, momentum, sent)


@method(
    "monna",
    {"learning_rate": LogUniform(1e-2, 10.0)},
    paper="monna",
    example={"momentum": 0.9},
    bad={"learning_rate": -1.0, "momentum": 1.0, "faulty": -1},
)
def monna(
    learning_rate: Scalar, momentum: Scalar = 0.99, faulty: int = 1, attack: Attack | None = None
) -> RobustGossip:
    r"""Byzantine-robust learning without a server: local momentum, then `nearest_neighbors` of one's own model.

    $$
    m_i \leftarrow \beta m_i + (1 - \beta)\, g_i(x_i), \qquad y_i = x_i - \gamma m_i, \qquad
    x_i \leftarrow \text{mean of the } n - f \text{ models } y_j \text{ nearest to } y_i
    $$

    Arguments:
        learning_rate: Step size γ > 0.
        momentum: β in [0, 1).
        faulty: f, how many are faulty (the last ones) and how many the averaging bears: at least 0, fewer than half.
        attack: As in `RobustGossip`.

    Raises:
        ValueError: for an argument out of its range; when it starts, if the clients are too few.

    Paper: Robust Collaborative Learning with Linear Gradient Overhead (Farhadkhani, Guerraoui, Gupta, Hoang, Pinot and
    Stephan, 2023)
    """
    return RobustGossip(learning_rate, momentum, nearest_neighbors(faulty), faulty, attack)
