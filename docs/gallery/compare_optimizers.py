# ---
# jupyter:
#   kernelspec: {display_name: Python 3, language: python, name: python3}
# ---

# %% [markdown]
# # Which optimizer should train my model?
#
# A loss, data and a model are all that `compare` needs. Every method tries the same number of quasi-random
# configurations; the best of each is run again on fresh seeds, which all methods share.

# %%
import equinox as eqx
import jax
import jax.numpy as jnp
from sklearn.datasets import load_diabetes

from attractor import Minimization, compare

features, target = load_diabetes(return_X_y=True)
data = jnp.asarray(features * 20), jnp.asarray((target - target.mean()) / target.std())


def build(key):
    return eqx.nn.MLP(10, 1, 32, 1, key=key)


def loss(model, batch):
    x, y = batch
    return jnp.mean((jax.vmap(model)(x)[:, 0] - y) ** 2)


problem = Minimization.of_model(build, loss, data, batch_size=32)

# %% [markdown]
# The target decides what *best* means: the fewest steps to a loss of 0.45. Without one, it is the final loss.

# %%
result = compare(problem, ["sgd", "adam", "muon"], steps=200, seeds=5, budget=6, target=0.45, progress=False)
result

# %% [markdown]
# Ratios are paired by seed, with their 95 % interval. Below 1, the first method takes fewer steps than the second.

# %%
print(result.ratio("steps_to_target", "muon", "sgd"))

# %% [markdown]
# The winner's runs, median and spread over the seeds:

# %%
fastest = min(result.entries, key=lambda name: result[name].steps_to_target.mean())
result[fastest].trace.plot("loss")

# %% [markdown]
# `result.report("comparison.html")` writes all of it as one page that works offline. From the shell, the same is
# `attractor compare my_problem.py:problem sgd adam muon --target 0.45`.
