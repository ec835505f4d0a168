"""No key is used twice by what draws and is no registered method (of those `test_contract.py` says so).

Programs are traced, not compiled.
"""

import jax
import jax.numpy as jnp
import jax.random as jr
import optax
import pytest
from keys import uses_no_key_twice

from attractor import Decision, Federated, Minimization
from attractor.generative import TimeMLP, rectified_flow
from attractor.linalg import hutchinson_diagonal, ritz_right_sides
from attractor.nn import NALU, EdgeGraphNetwork, ElmanCell, MultilevelConvNet, ResidualConvNet
from attractor.operators import FNO
from attractor.optim import functional_teaching, goldstein_norm, random_scaling
from attractor.optim.convex_networks import sample_relu_arrangements
from attractor.optim.stochastic_approximation import linear_stochastic_approximation
from attractor.physics import Collocation, sparse_tangents

X = jnp.arange(12.0).reshape(4, 3)


def noisy(key):
    for_matrix, for_vector = jr.split(key)
    return jnp.eye(3) + jr.normal(for_matrix, (3, 3)), jr.normal(for_vector, (3,))


def collocation():
    return Collocation(
        lambda u, x, v: jnp.sum(x * v),
        lambda key: jnp.zeros(3),
        X,
        lambda key: sparse_tangents(key, 3, 2),
        batch_size=2,
    )


def flow():
    return rectified_flow(lambda key: TimeMLP(3, 3, 4, 1, key=key), (X, X), batch_size=2)


def returns(problem, key):
    return problem.probes["return"](problem, problem.init(jr.key(0)), key)


def scaled(key):
    def update(updates, state, params=None, *, key, **_):
        return updates + jr.normal(key, updates.shape), state

    noisy_base = optax.GradientTransformationExtraArgs(lambda params: optax.EmptyState(), update)
    return random_scaling(noisy_base).update(X[0], None, X[0], key=key)


DRAWS = {
    "Collocation.sample": lambda key: collocation().sample(key),
    "Decision.rollout": lambda key: returns(Decision.example(), key),
    "EdgeGraphNetwork": lambda key: EdgeGraphNetwork(2, 3, 4, 2, key=key),
    "ElmanCell": lambda key: ElmanCell(2, 3, key=key),
    "FNO": lambda key: FNO(2, 3, (2, 2), width=4, depth=3, hidden=5, key=key),
    "Federated.sample": lambda key: Federated.example().sample(key),
    "Minimization.sample": lambda key: Minimization.example().sample(key),
    "MultilevelConvNet": lambda key: MultilevelConvNet(3, 2, key=key),
    "NALU": lambda key: NALU(3, 2, key=key),
    "ResidualConvNet": lambda key: ResidualConvNet(3, 3, key=key),
    "goldstein_norm": lambda key: goldstein_norm(jnp.sum, X[0], 0.1, key, 4),
    "hutchinson_diagonal": lambda key: hutchinson_diagonal(lambda v: 2 * v, X[0], key, probes=3),
    "functional_teaching": lambda key: functional_teaching(X[0], jnp.eye(3), 0.1, 5, key, teacher="random"),
    "linear_stochastic_approximation": lambda key: linear_stochastic_approximation(noisy, X[0], 0.1, 5, key),
    "random_scaling": scaled,
    "ritz_right_sides": lambda key: ritz_right_sides(lambda v: 2 * v, 3, 5, key, vectors=2),
    "rectified_flow.sample": lambda key: flow().sample(key),
}


@pytest.mark.parametrize("name", DRAWS)
def test_uses_no_key_twice(name):
    def arrays(key):
        return [leaf for leaf in jax.tree.leaves(DRAWS[name](key)) if isinstance(leaf, jax.Array)]

    uses_no_key_twice(jax.make_jaxpr(arrays)(jr.key(0)).jaxpr)


def test_nor_does_what_cannot_be_traced():
    with jax.debug_key_reuse(True):
        sample_relu_arrangements(jr.key(0), X, 3, 0.1)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda key: jr.normal(key) + jr.uniform(key),
        lambda key: jr.normal(jr.split(key)[0]) + jr.normal(key),
        lambda key: jr.normal(jr.fold_in(key, 1)) + jr.normal(jr.fold_in(key, 1)),
        lambda key: jax.vmap(jr.normal)(jnp.broadcast_to(key, 3)),
        lambda key: jax.lax.map(lambda x: x + jr.normal(key), X),
    ],
)
def test_what_uses_one_twice_is_seen(wrong):
    with pytest.raises((AssertionError, jax.errors.KeyReuseError)):
        uses_no_key_twice(jax.make_jaxpr(wrong)(jr.key(0)).jaxpr)
