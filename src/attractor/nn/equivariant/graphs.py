"""Networks on graphs, which do not know how the nodes are numbered: messages along edges, added up at nodes."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, Int, PRNGKeyArray

from attractor.checks import in_range
from attractor.registry import part


class EdgeGraphNetwork(eqx.Module):
    r"""A number for each directed edge, by rounds of messages.

    Encoded nodes v and edges e, then by round $e_{st} \leftarrow f_k(e_{st}, v_s, v_t)$ and
    $v_t \leftarrow g_k(v_t, \sum_s e_{st})$, each round with networks of its own; the result is $h(e_{st})$. All
    networks have one hidden layer, of tanh in the encoders and the decoder and of ReLU in the rounds.

    Arguments:
        node_features: Given per node, at least 1.
        edge_features: Given per edge, at least 1.
        width: Of everything inside, at least 1.
        rounds: Of messages, at least 1; an edge's number depends on nodes that many edges away.
        key: Of the weights.

    Raises:
        ValueError: for an argument out of range.

    Paper: Learning Preconditioner for Conjugate Gradient PDE Solvers (Li et al., 2023), after the authors' program,
    whose layers are wider and more.
    """

    encode_nodes: eqx.nn.MLP
    encode_edges: eqx.nn.MLP
    edge_rounds: list[eqx.nn.MLP]
    node_rounds: list[eqx.nn.MLP]
    decode: eqx.nn.MLP

    def __init__(
        self, node_features: int = 1, edge_features: int = 1, width: int = 16, rounds: int = 3, *, key: PRNGKeyArray
    ):
        for name, value in (("node_features", node_features), ("edge_features", edge_features), ("width", width)):
            in_range(name, value, 1)
        in_range("rounds", rounds, 1)
        keys = iter(jr.split(key, 3 + 2 * rounds))

        def network(given: int, made: int, activation=jax.nn.relu) -> eqx.nn.MLP:
            return eqx.nn.MLP(given, made, width, 1, activation, key=next(keys))

        self.encode_nodes = network(node_features, width, jnp.tanh)
        self.encode_edges = network(edge_features, width, jnp.tanh)
        self.edge_rounds = [network(3 * width, width) for _ in range(rounds)]
        self.node_rounds = [network(2 * width, width) for _ in range(rounds)]
        self.decode = network(width, 1, jnp.tanh)

    def __call__(
        self,
        nodes: Float[Array, "n node_features"],
        edges: Float[Array, "e edge_features"],
        senders: Int[Array, " e"],
        receivers: Int[Array, " e"],
    ) -> Float[Array, " e"]:
        v, e = jax.vmap(self.encode_nodes)(nodes), jax.vmap(self.encode_edges)(edges)
        for edge_network, node_network in zip(self.edge_rounds, self.node_rounds, strict=True):
            e = jax.vmap(edge_network)(jnp.concatenate([e, v[senders], v[receivers]], 1))
            sums = jax.ops.segment_sum(e, receivers, len(nodes))
            v = jax.vmap(node_network)(jnp.concatenate([v, sums], 1))
        return jax.vmap(self.decode)(e)[:, 0]


def _example() -> tuple[eqx.Partial, tuple[Array, Array]]:
    """On a fixed graph of four nodes."""
    graph = {"senders": jnp.array([0, 1, 1, 2, 3, 0]), "receivers": jnp.array([1, 0, 2, 1, 0, 3])}
    network = EdgeGraphNetwork(2, 3, 4, 2, key=jr.key(0))
    return eqx.Partial(network, **graph), (jr.normal(jr.key(1), (4, 2)), jr.normal(jr.key(2), (6, 3)))


part("layer", "edge-graph-network", example=_example)(EdgeGraphNetwork)
