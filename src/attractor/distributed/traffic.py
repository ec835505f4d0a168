"""Bits on the wire: what the clients of a distributed method send, and are sent, in a run."""

from functools import singledispatch
from typing import NamedTuple

import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from attractor.distributed.adversarial import AdversarialAveraging
from attractor.distributed.asynchronous import FedFix
from attractor.distributed.byzantine import RobustGossip
from attractor.distributed.error_feedback import EControl, Memory, WeightedEF21
from attractor.distributed.federated_averaging import FedSpeed
from attractor.distributed.gossip import Agents, ConsensusDescent, LocalGossip, Network
from attractor.distributed.langevin import Chain, FederatedLangevin
from attractor.distributed.local import bits
from attractor.distributed.participation import AnchorSampling, Scaffold
from attractor.distributed.riemannian import RiemannianGossip
from attractor.distributed.topologies import mixing_for
from attractor.method import Method
from attractor.problem import Federated

Bits = Float[Array, ""] | int


class Tally(NamedTuple):
    """A method's own state, and the bits that all clients together have sent and were sent by a server so far."""

    own: PyTree
    sent: Float[Array, ""]
    fetched: Float[Array, ""]


class Counted(Method):
    """A distributed method that counts its traffic, for the probes `traffic` and `broadcasts`.

    The iterates are those of the method. A vector is sent with all of its numbers, or with those that are not 0 and
    their places, whatever is less (`bits`). What liars send is as long as what they should; nothing is lost or late.
    A probe of the method's own state finds it in ``state.own``.

    Arguments:
        method: One whose rounds `round_bits` knows: those of `attractor.distributed`, and what is registered there.

    Raises:
        TypeError: for another one.

    !!! example
        ```python
        run(problem, Counted(ef21(0.1)), steps=100, probes={"bits": traffic})
        ```
    """

    method: Method

    def __check_init__(self) -> None:
        if round_bits.dispatch(type(self.method)) is round_bits.dispatch(object):
            raise TypeError(_unknown(self.method))

    def init(self, problem: Federated, x: PyTree, key: PRNGKeyArray) -> Tally:
        own = self.method.init(problem, x, key)
        return Tally(own, *(jnp.asarray(told, float) for told in start_bits(self.method, problem, x, own)))

    def step(self, problem: Federated, x: PyTree, state: Tally, key: PRNGKeyArray) -> tuple[PyTree, Tally]:
        sent, fetched = round_bits(self.method, problem, x, state.own, key)
        x, own = self.method.step(problem, x, state.own, key)
        return x, Tally(own, state.sent + sent, state.fetched + fetched)

    def readout(self, x: PyTree, state: Tally) -> PyTree:
        return self.method.readout(x, state.own)


def traffic(problem: Federated, x: PyTree, key: PRNGKeyArray, state: Tally) -> Float[Array, ""]:
    """A probe: bits that the clients of a `Counted` method have sent so far, to a server or to each other."""
    return state.sent


def broadcasts(problem: Federated, x: PyTree, key: PRNGKeyArray, state: Tally) -> Float[Array, ""]:
    """A probe: bits that a server has sent to the clients of a `Counted` method so far; 0 where there is none."""
    return state.fetched


@singledispatch
def start_bits(method: Method, problem: Federated, x: PyTree, state: PyTree) -> tuple[Bits, Bits]:
    """What all clients together send before the first round, and what a server sends to them, in bits: nothing."""
    return 0, 0


@start_bits.register
def _(method: FederatedLangevin, problem: Federated, x: PyTree, state: Chain) -> tuple[Bits, Bits]:
    return _full(state.surrogates), _full(state.surrogates) * problem.n_clients  # of each client, to all


@start_bits.register
def _(method: AnchorSampling, problem: Federated, x: PyTree, state: PyTree) -> tuple[Bits, Bits]:
    return problem.n_clients * _full(x), problem.n_clients * _full(x)  # gradients at the start


@singledispatch
def round_bits(method: Method, problem: Federated, x: PyTree, state: PyTree, key: PRNGKeyArray) -> tuple[Bits, Bits]:
    """What all clients together send in the round that starts at x, and what a server sends to them, in bits.

    Another class of methods is made known by ``@round_bits.register``.

    Arguments:
        method: As `Method.step` is called: with the same arguments.
        problem: See there.
        x: See there.
        state: See there.
        key: See there.

    Raises:
        TypeError: for a method that is not known.
    """
    raise TypeError(_unknown(method))


@round_bits.register(FedSpeed)
@round_bits.register(AdversarialAveraging)
def _(method: Method, problem: Federated, x: PyTree, state: PyTree, key: PRNGKeyArray) -> tuple[Bits, Bits]:
    return problem.n_clients * _full(x), problem.n_clients * _full(x)


@round_bits.register
def _(method: EControl, problem: Federated, x: PyTree, state: Memory, key: PRNGKeyArray) -> tuple[Bits, Bits]:
    # The messages are made once more, by the operations of a step: compiled together, they are computed once.
    wanted = problem.client_gradients(x, problem.sample(key))
    if state.shift is not None:
        wanted = jax.tree.map(jnp.subtract, wanted, state.shift)
    if state.error is not None:
        wanted = jax.tree.map(lambda e, v: method.feedback * e + v, state.error, wanted)
    messages = jax.vmap(method.compress)(wanted, jr.split(jr.fold_in(key, 1), problem.n_clients))
    return jax.vmap(bits)(messages).astype(float).sum(), problem.n_clients * _full(x)


@round_bits.register
def _(method: WeightedEF21, problem: Federated, x: PyTree, state: PyTree, key: PRNGKeyArray) -> tuple[Bits, Bits]:
    messages = method.messages(problem, x, state, key)  # as in a step: compiled together, they are computed once
    return jax.vmap(bits)(messages).astype(float).sum(), problem.n_clients * _full(x)


@round_bits.register
def _(method: FedFix, problem: Federated, x: PyTree, state: PyTree, key: PRNGKeyArray) -> tuple[Bits, Bits]:
    arrived = jnp.sum(state.left - method.interval <= 1e-4 * method.interval)
    return arrived * float(_full(x)), arrived * float(_full(x))


@round_bits.register
def _(method: LocalGossip, problem: Federated, x: PyTree, state: Network, key: PRNGKeyArray) -> tuple[Bits, Bits]:
    links = _links(jnp.asarray(mixing_for(method.mixing, problem.n_clients)))
    return method.gossip_steps * links * float(_full(x)), 0


@round_bits.register
def _(method: ConsensusDescent, problem: Federated, x: PyTree, state: Agents, key: PRNGKeyArray) -> tuple[Bits, Bits]:
    return _links(state.laplacian) * float(_full(x)), 0


@round_bits.register
def _(method: RobustGossip, problem: Federated, x: PyTree, state: PyTree, key: PRNGKeyArray) -> tuple[Bits, Bits]:
    return problem.n_clients * (problem.n_clients - 1) * _full(x), 0


@round_bits.register
def _(method: FederatedLangevin, problem: Federated, x: PyTree, state: Chain, key: PRNGKeyArray) -> tuple[Bits, Bits]:
    starts = state.taken % method.local_steps == 0  # of a visit, for which the chain comes from where it was
    return jnp.where(starts & (state.taken > 0), float(_full(x)), 0.0), jnp.where(starts, float(_full(x)), 0.0)


@round_bits.register
def _(method: RiemannianGossip, problem: Federated, x: PyTree, state: PyTree, key: PRNGKeyArray) -> tuple[Bits, Bits]:
    links = _links(jnp.asarray(mixing_for(method.mixing, problem.n_clients)))
    vectors = jnp.where(jnp.asarray(method.share) > 0, 2, 1)  # points, and directions where they are carried on
    return method.rounds * vectors * links * float(_full(x)), 0


@round_bits.register
def _(method: AnchorSampling, problem: Federated, x: PyTree, state: PyTree, key: PRNGKeyArray) -> tuple[Bits, Bits]:
    miners = jnp.sum(~method.is_anchor(key, problem, state))  # who are told the direction, too
    taking = problem.n_clients if method.participants is None else method.participants
    return taking * _full(x), (taking + miners) * float(_full(x))


@round_bits.register
def _(method: Scaffold, problem: Federated, x: PyTree, state: PyTree, key: PRNGKeyArray) -> tuple[Bits, Bits]:
    taking = problem.n_clients if method.participants is None else method.participants
    vectors = 2 if method.corrected else 1
    return vectors * taking * _full(x), vectors * taking * _full(x)


def _full(message: PyTree) -> int:
    """Bits of all numbers of a pytree."""
    return sum(8 * leaf.size * leaf.dtype.itemsize for leaf in map(jnp.asarray, jax.tree.leaves(message)))


def _links(weights: Float[Array, "n n"]) -> Array:
    """Directed links of a graph: entries off the diagonal that are not 0."""
    return jnp.count_nonzero(weights) - jnp.count_nonzero(jnp.diagonal(weights))


def _unknown(method: Method) -> str:
    return (
        f"method: nobody has said what {type(method).__name__} sends in a round; "
        f"register a function for it with attractor.distributed.traffic.round_bits.register"
    )
