"""A network on a graph against loops over its edges; numbering the nodes otherwise changes nothing; errors."""

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from attractor.nn import EdgeGraphNetwork

NETWORK = EdgeGraphNetwork(2, 3, 4, 2, key=jr.key(0))
NODES, EDGES = (np.random.default_rng(i).standard_normal(shape) for i, shape in enumerate([(5, 2), (7, 3)]))
SENDERS, RECEIVERS = np.array([0, 1, 1, 2, 3, 0, 4]), np.array([1, 0, 2, 1, 0, 3, 1])
apply = eqx.filter_jit(NETWORK)


def mlp(network, activation, x):
    (first, b), (second, c) = ((np.asarray(layer.weight, float), np.asarray(layer.bias)) for layer in network.layers)
    return second @ activation(first @ x + b) + c


def relu(x):
    return np.maximum(x, 0)


def test_it_follows_loops_over_the_edges():
    v = [mlp(NETWORK.encode_nodes, np.tanh, x) for x in NODES]
    e = [mlp(NETWORK.encode_edges, np.tanh, x) for x in EDGES]
    for edge_network, node_network in zip(NETWORK.edge_rounds, NETWORK.node_rounds, strict=True):
        e = [mlp(edge_network, relu, np.r_[e[i], v[s], v[t]])
             for i, (s, t) in enumerate(zip(SENDERS, RECEIVERS, strict=True))]  # fmt: skip
        sums = [sum((e[i] for i in range(7) if RECEIVERS[i] == t), np.zeros(4)) for t in range(5)]
        v = [mlp(node_network, relu, np.r_[v[t], sums[t]]) for t in range(5)]
    expected = [mlp(NETWORK.decode, np.tanh, x)[0] for x in e]
    found = apply(*map(jnp.asarray, (NODES, EDGES, SENDERS, RECEIVERS)))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)
    order = np.array([3, 0, 4, 2, 1])  # the new numbers of the nodes
    renumbered = apply(*map(jnp.asarray, (NODES[np.argsort(order)], EDGES, order[SENDERS], order[RECEIVERS])))
    np.testing.assert_allclose(renumbered, found, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("bad", ["node_features", "edge_features", "width", "rounds"])
def test_errors_name_the_argument(bad):
    with pytest.raises(ValueError, match=bad):
        EdgeGraphNetwork(**{bad: 0}, key=jr.key(0))
