"""Handwritten digits spread over clients by label: real data that is as heterogeneous as it can be."""

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int, PRNGKeyArray

from attractor.checks import in_range
from attractor.probe import Probe
from attractor.problem import Federated
from attractor.problems.digits import digits
from attractor.registry import problem
from attractor.trees import norm

Parameters = dict[str, Float[Array, "..."]]
Batch = tuple[Float[Array, "n 64"], Int[Array, " n"]]


@problem("federated-digits", metric="gradient_norm", steps=1_000)
def federated_digits(n_clients: int = 20, l2: float = 0.1, batch_size: int | None = None) -> Federated:
    """Strongly convex multinomial logistic regression on digits sorted by label, so that clients hold one or two.

    Records the loss and the norm of the full gradient; x is ``{"weight": (64, 10), "bias": (10,)}``, from 0.

    Arguments:
        n_clients: How many equal parts the 1,437 training images are cut into (a rest is left out), 1 … 1,437.
        l2: Weight of the penalty ``l2 |x|²/2``, which makes every client's loss l2-strongly convex; > 0.
        batch_size: Images per client and step; `None`: all of its own.

    Raises:
        ValueError: for an argument out of its range.
    """
    (images, labels), _ = digits()
    in_range("n_clients", n_clients, 1, len(labels))
    in_range("l2", l2, 0.0, open_low=True)
    order = np.argsort(labels, kind="stable")[: len(labels) // n_clients * n_clients]
    images, labels = images[order], labels[order]
    # The Hessian of a softmax is at most 1/2.
    with_bias = np.hstack([images, np.ones((len(images), 1), images.dtype)])
    smoothness = 0.5 * np.linalg.norm(with_bias, 2) ** 2 / len(images) + l2

    return Federated(
        eqx.Partial(_loss, l2),
        {"weight": jnp.zeros((64, 10)), "bias": jnp.zeros(10)},
        (images.reshape(n_clients, -1, 64), labels.reshape(n_clients, -1)),
        batch_size=batch_size,
        probes={"gradient_norm": Probe(_gradient_norm)},
        constants={"L": float(smoothness), "mu": l2},
    )


def _loss(l2: float, x: Parameters, batch: Batch) -> Float[Array, ""]:
    images, labels = batch
    entropy = optax.softmax_cross_entropy_with_integer_labels(images @ x["weight"] + x["bias"], labels).mean()
    return entropy + l2 / 2 * optax.tree.norm(x, squared=True)


def _gradient_norm(problem: Federated, x: Parameters, key: PRNGKeyArray) -> Float[Array, ""]:
    gradients = problem.client_gradients(x, problem.full)
    return norm({name: leaf.mean(0) for name, leaf in gradients.items()})
