# ---
# jupyter:
#   kernelspec: {display_name: Python 3, language: python, name: python3}
# ---

# %% [markdown]
# # Why does this run fail?
#
# A regression on four sensors, one of which measures in millimeters what the others measure in meters. The loop is an
# ordinary one; `Monitor` takes two lines of it.

# %%
import jax
import jax.numpy as jnp
import optax

from attractor import Monitor, diagnose

scale = jnp.asarray([1.0, 1.0, 1.0, 1000.0])


def sample(key):
    x = jax.random.normal(key, (32, 4)) * scale
    return x, x[:, 0] - x[:, 1]


def loss(params, batch):
    x, y = batch
    return jnp.mean((jnp.tanh(x @ params["w1"]) @ params["w2"] - y) ** 2)


for_first, for_second, for_data = jax.random.split(jax.random.key(0), 3)
params = {"w1": jax.random.normal(for_first, (4, 32)) / 2, "w2": jax.random.normal(for_second, (32,)) / 6}
optimizer = optax.adam(1e-3)
state, monitor = optimizer.init(params), Monitor()
gradient = jax.jit(jax.value_and_grad(loss))
for key in jax.random.split(for_data, 100):
    batch = sample(key)
    value, grads = gradient(params, batch)
    updates, state = optimizer.update(grads, state, params)
    params = optax.apply_updates(params, updates)
    monitor(value, params=params, grads=grads, updates=updates, batch=batch)
print(f"loss after 100 steps: {value:.3f}")

# %% [markdown]
# What the monitor saw along the way, as causes rather than symptoms:

# %%
print(monitor.diagnosis())

# %% [markdown]
# `diagnose` looks at a state instead, without training: curvature, noise, scales, dead units. Here, before and after
# the sensors are brought to one scale.

# %%
batches = [sample(key) for key in jax.random.split(jax.random.key(1), 4)]
print(diagnose(loss, params, batches, optimizer="adam", learning_rate=1e-3))

# %%
rescaled = [(x / scale, y) for x, y in batches]
print(diagnose(loss, params, rescaled, optimizer="adam", learning_rate=1e-3))
