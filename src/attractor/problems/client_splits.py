"""Handwritten digits spread over clients by a Dirichlet law, as unevenly as wanted, with held-out images."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree

from attractor.checks import in_range
from attractor.problem import Federated
from attractor.problems.digits import cross_entropy, digits
from attractor.problems.held_out import halves, held_out
from attractor.registry import problem

Batch = tuple[Float[Array, "n 64"], Int[Array, " n"]]


@problem("dirichlet-digits", metric="test_loss", steps=300)
def dirichlet_digits(
    n_clients: int = 10,
    concentration: float | None = 0.5,
    *,
    width: int = 0,
    batch_size: int | None = 16,
    l2: float = 0.0,
    seed: int = 0,
) -> Federated:
    """Classify digits that are spread over clients unevenly by label; loss and accuracy on held-out images.

    Arguments:
        n_clients: Of equally many images each, 1 … 1,437.
        concentration: Of the Dirichlet law from which each client draws its shares of the labels, > 0: small is
            uneven, 1,000 even. `None`: sorted by label.
        width: Hidden ReLU units of the network, at least 0; 0 is softmax regression.
        batch_size: Images per client and step; `None`: all of its own.
        l2: Weight of the penalty ``l2 |x|²/2``, ≥ 0.
        seed: Of the split into training and held-out images, and of the clients' shares.

    Raises:
        ValueError: for an argument out of its range.
    """
    train, test = digits(seed=seed)
    in_range("n_clients", n_clients, 1, len(train[1]))
    in_range("width", width, 0)
    in_range("l2", l2, 0.0)
    index = (
        split_by_label(train[1], n_clients)
        if concentration is None
        else split_by_dirichlet(train[1], n_clients, concentration, seed)
    )
    build, data = eqx.Partial(_network, width), (train[0][index], train[1][index])
    made = Federated.of_model(build, eqx.Partial(_penalized, l2), data, batch_size=batch_size)
    _, static = eqx.partition(build(jr.key(0)), eqx.is_inexact_array)
    loss, accuracy = eqx.Partial(_entropy, static), eqx.Partial(_accuracy, static)
    probes = held_out(halves(test), {"loss": (loss, "min"), "accuracy": (accuracy, "max")})
    return eqx.tree_at(lambda p: p.probes, made, made.probes | probes)


def split_by_label(labels: Int[np.ndarray, " n"], n_clients: int) -> Int[np.ndarray, "n_clients m"]:
    """Indices of samples, sorted by label and cut into equal parts; a rest is left out.

    Arguments:
        labels: One a sample.
        n_clients: 1 … n.

    Raises:
        ValueError: if ``n_clients`` is out of range.
    """
    in_range("n_clients", n_clients, 1, len(labels))
    order = np.argsort(labels, kind="stable")[: len(labels) // n_clients * n_clients]
    return order.reshape(n_clients, -1)


def split_by_dirichlet(
    labels: Int[np.ndarray, " n"], n_clients: int, concentration: float, seed: int = 0
) -> Int[np.ndarray, "n_clients m"]:
    """Indices of samples for clients of equal size, whose shares of the labels follow a Dirichlet law.

    Clients take turns in drawing a sample, by their shares among the labels that are left; a rest is left out.

    Arguments:
        labels: One a sample.
        n_clients: 1 … n.
        concentration: Of the law, > 0: one label a client near 0, all alike for large ones.
        seed: Of the draw.

    Raises:
        ValueError: if an argument is out of its range.
    """
    in_range("n_clients", n_clients, 1, len(labels))
    in_range("concentration", concentration, 0.0, open_low=True)
    rng = np.random.default_rng(seed)
    kinds = np.unique(labels)
    left = [list(rng.permutation(np.flatnonzero(labels == kind))) for kind in kinds]
    shares = rng.dirichlet(np.full(len(kinds), concentration), n_clients) + 1e-12  # some label is always possible
    taken: list[list[int]] = [[] for _ in range(n_clients)]
    for _ in range(len(labels) // n_clients):
        for client in range(n_clients):
            weights = shares[client] * [bool(pile) for pile in left]
            taken[client].append(left[rng.choice(len(kinds), p=weights / weights.sum())].pop())
    return np.asarray(taken)


def _network(width: int, key: PRNGKeyArray) -> eqx.nn.MLP | eqx.nn.Linear:
    return eqx.nn.MLP(64, 10, width, 1, key=key) if width else eqx.nn.Linear(64, 10, key=key)


def _penalized(l2: float, model: Callable, batch: Batch) -> Float[Array, ""]:
    return cross_entropy(model, batch) + l2 / 2 * optax.tree.norm(eqx.filter(model, eqx.is_inexact_array), squared=True)


def _entropy(static: Any, x: PyTree, batch: Batch) -> Float[Array, ""]:
    return cross_entropy(eqx.combine(x, static), batch)


def _accuracy(static: Any, x: PyTree, batch: Batch) -> Float[Array, ""]:
    return jnp.mean(jax.vmap(eqx.combine(x, static))(batch[0]).argmax(-1) == batch[1])
