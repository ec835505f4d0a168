"""A loop of one's own in JAX, with an Equinox model and an optax transformation; Flax looks the same.

attractor compare examples/equinox_loop.py:train adam lion muon --seeds 5 --budget 8

A loss alone is compared faster as a problem (examples/my_problem.py): all its runs are one program. A loop is for what
is more than that: data that arrive in pieces, an evaluation of its own, stages.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from sklearn.datasets import load_wine
from sklearn.preprocessing import scale

from attractor import Loop, compare

features, labels = load_wine(return_X_y=True)
features, order = scale(features), np.random.default_rng(0).permutation(len(labels))
fitted, held_out = order[:120], order[120:]


@eqx.filter_jit
def measure(model, x, y):
    log_likelihood = jax.nn.log_softmax(jax.vmap(model)(x))
    return -jnp.mean(jnp.take_along_axis(log_likelihood, y[:, None], 1))


def train(make_optimizer, seed):
    model = eqx.nn.MLP(13, 3, 16, 1, key=jax.random.key(seed))
    optimizer = make_optimizer()  # without arguments: the optax transformation
    state = optimizer.init(eqx.filter(model, eqx.is_array))

    @eqx.filter_jit
    def step(model, state, x, y):
        grads = eqx.filter_grad(measure)(model, x, y)
        updates, state = optimizer.update(grads, state, eqx.filter(model, eqx.is_array))
        return eqx.apply_updates(model, updates), state

    shuffled = np.random.default_rng(seed)
    for _ in range(5):
        for batch in np.split(shuffled.permutation(fitted), 6):
            model, state = step(model, state, features[batch], labels[batch])
        yield {"validation_loss": measure(model, features[held_out], labels[held_out])}


if __name__ == "__main__":
    result = compare(Loop(train), ["adam", "lion"], seeds=2, budget=2, label="wine")
    print(result)
    result.report("equinox_loop.html")
