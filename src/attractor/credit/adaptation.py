r"""Networks that adapt to shifted data while they predict: batch statistics, entropy, competing Hebbian units."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import optax
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from attractor.checks import Scalar, in_range


def soft_hebb(
    weight: Float[Array, "units d"], inputs: Float[Array, "n width"], temperature: Scalar = 1.0
) -> Float[Array, "units d"]:
    r"""Where units that compete softly move: the mean over inputs of $y_k (x - u_k w_k)$.

    Responses are $u = W x$, and shares $y = \operatorname{softmax}(u / \tau)$. Where a unit rests, its weights have
    length 1 and point to the mean of the inputs that it wins. One step is ``weight + rate * soft_hebb(…)``.

    Arguments:
        weight: $W$, a row for each unit.
        inputs: Examples, or patches of images.
        temperature: $\tau > 0$; towards 0 the strongest unit takes all.

    Raises:
        ValueError: if ``temperature <= 0``, or widths do not fit.

    Paper: Tang et al. (2023), Neuro-Modulated Hebbian Learning for Fully Test-Time Adaptation.
    """
    in_range("temperature", temperature, 0.0, open_low=True)
    if inputs.ndim != 2 or weight.ndim != 2 or inputs.shape[1] != weight.shape[1]:
        raise ValueError(
            f"inputs: expected shape (n, d) beside weight of shape (units, d), got {inputs.shape} and {weight.shape}; "
            "of images, give patches, one a row"
        )
    responses = inputs @ weight.T
    shares = jax.nn.softmax(responses / temperature)
    return (shares.T @ inputs - (shares * responses).sum(0)[:, None] * weight) / inputs.shape[0]


def prediction_entropy(logits: Float[Array, "n classes"]) -> Float[Array, ""]:
    r"""The mean entropy of predictions, $-\sum_c p_c \log p_c$ in nats with $p = \operatorname{softmax}$ of the logits.

    Arguments:
        logits: A row for each example.
    """
    logs = jax.nn.log_softmax(logits)
    return -(jnp.exp(logs) * logs).sum(-1).mean()


class Normalization(eqx.Module):
    r"""Channels normalized with the statistics of the batch, or of the data that the network was trained on.

    $\gamma (a - \mu) / \sqrt{\sigma^2 + 10^{-5}} + \beta$ over all axes but the last.

    Arguments:
        scale: $\gamma$, of every channel.
        shift: $\beta$, of every channel.
        mean: $\mu$ of the training data; see `stored`.
        variance: $\sigma^2$ of the training data.
        source: The share of the training data's statistics in those used, in [0, 1]: 0 the batch's, 1 the stored.
    """

    scale: Float[Array, " channels"]
    shift: Float[Array, " channels"]
    mean: Float[Array, " channels"]
    variance: Float[Array, " channels"]
    source: Scalar = 0.0

    @classmethod
    def blank(cls, channels: int) -> "Normalization":
        """Scale 1, shift 0, nothing stored yet.

        Raises:
            ValueError: if ``channels < 1``.
        """
        in_range("channels", channels, 1)
        zero, one = jnp.zeros(channels), jnp.ones(channels)
        return cls(one, zero, zero, one)

    def stored(self, a: Float[Array, "*n channels"], source: Scalar = 1.0) -> "Normalization":
        """The same with the statistics of these activations kept, and used to the share ``source`` in [0, 1].

        Raises:
            ValueError: if ``source`` is outside [0, 1].
        """
        in_range("source", source, 0.0, 1.0)
        axes = tuple(range(a.ndim - 1))
        return Normalization(self.scale, self.shift, a.mean(axes), a.var(axes), source)

    def __call__(self, a: Float[Array, "*n channels"]) -> Float[Array, "*n channels"]:
        axes = tuple(range(a.ndim - 1))
        # What was kept is data: a gradient by the whole network must not train it.
        source, kept, spread = jax.lax.stop_gradient((self.source, self.mean, self.variance))
        mean = source * kept + (1 - source) * a.mean(axes)
        variance = source * spread + (1 - source) * a.var(axes)
        return self.scale * (a - mean) / jnp.sqrt(variance + 1e-5) + self.shift


class NormalizedNetwork(eqx.Module):
    """One convolution and one full layer, both normalized and rectified, then logits; of square images, in batches.

    The convolution takes patches of 3 x 3 pixels; its responses are averaged over blocks of 2 x 2 pixels.

    Arguments:
        key: Draws the weights, normal with variance 2 / inputs (1 / inputs for the logits).
        side: Pixels of an image in a row; even, at least 2.
        filters: Of the convolution, at least 1.
        width: Units of the full layer, at least 1.
        classes: Outputs, at least 2.

    Raises:
        ValueError: for sizes outside these ranges.
    """

    filters: Float[Array, "filters 9"]
    early: Normalization
    hidden: Float[Array, "width pooled"]
    late: Normalization
    last: Float[Array, "classes width"]
    bias: Float[Array, " classes"]
    side: int = eqx.field(static=True)

    def __init__(self, key: PRNGKeyArray, side: int = 8, filters: int = 8, width: int = 48, classes: int = 10):
        in_range("filters", filters, 1)
        in_range("width", width, 1)
        in_range("classes", classes, 2)
        if side < 2 or side % 2:
            raise ValueError(f"side: expected an even number >= 2, got {side}")
        pooled = filters * (side // 2) ** 2
        keys = jr.split(key, 3)
        self.filters = jr.normal(keys[0], (filters, 9)) * (2 / 9) ** 0.5
        self.hidden = jr.normal(keys[1], (width, pooled)) * (2 / pooled) ** 0.5
        self.last = jr.normal(keys[2], (classes, width)) / width**0.5
        self.early, self.late = Normalization.blank(filters), Normalization.blank(width)
        self.bias, self.side = jnp.zeros(classes), side

    def patches(self, images: Float[Array, "n pixels"]) -> Float[Array, "n pixels 9"]:
        """What the convolution sees around every pixel; zeros beyond the border."""
        side = self.side
        padded = jnp.pad(images.reshape(-1, side, side), ((0, 0), (1, 1), (1, 1)))
        shifted = [padded[:, i : i + side, j : j + side] for i in range(3) for j in range(3)]
        return jnp.stack(shifted, -1).reshape(-1, side * side, 9)

    def layers(self, images: Float[Array, "n pixels"]) -> tuple[Array, Array, Array]:
        """What enters the two normalizations, and the logits ``(n, classes)``."""
        first = self.patches(images) @ self.filters.T
        half = self.side // 2
        blocks = jax.nn.relu(self.early(first)).reshape(len(first), half, 2, half, 2, -1)
        second = blocks.mean((2, 4)).reshape(len(first), -1) @ self.hidden.T
        return first, second, jax.nn.relu(self.late(second)) @ self.last.T + self.bias

    def __call__(self, images: Float[Array, "n pixels"]) -> Float[Array, "n classes"]:
        return self.layers(images)[2]

    def stored(self, images: Float[Array, "n pixels"], source: Scalar = 1.0) -> "NormalizedNetwork":
        """The network after training: with the statistics of these images kept, used to the share ``source``."""
        first, second, _ = self.layers(images)
        kept = self.early.stored(first, source), self.late.stored(second, source)
        return eqx.tree_at(lambda net: (net.early, net.late), self, kept)


class StreamAdaptation(eqx.Module):
    r"""A trained network that adapts to every batch of a stream without labels, and then predicts it.

    For each batch: the Hebbian part $W \leftarrow W + \eta\, h(W, \text{patches})$ with $h$ of `soft_hebb`, then one
    step of ``transformation`` on the modulators $m$ along the slope of `prediction_entropy` by $m$, then the logits.

    - Batch statistics alone: a network whose `Normalization` uses them; neither part.
    - Entropy minimization (TENT): modulators are the scales and shifts of all normalizations; no Hebbian part.
    - Neuro-modulated Hebbian learning: filters are those of the first layer, modulators come after it.

    The reference lets the first convolution follow the Hebbian rule and the modulator the entropy before it predicts.
    Not known to us from it: the modulator's form (here any part of the parameters, such as scale and shift of the
    first layer's responses), and whether the rule takes a batch's mean or its sum (here the mean).

    Arguments:
        predict: ``predict(params, inputs (n, …)) -> logits (n, classes)`` of a whole batch.
        modulator: ``modulator(params)``, the part of them that the entropy moves, as in `equinox.tree_at`.
        transformation: What makes steps of the entropy's slope, such as ``optax.adam(1e-3)``.
        filters: ``filters(params)``, the weights ``(units, d)`` that the Hebbian part moves; `None`: no such part.
        patches: ``patches(params, inputs) -> (m, d)``, what these weights see; default: the inputs.
        rate: $\eta$ of the Hebbian part; >= 0, 0.01 by default.
        temperature: Of its competition; > 0, 1 by default.

    Raises:
        ValueError: for a negative ``rate``, or ``temperature <= 0``.

    Paper: Tang et al. (2023), Neuro-Modulated Hebbian Learning for Fully Test-Time Adaptation.
    """

    predict: Callable[[Any, Array], Array]
    modulator: Callable[[Any], Any]
    transformation: optax.GradientTransformation
    filters: Callable[[Any], Array] | None = None
    patches: Callable[[Any, Array], Array] = lambda params, inputs: inputs
    rate: Scalar = 0.01
    temperature: Scalar = 1.0

    def __check_init__(self) -> None:
        in_range("rate", self.rate, 0.0)
        in_range("temperature", self.temperature, 0.0, open_low=True)

    def init(self, params: PyTree) -> PyTree:
        """The state of ``transformation``."""
        return self.transformation.init(self.modulator(params))

    def step(self, params: PyTree, state: PyTree, inputs: Array) -> tuple[Float[Array, "n classes"], PyTree, PyTree]:
        """Logits of one batch, after it was adapted to; parameters and state after that."""
        if self.filters is not None:
            weight = self.filters(params)
            moved = weight + self.rate * soft_hebb(weight, self.patches(params, inputs), self.temperature)
            params = eqx.tree_at(self.filters, params, moved)
        modulators = self.modulator(params)
        slope = jax.grad(lambda m: prediction_entropy(self.predict(eqx.tree_at(self.modulator, params, m), inputs)))
        updates, state = self.transformation.update(slope(modulators), state, modulators)
        params = eqx.tree_at(self.modulator, params, optax.apply_updates(modulators, updates))
        return self.predict(params, inputs), params, state

    def run(self, params: PyTree, stream: Array) -> tuple[Float[Array, "batches n classes"], PyTree]:
        """Logits of every batch of a stream ``(batches, n, …)`` in turn, and the parameters after the last one.

        Raises:
            ValueError: if the stream has no batch.
        """
        if stream.ndim < 2 or 0 in stream.shape[:2]:
            raise ValueError(f"stream: expected shape (batches, n, …) with at least one input, got {stream.shape}")
        arrays, static = eqx.partition(params, eqx.is_array)

        def one(carry: tuple[PyTree, PyTree], inputs: Array) -> tuple[tuple[PyTree, PyTree], Array]:
            logits, after, state = self.step(eqx.combine(carry[0], static), carry[1], inputs)
            return (eqx.filter(after, eqx.is_array), state), logits

        (arrays, _), logits = jax.lax.scan(one, (arrays, self.init(params)), stream)
        return logits, eqx.combine(arrays, static)
