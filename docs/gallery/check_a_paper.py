# ---
# jupyter:
#   kernelspec: {display_name: Python 3, language: python, name: python3}
# ---

# %% [markdown]
# # Does this paper's claim hold, and could the check have failed?
#
# *Lion Secretly Solves Constrained Optimization* says that Lion with weight decay minimizes the loss inside a box. Its
# entry in the catalogue has that statement as claims with thresholds, written before they were run.

# %%
from attractor import check
from attractor.papers import find

paper = find("lion-k")
print(paper.title)
print(paper.claim)

# %% [markdown]
# `check` runs the claims on this machine. Beside each runs a *broken variant*: the method, damaged as somebody might
# damage it by mistake. If the variant passes too, the check proves nothing and counts as an error.

# %%
verdicts = check("lion-k", names=["enters-the-box", "solves-the-box"])
for verdict in verdicts:
    print(f"{verdict.verdict}: {verdict.statement}")
    print(f"  measured {verdict.value:.3g}, to be {verdict.direction} {verdict.threshold:g}")
    for variant in verdict.broken:
        print(f"  broken variant, {variant['name']}: {variant['verdict']}")

# %% [markdown]
# What holds on these seeds may be luck. Other seeds, which nobody tuned on, are a replication:

# %%
(again,) = check("lion-k", names=["enters-the-box"], replication=1)
print(f"on other seeds: {again.verdict}, {again.value:.3g}")

# %% [markdown]
# The method is a component of the library, for a loop of your own:

# %%
import jax
import jax.numpy as jnp
import optax

from attractor.optim import lion_k

method = lion_k(1e-2, weight_decay=0.5)
x = jnp.asarray([3.0, -3.0])
state = method.init(x)
for _ in range(2_000):
    updates, state = method.update(jax.grad(lambda x: jnp.sum((x - 4.0) ** 2))(x), state, x)
    x = optax.apply_updates(x, updates)
print(x)  # the box has half-width 1 / weight_decay; the minimum without it is (4, 4)
