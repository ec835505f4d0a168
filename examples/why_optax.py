"""Why does this network in JAX not learn? One line looks at its state: it is marked.

python examples/why_optax.py
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from sklearn.datasets import load_breast_cancer

from attractor import diagnose

x, y = (jnp.asarray(a, jnp.float32) for a in load_breast_cancer(return_X_y=True))
batches = [(x[i : i + 64], y[i : i + 64]) for i in range(0, 512, 64)]

model = eqx.nn.MLP(30, 1, 64, 2, key=jax.random.key(0))
optimizer = optax.sgd(1e-2, momentum=0.9)
state = optimizer.init(eqx.filter(model, eqx.is_array))


def loss(model, batch):
    return optax.sigmoid_binary_cross_entropy(jax.vmap(model)(batch[0])[:, 0], batch[1]).mean()


diagnose(loss, model, batches, optimizer=optimizer, confirm=True).save("why_optax.html")  # this


@eqx.filter_jit
def step(model, state, batch):
    value, gradient = eqx.filter_value_and_grad(loss)(model, batch)
    updates, state = optimizer.update(gradient, state)
    return eqx.apply_updates(model, updates), state, value


for batch in 20 * batches:
    model, state, value = step(model, state, batch)
    print(f"{value:.3f}")
