"""Friedman's regression, with inputs in units that nobody chose."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray, PyTree
from sklearn.datasets import make_friedman1

from attractor.checks import in_range
from attractor.nn.residual.bypass import BypassNetwork, net_control
from attractor.objectives import Composite


def friedman_regression(
    samples: int = 500, inputs: int = 10, spread: float = 30.0, width: int = 8, control: bool = True, seed: int = 0
) -> Composite:
    r"""Fit Friedman's first function by a `BypassNetwork`; loss: half the sum of the squared errors.

    $$ y = 10 \sin(\pi x_1 x_2) + 20 (x_3 - \tfrac12)^2 + 10 x_4 + 5 x_5 + \text{noise of variance } 1 $$

    of inputs that are uniform in [0, 1] and then multiplied by factors between 1/spread and spread, in random order.

    Arguments:
        samples: At least 2.
        inputs: At least 5.
        spread: In [1, inf).
        width: Hidden units, at least 1.
        control: Whether the hidden units start under `net_control`; without it the network has no biases.
        seed: Of the data.

    Raises:
        ValueError: for an argument out of range.
    """
    in_range("samples", samples, 2)
    in_range("inputs", inputs, 5)
    in_range("spread", spread, 1.0)
    in_range("width", width, 1)
    x, y = make_friedman1(samples, inputs, noise=1.0, random_state=seed)
    units = np.random.default_rng(seed).permutation(np.geomspace(1 / spread, spread, inputs))
    data = jnp.asarray(x * units, float), jnp.asarray(y, float)
    build = eqx.Partial(_build, width, control, data[0])
    _, static = eqx.partition(build(jr.key(0)), eqx.is_inexact_array)
    return Composite.least_squares(eqx.Partial(_residuals, static), eqx.Partial(_weights, build), data)


def _build(width: int, control: bool, inputs: Float[Array, "n d"], key: PRNGKeyArray) -> BypassNetwork:
    network = BypassNetwork(inputs.shape[1], 1, width, use_bias=control, key=key)
    return eqx.tree_at(lambda n: n.hidden, network, net_control(network.hidden, inputs)) if control else network


def _weights(build: eqx.Partial, key: PRNGKeyArray) -> PyTree:
    return eqx.filter(build(key), eqx.is_inexact_array)


def _residuals(static: PyTree, weights: PyTree, batch: PyTree) -> Float[Array, " n"]:
    return jax.vmap(eqx.combine(weights, static))(batch[0])[:, 0] - batch[1]
