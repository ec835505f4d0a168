"""Handwritten digits (scikit-learn's 1,797 images of 8 x 8 pixels): real data that ships with a package."""

import functools
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int, PRNGKeyArray
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from attractor.checks import in_range
from attractor.objectives import Composite
from attractor.problems.held_out import halves, held_out
from attractor.registry import problem

Batch = tuple[Float[Array, "n 64"], Int[Array, " n"]]


@functools.cache
def digits(test_fraction: float = 0.2, seed: int = 0) -> tuple[Any, Any]:
    """``(train, test)``, each ``(images, labels)``: pixels scaled to [0, 1], a stratified split.

    Arguments:
        test_fraction: Share of the images held out, in (0, 1).
        seed: Of the split.
    """
    data = load_digits()
    split = train_test_split(
        data.data.astype(np.float32) / 16, data.target.astype(np.int32), test_size=test_fraction,  # pyright: ignore[reportAttributeAccessIssue]
        stratify=data.target, random_state=seed,  # pyright: ignore[reportAttributeAccessIssue]
    )  # fmt: skip
    x_train, x_test, y_train, y_test = split
    return (x_train, y_train), (x_test, y_test)


def small_digits(classes: int = 4, every: int = 1) -> tuple[Float[np.ndarray, "n 16"], Int[np.ndarray, " n"]]:
    """``(images, labels)`` of the training digits 0 … classes - 1, averaged to 4 x 4 pixels: for dense curvature.

    Arguments:
        classes: How many digits, in [2, 10].
        every: Takes each so-manieth image, at least 1.
    """
    (images, labels), _ = digits()
    images, labels = images[labels < classes][::every], labels[labels < classes][::every]
    return images.reshape(-1, 4, 2, 4, 2).mean((2, 4)).reshape(-1, 16), labels


def small_digits_mlp(classes: int = 4, width: int = 3, every: int = 1, count: int | None = None) -> Composite:
    """A tanh network with one hidden layer on `small_digits`, of so few weights that its Hessian is cheap; full batch.

    Arguments:
        classes: As in `small_digits`.
        width: Hidden units, at least 1.
        every: As in `small_digits`.
        count: The first so many images; `None`: all.

    Raises:
        ValueError: for ``width`` below 1.
    """
    in_range("width", width, 1)
    images, labels = small_digits(classes, every)
    return Composite.of_model(
        eqx.Partial(_small_mlp, classes, width), cross_entropy_of, (images[:count], labels[:count])
    )


def _small_mlp(classes: int, width: int, key: PRNGKeyArray) -> eqx.nn.MLP:
    return eqx.nn.MLP(16, classes, width, 1, jnp.tanh, key=key)


@problem("digits-mlp", metric="test_loss", steps=1_000, target=0.15)
def digits_mlp(width: int = 64, depth: int = 1, batch_size: int | None = 64, seed: int = 0) -> Composite:
    """Classify handwritten digits with a ReLU network; records loss and accuracy on validation and test images.

    1,437 images train; of the 360 others one half is for choosing hyper-parameters, one for the verdict. Its first
    weights and biases are Equinox's, uniform of variance 1 / (3 inputs), at every width; for a study of widths take
    `digits_wide_mlp`, which is this network under the standard or the maximal-update parametrization.

    Arguments:
        width: Units per hidden layer.
        depth: Hidden layers.
        batch_size: Images per step; `None`: all 1,437.
        seed: Of the split, as in `digits`.
    """
    return classifier(eqx.Partial(_mlp, width, depth), batch_size, seed)


def _mlp(width: int, depth: int, key: PRNGKeyArray) -> eqx.nn.MLP:
    return eqx.nn.MLP(64, 10, width, depth, key=key)


@problem("digits-logistic", metric="loss", steps=1_000, target=0.1)
def digits_logistic(batch_size: int | None = None, seed: int = 0) -> Composite:
    """Multinomial logistic regression on handwritten digits: convex, full batch by default."""
    return classifier(_linear, batch_size, seed)


def _linear(key: PRNGKeyArray) -> eqx.nn.Linear:
    return eqx.nn.Linear(64, 10, key=key)


def classifier(build: Callable[[PRNGKeyArray], Any], batch_size: int | None = 64, seed: int = 0) -> Composite:
    """The digits problem for any model: ``build(key) -> model``, ``model(pixels (64,)) -> logits (10,)``."""
    train, test = digits(seed=seed)
    blank = Composite.of_model(build, cross_entropy_of, train, batch_size=batch_size)
    _, static = eqx.partition(build(jax.random.key(0)), eqx.is_inexact_array)
    measures = {"loss": (blank.loss, "min"), "accuracy": (eqx.Partial(_accuracy, static), "max")}
    probes = held_out(halves(test), measures)
    return eqx.tree_at(lambda p: p.probes, blank, blank.probes | probes)


def cross_entropy(model: Callable, batch: Batch) -> Float[Array, ""]:
    """Mean cross-entropy of ``model(pixels) -> logits`` on ``(images, labels)``."""
    return cross_entropy_of(jax.vmap(model)(batch[0]), batch)


def cross_entropy_of(logits: Float[Array, "n classes"], batch: tuple[Array, Int[Array, " n"]]) -> Float[Array, ""]:
    """Mean cross-entropy of logits with the labels of ``(images, labels)``."""
    return optax.softmax_cross_entropy_with_integer_labels(logits, batch[1]).mean()


def _accuracy(static: Any, params: Any, batch: Batch) -> Float[Array, ""]:
    images, labels = batch
    logits = jax.vmap(eqx.combine(params, static))(images)
    return jnp.mean(logits.argmax(-1) == labels)


def averaged_pixels(images: Float[np.ndarray, "n 64"], side: int) -> Float[np.ndarray, "n pixels"]:
    """Images of 8 x 8 pixels as means over square blocks, ``side`` of them in a row: 1, 2, 4 or 8.

    Raises:
        ValueError: for another ``side``.
    """
    if side not in (1, 2, 4, 8):
        raise ValueError(f"side: expected 1, 2, 4 or 8, got {side}")
    blocks = images.reshape(-1, side, 8 // side, side, 8 // side)
    return blocks.mean((2, 4)).reshape(-1, side * side)
