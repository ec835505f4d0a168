"""Inputs of trained networks that are to be found: a network, an objective and constraints of its outputs, a start."""

import warnings
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray
from sklearn.datasets import load_diabetes, load_digits


class NetworkInput(NamedTuple):
    """Find x so that ``objective(network(x))`` is small where ``constraints(network(x)) <= 0``."""

    network: Callable[[Float[Array, " n"]], Float[Array, " m"]]
    objective: Callable[[Float[Array, " m"]], Float[Array, ""]]
    constraints: Callable[[Float[Array, " m"]], Float[Array, " c"]]
    start: Float[Array, " n"]


def _trained(inputs: np.ndarray, targets: np.ndarray, decay: float) -> Callable[[Array], Array]:
    """A network of scikit-learn's, trained, as a function of JAX that gives the last layer before any softmax."""
    from sklearn.exceptions import ConvergenceWarning  # these take long to import
    from sklearn.neural_network import MLPClassifier, MLPRegressor

    kind = MLPClassifier if np.issubdtype(targets.dtype, np.integer) else MLPRegressor
    estimator = kind(
        hidden_layer_sizes=(16, 16), activation="tanh", solver="lbfgs", alpha=decay, random_state=0, max_iter=200
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # where the training is stopped does not matter here
        estimator.fit(inputs, targets)
    layers = [(jnp.asarray(w), jnp.asarray(b)) for w, b in zip(estimator.coefs_, estimator.intercepts_, strict=True)]

    def network(x: Array) -> Array:
        for weights, shift in layers[:-1]:
            x = jnp.tanh(x @ weights + shift)
        return x @ layers[-1][0] + layers[-1][1]

    return network


def digit_mixture(images: int = 20) -> Callable[[PRNGKeyArray], NetworkInput]:
    """Weights of real images, so that a classifier says of their mixture what it says of another mixture of them.

    x are logits of the weights, each within [-10, 10]; the objective is the mean squared distance of what is said, ten
    logits, at best 0. The network is a classifier trained on scikit-learn's digits.

    Arguments:
        images: How many are mixed.

    Returns:
        ``key -> NetworkInput``, with other images and another start for another key.
    """
    pixels, labels = (np.asarray(a) for a in load_digits(return_X_y=True))
    net = _trained(pixels / 16, labels, 0.1)
    pixels = jnp.asarray(pixels / 16)

    def draw(key: PRNGKeyArray) -> NetworkInput:
        for_wanted, for_mixed, for_start = jr.split(key, 3)
        mixed = pixels[jr.randint(for_mixed, (images,), 0, len(pixels))]

        def said(x: Float[Array, " n"]) -> Float[Array, " 10"]:
            return net(jax.nn.softmax(x) @ mixed)

        wanted = said(2 * jr.normal(for_wanted, (images,)))
        return NetworkInput(
            lambda x: jnp.concatenate([said(x), x]),
            lambda y: jnp.mean((y[:10] - wanted) ** 2),
            lambda y: jnp.abs(y[10:]) - 10,
            jr.normal(for_start, (images,)),
        )

    return draw


def patient_change(better: float = 0.5) -> Callable[[PRNGKeyArray], NetworkInput]:
    """The smallest change to a patient for which the foretold progression of diabetes is less by so much.

    x are the ten measurements, the objective is the squared distance to the patient's own, from which the search
    starts, both in standard deviations. The network is a regression on scikit-learn's diabetes data.

    Arguments:
        better: By how many standard deviations of the progression.

    Returns:
        ``key -> NetworkInput``, with another patient for another key.
    """
    x, y = ((a - a.mean(0)) / a.std(0) for a in map(np.asarray, load_diabetes(return_X_y=True)))
    net = _trained(x, y, 1.0)
    x = jnp.asarray(x)

    def draw(key: PRNGKeyArray) -> NetworkInput:
        own = x[jr.randint(key, (), 0, len(x))]
        return NetworkInput(
            lambda z: jnp.concatenate([net(z), z]),
            lambda y: jnp.sum((y[1:] - own) ** 2),
            lambda y: 3 * (y[:1] - net(own) + better),
            own,
        )

    return draw


def reactor_settings(energy: float = 0.3) -> Callable[[PRNGKeyArray], NetworkInput]:
    r"""Time and heat for the most B of A → B → C, by a network that learned the kinetics.

    x = (t, q) in [0, 1]²; rates $k = e^{2q-1}$ and $l = e^{3q-2.5}$ over the time 2t; the energy is tq. The objective
    is minus the share of B.

    Arguments:
        energy: The most that tq may be.

    Returns:
        ``key -> NetworkInput``, with another start for another key.
    """
    x = np.random.default_rng(1).random((400, 2))
    t, k, l = 2 * x[:, 0], np.exp(2 * x[:, 1] - 1), np.exp(3 * x[:, 1] - 2.5)
    b = k / (l - k) * (np.exp(-k * t) - np.exp(-l * t))
    net = _trained(x, np.stack([np.exp(-k * t), b], 1), 1e-5)

    def draw(key: PRNGKeyArray) -> NetworkInput:
        return NetworkInput(
            lambda x: jnp.concatenate([net(x), x]),
            lambda y: -y[1],
            lambda y: 3 * jnp.concatenate([-y[2:], y[2:] - 1, y[2:3] * y[3:] - energy]),
            jr.uniform(key, (2,)),
        )

    return draw
