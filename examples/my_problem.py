"""Your own problem in 15 lines: attractor compare examples/my_problem.py:problem adam lion muon"""

import equinox as eqx
import jax
import jax.numpy as jnp
from sklearn.datasets import load_diabetes

from attractor import Minimization

features, target = load_diabetes(return_X_y=True)
data = (jnp.asarray(features * 20), jnp.asarray((target - target.mean()) / target.std()))


def loss(model, batch):
    x, y = batch
    return jnp.mean((jax.vmap(model)(x)[:, 0] - y) ** 2)


problem = Minimization.of_model(lambda key: eqx.nn.MLP(10, 1, 32, 1, key=key), loss, data, batch_size=32)
