"""Local losses: every layer has an objective of its own, and no derivative passes between layers."""

import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, Int, PRNGKeyArray

from attractor.checks import Scalar, in_range

Layers = list[tuple[Array, Array]]


def with_label(images: Float[Array, "n d"], labels: Int[Array, " n"], classes: int) -> Float[Array, "n wider"]:
    """Inputs with a label beside them, as a one-hot vector.

    Arguments:
        images: Inputs.
        labels: Of each, from 0 on.
        classes: How many there are, at least 2.

    Raises:
        ValueError: if ``classes < 2``.
    """
    in_range("classes", classes, 2)
    return jnp.concatenate([images, jax.nn.one_hot(labels, classes, dtype=images.dtype)], 1)


def wrong_labels(key: PRNGKeyArray, labels: Int[Array, " n"], classes: int) -> Int[Array, " n"]:
    """For each label another one, all others equally often.

    Arguments:
        key: Draws them.
        labels: The right ones, from 0 on.
        classes: How many there are, at least 2.

    Raises:
        ValueError: if ``classes < 2``.
    """
    in_range("classes", classes, 2)
    return (labels + jr.randint(key, labels.shape, 1, classes)) % classes


def goodness(params: Layers, inputs: Float[Array, "n d"]) -> Float[Array, "layers n"]:
    r"""The mean square of every layer's ReLU units, $\frac1m \|y\|^2$ with $y = (W \hat x + b)_+$.

    What enters a layer is divided by its root mean square, $\hat x$, so that the goodness of the layer before is not
    seen, and no derivative passes to it.

    Arguments:
        params: Weights ``(units, inputs)`` and biases of every layer.
        inputs: Labels included.
    """
    found, x = [], inputs
    for weight, bias in params:
        x = jax.lax.stop_gradient(x)
        x = x / (jnp.sqrt((x * x).mean(1, keepdims=True)) + 1e-8)
        x = jax.nn.relu(x @ weight.T + bias)
        found.append((x * x).mean(1))
    return jnp.stack(found)


def forward_forward_loss(
    params: Layers,
    positive: Float[Array, "n d"],
    negative: Float[Array, "n d"],
    threshold: Scalar = 1.0,
    sign: Scalar = 1.0,
) -> Float[Array, ""]:
    r"""The forward-forward objective, summed over layers: much goodness for real inputs and little for others.

    $\sum_l \text{mean}\, \log(1 + e^{s(\theta - g_l^+)}) + \text{mean}\, \log(1 + e^{s(g_l^- - \theta)})$. Its gradient
    by `jax.grad` is each layer's own.

    Arguments:
        params: As in `goodness`.
        positive: Inputs with their labels.
        negative: The same inputs with wrong labels.
        threshold: θ > 0.
        sign: s; with -1 real inputs are to have little goodness.

    Raises:
        ValueError: if ``threshold`` is not positive.

    Paper: The Forward-Forward Algorithm: Some Preliminary Investigations. What is not known to us are its threshold and
    its choice of hard negatives; goodness is a mean here, and wrong labels are drawn uniformly.
    """
    in_range("threshold", threshold, 0.0, open_low=True)
    real, other = goodness(params, positive) - threshold, goodness(params, negative) - threshold
    return (jax.nn.softplus(-sign * real).mean(1) + jax.nn.softplus(sign * other).mean(1)).sum()


def goodness_by_label(
    params: Layers, images: Float[Array, "n d"], classes: int, skipped: int = 1
) -> Float[Array, "n classes"]:
    """The summed goodness of each label, tried one after another; the largest is what the network sees.

    Arguments:
        params: As in `goodness`.
        images: Inputs without a label.
        classes: How many labels there are, at least 2.
        skipped: So many of the first layers do not count, from 0 to all but one.

    Raises:
        ValueError: if an argument is out of range.
    """
    in_range("skipped", skipped, 0, len(params) - 1)
    tried = [with_label(images, jnp.full(len(images), label), classes) for label in range(classes)]
    return jnp.stack([goodness(params, inputs)[skipped:].sum(0) for inputs in tried], 1)
