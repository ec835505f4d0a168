"""Wrong labels among digits, to be found by what a clean validation set makes of them."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from sklearn.datasets import load_digits

from attractor.bilevel import Bilevel
from attractor.checks import in_range
from attractor.probe import Probe
from attractor.registry import problem


@problem("label-cleaning", metric="test_loss", steps=500)
def label_cleaning(*, flipped: float = 0.4, train: int = 300, batch_size: int | None = None, seed: int = 0) -> Bilevel:
    r"""Learn which labels are wrong: a weight for every training digit, by the loss on clean validation digits.

    x is the logit of each weight, y a linear classifier's matrix and offsets: the lower level is the training
    cross-entropy weighted by $\sigma(x_i)$, plus $0.001 \lVert y \rVert^2$. A share of the training labels is replaced
    by others; 150 digits validate and the rest test. Recorded: ``test_loss`` and ``test_accuracy``, at y, and
    ``told_apart``: how likely a wrong label weighs less than a right one.

    Arguments:
        flipped: Share of wrong labels, in (0, 1).
        train: Training digits, from 10 to 1,000.
        batch_size: As in `Bilevel`.
        seed: Of the split and the wrong labels.

    Raises:
        ValueError: for an argument out of its range.
    """
    in_range("flipped", flipped, 0.0, 1.0, open_low=True, open_high=True)
    in_range("train", train, 10, 1_000)
    loaded: Any = load_digits(return_X_y=True)
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(loaded[1]))
    pixels, digits = jnp.asarray(loaded[0][order] / 16, float), loaded[1][order]
    wrong, given = rng.permutation(train) < max(1, round(flipped * train)), digits.copy()
    given[:train][wrong] = (given[:train] + rng.integers(1, 10, train))[wrong] % 10
    own = jnp.arange(train), pixels[:train], jnp.asarray(given[:train])
    parts = slice(train, train + 150), slice(train + 150, None)
    validation, test = ((pixels[at], jnp.asarray(digits[at])) for at in parts)
    start = jnp.zeros(train), {"w": jnp.zeros((64, 10)), "b": jnp.zeros(10)}
    return Bilevel(
        _cross_entropy_of_weights,
        _weighted_cross_entropy,
        start,
        (validation, own),
        batch_size=batch_size,
        probes={
            "test_loss": Probe(eqx.Partial(_held_out_cross_entropy, test)),
            "test_accuracy": Probe(eqx.Partial(_held_out_accuracy, test), "max"),
            "told_apart": Probe(eqx.Partial(_told_apart, jnp.asarray(wrong)), "max"),
        },
    )


def _cross_entropies(y: dict[str, Array], pixels: Float[Array, "n 64"], digits: Array) -> Float[Array, " n"]:
    scores = jax.nn.log_softmax(pixels @ y["w"] + y["b"])
    return -jnp.take_along_axis(scores, digits[:, None], 1)[:, 0]


def _cross_entropy_of_weights(x: Array, y: dict[str, Array], batch: Any) -> Float[Array, ""]:
    return jnp.mean(_cross_entropies(y, *batch))


def _weighted_cross_entropy(x: Array, y: dict[str, Array], batch: Any) -> Float[Array, ""]:
    index, pixels, digits = batch
    penalty = 0.001 * (jnp.sum(y["w"] ** 2) + jnp.sum(y["b"] ** 2))
    return jnp.mean(jax.nn.sigmoid(x[index]) * _cross_entropies(y, pixels, digits)) + penalty


def _held_out_cross_entropy(test: Any, problem: Bilevel, z: Any, key: Array) -> Float[Array, ""]:
    return jnp.mean(_cross_entropies(z[1], *test))


def _held_out_accuracy(test: Any, problem: Bilevel, z: Any, key: Array) -> Float[Array, ""]:
    return jnp.mean(jnp.argmax(test[0] @ z[1]["w"] + z[1]["b"], 1) == test[1])


def _told_apart(wrong: Array, problem: Bilevel, z: Any, key: Array) -> Float[Array, ""]:
    """Of all pairs of a wrong and a right label, the share where the wrong one weighs less; equal ones count half."""
    lead = z[0][None, :] - z[0][:, None]
    pairs = wrong[:, None] & ~wrong[None, :]
    return jnp.sum(pairs * ((lead > 0) + 0.5 * (lead == 0))) / jnp.sum(pairs)
