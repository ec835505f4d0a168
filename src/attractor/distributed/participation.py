"""Federated methods with a few clients a round: what the server remembers stands for the others."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Bool, Int, PRNGKeyArray, PyTree

from attractor.checks import Scalar
from attractor.distributed.local import center, gradients_at, shift, spread
from attractor.method import Method, hyper
from attractor.problem import Federated
from attractor.registry import LogUniform, method


class Remembered(NamedTuple):
    """A direction per client, a pytree like x with the clients as first axis, and the rounds that were."""

    directions: PyTree
    rounds: Int[Array, ""]


def drawn(key: PRNGKeyArray, problem: Federated, participants: int | None) -> Int[Array, " m"]:
    """The clients of a round, without repetition; all for `None`.

    Raises:
        ValueError: for more participants than there are clients.
    """
    m = problem.n_clients if participants is None else participants
    if m > problem.n_clients:
        raise ValueError(f"participants: expected at most {problem.n_clients}, the number of clients, got {m}")
    return jr.permutation(key, problem.n_clients)[:m]


def of(clients: Int[Array, " m"], tree: PyTree) -> PyTree:
    """The rows of some clients."""
    return jax.tree.map(lambda leaf: leaf[clients], tree)


def put(clients: Int[Array, " m"], tree: PyTree, rows: PyTree) -> PyTree:
    """The tree with the rows of some clients replaced."""
    return jax.tree.map(lambda leaf, new: leaf.at[clients].set(new.astype(leaf.dtype)), tree, rows)


@method("fedamd", {"learning_rate": LogUniform(1e-3, 1.0)}, paper="fedamd", example={"participants": 2})
class AnchorSampling(Method):
    r"""Of a round's clients some take a full gradient, the anchors, and the others mine along the mean of those known.

    The server keeps a gradient $v_i$ of each client, at first that at the start. Of the m clients of a round each is an
    anchor with probability p; anchors renew $v_i \leftarrow \nabla f_i(x)$ on all of their data. The others, miners, go
    from $y = x$ and $d = \frac1n \sum_i v_i$, of before the round, K steps on minibatches B of their own:

    $$
    d \leftarrow d + \nabla f_i(y; B) - \nabla f_i(y^{\text{old}}; B), \qquad y \leftarrow y - \eta d,
    $$

    $y^{\text{old}} = y$ at first. Then $x \leftarrow x + \eta_g\, \mathrm{mean}(y - x)$ over miners; x stays without
    any. The paper's other way is a period: every τ-th round is for anchors alone, first the first, the rest for miners.

    Arguments:
        learning_rate: Local step size η > 0.
        participants: m, at least 1 and at most n; `None`: all.
        anchors: p in [0, 1].
        period: τ, at least 1, in place of p; `None`: p.
        server_rate: η_g > 0.
        local_steps: K, at least 1.

    Raises:
        ValueError: for an argument out of its range; in the first step, for more participants than clients.

    Paper: Anchor Sampling for Federated Learning with Partial Client Participation (Wu, Guo, Qu, He, Liu and Gao, 2023)
    """

    learning_rate: Scalar = hyper(low=0.0, open_low=True)
    participants: int | None = hyper(None, low=1, static=True, optional=True)
    anchors: Scalar = hyper(0.5, low=0.0, high=1.0)
    period: Scalar | None = hyper(None, low=1, optional=True)
    server_rate: Scalar = hyper(1.0, low=0.0, open_low=True)
    local_steps: int = hyper(5, low=1, static=True)

    def init(self, problem: Federated, x: PyTree, key: PRNGKeyArray) -> Remembered:
        return Remembered(problem.client_gradients(x, problem.full), jnp.asarray(0))

    def step(self, problem: Federated, x: PyTree, state: Remembered, key: PRNGKeyArray) -> tuple[PyTree, Remembered]:
        of_clients, of_anchors, of_steps = jr.split(key, 3)
        clients = drawn(of_clients, problem, self.participants)
        start, guide = (spread(tree, len(clients)) for tree in (x, center(state.directions)))

        def local(carry: tuple[PyTree, PyTree, PyTree], key: PRNGKeyArray) -> tuple[tuple[PyTree, ...], None]:
            models, old, direction = carry
            batches = of(clients, problem.sample(key))
            direction = shift(direction, 1.0, gradients_at(problem, models, batches))
            direction = shift(direction, -1.0, gradients_at(problem, old, batches))
            return (shift(models, -self.learning_rate, direction), models, direction), None

        models = jax.lax.scan(local, (start, start, guide), jr.split(of_steps, self.local_steps))[0][0]
        anchor = self._anchors(of_anchors, state, clients.shape)
        share = self.server_rate * (1 - anchor) / jnp.maximum(jnp.sum(1 - anchor), 1)
        moved = jax.tree.map(
            lambda p, y: (p + jnp.tensordot(share.astype(p.dtype), y - p, 1)).astype(p.dtype), x, models
        )
        renewed = jax.tree.map(
            lambda new, kept: jnp.where(jnp.expand_dims(anchor, range(1, kept.ndim)), new, kept),
            gradients_at(problem, start, of(clients, problem.full)), of(clients, state.directions),
        )  # fmt: skip
        return moved, Remembered(put(clients, state.directions, renewed), state.rounds + 1)

    def is_anchor(self, key: PRNGKeyArray, problem: Federated, state: Remembered) -> Bool[Array, " m"]:
        """Which of the clients that `step` draws with this key are anchors."""
        m = problem.n_clients if self.participants is None else self.participants
        return self._anchors(jr.split(key, 3)[1], state, (m,))

    def _anchors(self, key: PRNGKeyArray, state: Remembered, shape: tuple[int, ...]) -> Bool[Array, " m"]:
        if self.period is None:
            return jr.bernoulli(key, self.anchors, shape)
        return jnp.broadcast_to(state.rounds % self.period == 0, shape)


@method("scaffold", {"learning_rate": LogUniform(1e-3, 1.0)}, example={"participants": 2})
class Scaffold(Method):
    r"""Local steps along gradients corrected by what clients differ in, as remembered from their last rounds.

    With $c = \frac1n \sum_i c_i$, at first 0, the m clients of a round go from $y = x$ K steps
    $y \leftarrow y - \eta (\nabla f_i(y; B) - c_i + c)$ on minibatches of their own. Then
    $c_i \leftarrow c_i - c + (x - y) / (K \eta)$ and $x \leftarrow x + \eta_g\, \mathrm{mean}(y - x)$ over them.

    Arguments:
        learning_rate: Local step size η > 0.
        participants: m, at least 1 and at most n; `None`: all.
        server_rate: η_g > 0.
        local_steps: K, at least 1.
        corrected: Whether there are c; without them this is federated averaging of those who take part.

    Raises:
        ValueError: for an argument out of its range; in the first step, for more participants than clients.

    Paper: SCAFFOLD: Stochastic Controlled Averaging for Federated Learning (Karimireddy, Kale, Mohri, Reddi, Stich and
    Suresh, 2020)
    """

    learning_rate: Scalar = hyper(low=0.0, open_low=True)
    participants: int | None = hyper(None, low=1, static=True, optional=True)
    server_rate: Scalar = hyper(1.0, low=0.0, open_low=True)
    local_steps: int = hyper(5, low=1, static=True)
    corrected: bool = True

    def init(self, problem: Federated, x: PyTree, key: PRNGKeyArray) -> Remembered:
        return Remembered(jax.tree.map(jnp.zeros_like, spread(x, problem.n_clients)), jnp.asarray(0))

    def step(self, problem: Federated, x: PyTree, state: Remembered, key: PRNGKeyArray) -> tuple[PyTree, Remembered]:
        of_clients, of_steps = jr.split(key)
        clients = drawn(of_clients, problem, self.participants)
        start, own = spread(x, len(clients)), of(clients, state.directions)
        correction = jax.tree.map(lambda c, c_i: c - c_i, center(state.directions), own)

        def local(models: PyTree, key: PRNGKeyArray) -> tuple[PyTree, None]:
            slopes = gradients_at(problem, models, of(clients, problem.sample(key)))
            return shift(models, -self.learning_rate, shift(slopes, 1.0, correction)), None

        models, _ = jax.lax.scan(local, start, jr.split(of_steps, self.local_steps))
        x = shift(x, self.server_rate, center(shift(models, -1.0, start)))
        if not self.corrected:
            return x, state
        pace = 1 / (self.local_steps * self.learning_rate)
        renewed = shift(jax.tree.map(jnp.negative, correction), pace, shift(start, -1.0, models))
        return x, Remembered(put(clients, state.directions, renewed), state.rounds + 1)
