"""Computations that are done in sequence: adjoints of a recurrent network, layers of a dense one, pixels of samples.

Each is a function ``step(weights, t, states)`` that gives state t from those before it; `attractor.linalg.
parallel_evaluation` takes it as ``partial(step, weights)``.
"""

from functools import partial

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
from jaxtyping import Array, Float, Int, PRNGKeyArray

from attractor.problems.digits import digits

PIXELS, HIDDEN, LAYERS, GROWTH = 64, 32, 32, 8
Weights = dict[str, Array]
_LAST = np.arange(256) % (PIXELS - 1)  # of each of the autoencoder's hidden units, the last pixel that it may see
_SEEN, _TOLD = _LAST[:, None] >= np.arange(PIXELS), np.arange(PIXELS)[:, None] > _LAST
_EARLIER = np.tri(LAYERS, k=-1)[:, None, :, None]  # by layer of the dense net, the layers that it sees


def rnn_adjoints(seed: int) -> Weights:
    """``slopes`` (64, 32, 32) and ``out`` (32,) of a tanh network that has read an image, for `adjoint_step`.

    Its 32 units read the 64 pixels of a digit one after another; recurrent weights are orthogonal, as at the start of
    training, and the loss is at the end.

    Arguments:
        seed: Of the weights; also chooses the digit.
    """
    random = np.random.default_rng(seed)
    matrix = np.linalg.qr(random.standard_normal((HIDDEN, HIDDEN)))[0]
    into, out = random.standard_normal((2, HIDDEN))
    h, slopes = np.zeros(HIDDEN), []
    for pixel in digits()[0][0][seed % 1_000]:
        h = np.tanh(matrix @ h + into * pixel)
        slopes.append(matrix.T * (1 - h**2))
    return {"slopes": jnp.asarray(np.stack(slopes)[::-1], jnp.float32), "out": jnp.asarray(out, jnp.float32)}


def adjoint_step(weights: Weights, t: Int[Array, ""], states: Float[Array, "64 32"]) -> Float[Array, " 32"]:
    """The loss's gradient t steps before the end, from the one a step later in time."""
    return jnp.where(t > 0, weights["slopes"][t - 1] @ states[t - 1], weights["out"])


def dense_net(seed: int) -> Weights:
    """Weights of a ReLU net of 32 layers of 8 units, each of which sees a digit and all layers before; He's scale.

    Arguments:
        seed: Of the weights; also chooses the digit.
    """
    random = np.random.default_rng(seed)
    scale = np.sqrt(2 / (PIXELS + GROWTH * np.arange(LAYERS)))[:, None, None]
    layers = random.standard_normal((LAYERS, GROWTH, LAYERS, GROWTH)) * scale[..., None] * _EARLIER
    own = (random.standard_normal((LAYERS, GROWTH, PIXELS)) * scale) @ digits()[0][0][seed % 1_000]
    return {"layers": jnp.asarray(layers, jnp.float32), "own": jnp.asarray(own, jnp.float32)}


def dense_step(weights: Weights, t: Int[Array, ""], states: Float[Array, "32 8"]) -> Float[Array, " 8"]:
    """Layer t, from the image and the layers before it."""
    return jax.nn.relu(jnp.tensordot(weights["layers"][t], states, 2) + weights["own"][t])


def masked_autoencoder(key: PRNGKeyArray, steps: int = 600) -> tuple[Weights, float]:
    """A masked autoencoder (64-256-64) of the digits' pixels, black or white, trained by Adam.

    Returns its weights, for `pixel_step`, and by how many nats an image its likelihood beats that of independent pixels
    on the test images.

    Arguments:
        key: Of the start and the batches of 128.
        steps: Of Adam.
    """
    (train, _), (test, _) = digits()
    images, others = (jnp.asarray(x > 0.5, jnp.float32) for x in (train, test))
    first, drawn = jr.split(key)
    start = {"in": jr.normal(first, _SEEN.shape) / 8, "out": jnp.zeros(_TOLD.shape)}
    start |= {"b": jnp.zeros(256), "c": jnp.zeros(PIXELS)}
    adam = optax.adam(3e-3)

    def loss(w: Weights, x: Float[Array, "n 64"]) -> Float[Array, ""]:
        return optax.sigmoid_binary_cross_entropy(jax.vmap(partial(_logits, w))(x), x).sum(1).mean()

    def step(carry, k):
        w, state = carry
        updates, state = adam.update(jax.grad(loss)(w, jr.choice(k, images, (128,))), state)
        return (optax.apply_updates(w, updates), state), None

    (weights, _), _ = jax.jit(lambda w, keys: jax.lax.scan(step, (w, adam.init(w)), keys))(
        start, jr.split(drawn, steps)
    )
    rates = jnp.clip(images.mean(0), 1e-3, 1 - 1e-3)
    alone = -jnp.log(jnp.where(others > 0.5, rates, 1 - rates)).sum(1).mean()
    return weights, float(alone - loss(weights, others))


def _logits(weights: Weights, image: Float[Array, " 64"]) -> Float[Array, " 64"]:
    hidden = jax.nn.relu(jnp.where(_SEEN, weights["in"], 0) @ image + weights["b"])
    return jnp.where(_TOLD, weights["out"], 0) @ hidden + weights["c"]


def pixel_step(weights: Weights, t: Int[Array, ""], states: Float[Array, " 64"]) -> Float[Array, ""]:
    """Pixel t of a sample, from the pixels before it and its own ``noise`` (logistic, with the weights)."""
    return jnp.where(_logits(weights, states)[t] + weights["noise"][t] > 0, 1.0, 0.0)
