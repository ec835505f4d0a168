"""A small layered loss with two hidden layers, on generic numbers, for the tests of what assigns credit."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np

from attractor.credit import LayeredLoss, dense, dense_params

INPUTS, TARGETS = np.split(np.random.default_rng(0).standard_normal((5, 5)), [3], axis=1)


def loss_and_start(sizes=(3, 4, 6, 2)):
    """The loss and where it starts."""
    params = jax.tree.map(lambda a: a + 0.1, dense_params(jr.key(0), sizes))
    return LayeredLoss(dense, lambda o, t: jnp.sum((o - t) ** 2), (jnp.asarray(INPUTS), jnp.asarray(TARGETS))), params
