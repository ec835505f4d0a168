"""Which of several predictive features a network learns: responses of features, data that have several, controls."""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray
from scipy.optimize import brentq
from scipy.special import expit
from sklearn.metrics import roc_auc_score

from attractor.checks import Scalar, in_range


def spectral_decoupling(
    logits: Float[Array, "..."], strength: Scalar, center: Scalar | Float[Array, "..."] = 0.0
) -> Float[Array, ""]:
    r"""A penalty on logits in place of weight decay, $\frac\lambda2 \operatorname{mean}_i (\hat y_i - \gamma)^2$.

    Added to the mean logistic loss it gives every example a margin of its own to settle at (`decoupled_margin`),
    whatever the strengths of the features, so that a strong feature no longer starves a weak one of gradient.

    Arguments:
        logits: $\hat y$, of any shape.
        strength: $\lambda$, in [0, inf).
        center: $\gamma$; a number, or one per example where it is to depend on the class.

    Raises:
        ValueError: if ``strength`` is out of range.

    Paper: Gradient Starvation: A Learning Proclivity in Neural Networks.
    """
    in_range("strength", strength, 0.0)
    return strength / 2 * jnp.mean((logits - center) ** 2)


def decoupled_margin(strength: float) -> float:
    r"""The margin m > 0 at which the logistic loss and `spectral_decoupling` balance, $1 / (1 + e^m) = \lambda m$.

    Arguments:
        strength: $\lambda$, in (0, inf).

    Raises:
        ValueError: if ``strength`` is out of range.

    Paper: Gradient Starvation: A Learning Proclivity in Neural Networks.
    """
    in_range("strength", strength, 0.0, open_low=True)
    return float(brentq(lambda m: strength * m - expit(-m), 0.0, 1 / strength, xtol=1e-14))  # pyright: ignore[reportArgumentType]


class FeatureResponses(NamedTuple):
    """The singular directions of a model's features on a batch, the strongest first.

    Attributes:
        strengths: Singular values s.
        directions: Columns U, combinations of examples.
        responses: What the model makes of each, z.
    """

    strengths: Float[Array, " n"]
    directions: Float[Array, "n n"]
    responses: Float[Array, " n"]


def feature_responses(
    kernel: Float[Array, "n n"], labels: Float[Array, " n"], logits: Float[Array, " n"]
) -> FeatureResponses:
    r"""Margins in the coordinates of the features, $z = U^\top Y \hat y$ with $Y \Theta Y = U S^2 U^\top$.

    For features $\Phi$ (those of a linear model, or the derivatives by the parameters) $\Theta = \Phi \Phi^\top$ and
    $Y \Phi = U S V^\top$. Each direction is signed so that the sum of its entries is not negative: a response above
    zero then helps most examples.

    Arguments:
        kernel: $\Theta$, such as `attractor.landscape.tangent_kernel` of one output.
        labels: Y, each -1 or 1.
        logits: $\hat y$.

    Paper: Gradient Starvation: A Learning Proclivity in Neural Networks.
    """
    values, vectors = jnp.linalg.eigh(labels[:, None] * kernel * labels)
    vectors = vectors[:, ::-1]
    vectors = vectors * jnp.where(vectors.sum(0) < 0, -1, 1)
    return FeatureResponses(jnp.sqrt(jnp.maximum(values[::-1], 0)), vectors, vectors.T @ (labels * logits))


def two_moons(
    key: PRNGKeyArray, n: int, gap: Scalar = -0.5, noise: Scalar = 0.1
) -> tuple[Float[Array, "n 2"], Float[Array, " n"]]:
    r"""Two half circles, ``(inputs, labels)``: $(\cos t, \sin t)$ of class 1, $(1 - \cos t, -g - \sin t)$ of class -1.

    With a gap g > 0 their heights alone tell them apart, and a straight line does; with g = -0.5 they interleave.

    Arguments:
        key: Of the angles, uniform in $[0, \pi]$, and of the noise.
        n: How many points; the classes alternate.
        gap: g, the height of the lower moon's top below the upper one's feet.
        noise: Standard deviation of a normal offset, in [0, inf).

    Raises:
        ValueError: if ``noise`` is out of range.

    Paper: Gradient Starvation: A Learning Proclivity in Neural Networks.
    """
    in_range("noise", noise, 0.0)
    of_angles, of_noise = jr.split(key)
    t, labels = jr.uniform(of_angles, (n,), maxval=jnp.pi), 1.0 - 2.0 * (jnp.arange(n) % 2)
    upper = labels > 0
    x = jnp.where(upper, jnp.cos(t), 1 - jnp.cos(t))
    y = jnp.where(upper, jnp.sin(t), -gap - jnp.sin(t))
    return jnp.stack([x, y], 1) + noise * jr.normal(of_noise, (n, 2)), labels


def randomize_columns(
    inputs: Float[Array | np.ndarray, "n d"], columns: tuple[int, ...], key: PRNGKeyArray
) -> Float[Array, "n d"]:
    """Some coordinates replaced by those of other examples, all of one example together.

    Their joint law stays, what they say about the label and the other coordinates does not.

    Arguments:
        inputs: A batch.
        columns: Which coordinates, in [0, d - 1].
        key: Of the permutation of examples.

    Raises:
        ValueError: if a column is out of range.

    Paper: The Pitfalls of Simplicity Bias in Neural Networks.
    """
    x, at = jnp.asarray(inputs), np.asarray(columns, int)
    in_range("columns", at, 0.0, x.shape[1] - 1.0)
    return x.at[:, at].set(jr.permutation(key, x)[:, at])


def slab_data(
    key: PRNGKeyArray,
    n: int,
    dimension: int,
    slabs: tuple[int, ...],
    *,
    margin: Scalar = 0.1,
    half_width: Scalar = 0.3,
    noise: Scalar = 0.0,
) -> tuple[Float[Array, "n d"], Float[Array, " n"]]:
    """Data with several features that each predict the label, simple and complex ones: ``(inputs, labels)``.

    Coordinate j of ``slabs`` is linear where it says 1, the label times a uniform number; where it says k >= 2, it lies
    in one of k slabs along the line, centered one apart around 0, whose labels alternate: -1, 1, -1 …, and k - 1
    thresholds tell the classes apart. The other coordinates are standard normal and say nothing.

    Arguments:
        key: Of everything.
        n: Examples; the classes alternate.
        dimension: d, at least one per feature.
        slabs: Slabs of each feature, each at least 1; an example is in each of its label's with equal probability.
        margin: Least absolute value of a linear coordinate, whose largest is 1; in [0, 1].
        half_width: Of a slab, in [0, 0.5].
        noise: Probability that the first feature is that of the other class, in [0, 1].

    Raises:
        ValueError: for an argument out of range.

    Paper: The Pitfalls of Simplicity Bias in Neural Networks.
    """
    in_range("slabs", slabs, 1.0)
    in_range("dimension", dimension, float(len(slabs)))
    in_range("margin", margin, 0.0, 1.0)
    in_range("half_width", half_width, 0.0, 0.5)
    in_range("noise", noise, 0.0, 1.0)
    of_rest, of_noise, *of_features = jr.split(key, 2 + len(slabs))
    labels = 1.0 - 2.0 * (jnp.arange(n) % 2)
    columns = []
    for number, (k, of_feature) in enumerate(zip(slabs, of_features, strict=True)):
        of_place, of_slab = jr.split(of_feature)
        y = jnp.where(jr.bernoulli(of_noise, noise, (n,)), -labels, labels) if number == 0 else labels
        if k == 1:
            columns.append(y * jr.uniform(of_place, (n,), minval=margin))
            continue
        slab = 2 * jr.randint(of_slab, (n,), 0, jnp.where(y > 0, k // 2, k - k // 2)) + (y > 0)
        columns.append(slab - (k - 1) / 2 + half_width * jr.uniform(of_place, (n,), minval=-1.0))
    rest = jr.normal(of_rest, (n, dimension - len(slabs)))
    return jnp.concatenate([jnp.stack(columns, 1), rest], 1), labels


def randomized_auc(
    predict: Callable[[Float[Array, "n d"]], Float[Array | np.ndarray, " n"]],
    inputs: Float[Array | np.ndarray, "n d"],
    labels: Float[Array | np.ndarray, " n"],
    columns: tuple[int, ...],
    key: PRNGKeyArray,
) -> float:
    """Area under the ROC curve of a model's scores where some coordinates are randomized (`randomize_columns`).

    About 1/2 says that the model needs them; as much as without, that it does not look at them. Not for use inside a
    compiled program.

    Arguments:
        predict: Scores of a batch, larger for the class of larger label.
        inputs: A batch.
        labels: Of two classes.
        columns: Which coordinates; none: the plain area.
        key: Of the permutation of examples.

    Raises:
        ValueError: if a column is out of range.

    Paper: The Pitfalls of Simplicity Bias in Neural Networks.
    """
    return float(roc_auc_score(np.asarray(labels), np.asarray(predict(randomize_columns(inputs, columns, key)))))


def structured_task(
    key: PRNGKeyArray, n: int, dimension: int, alignment: Scalar, noise: Scalar = 0.3
) -> tuple[Float[Array, "n d"], Float[Array, " n"]]:
    r"""Four clusters of two signs s, t with the label s t, more or less aligned with the inputs: ``(inputs, labels)``.

    $$ x = \sqrt{(1 - a) / 2}\, (s\, e_1 + t\, e_2) + \sqrt a\, s t\, e_3 + \sigma \xi / \sqrt d $$

    with random orthonormal $e_i$ and standard normal $\xi$. At a = 0 the label is an exclusive or, at a = 1 it is the
    clusters' only direction; without noise the centered kernels of inputs and labels align by
    $a / \sqrt{(1 - a)^2 / 2 + a^2}$.

    Arguments:
        key: Of the directions and the noise.
        n: Examples; a multiple of four has the clusters equal.
        dimension: d, at least 3.
        alignment: a, in [0, 1].
        noise: $\sigma$, its expected length, in [0, inf).

    Raises:
        ValueError: for an argument out of range.

    Paper: Task structure and nonlinearity jointly determine learned representational geometry.
    """
    in_range("dimension", dimension, 3.0)
    in_range("alignment", alignment, 0.0, 1.0)
    in_range("noise", noise, 0.0)
    of_directions, of_noise = jr.split(key)
    directions = jnp.linalg.qr(jr.normal(of_directions, (dimension, 3)))[0]
    s, t = 1.0 - 2.0 * (jnp.arange(n) % 2), 1.0 - 2.0 * (jnp.arange(n) // 2 % 2)
    side = jnp.sqrt((1 - alignment) / 2)
    clusters = jnp.stack([side * s, side * t, jnp.sqrt(alignment) * s * t], 1) @ directions.T
    return clusters + noise * dimension**-0.5 * jr.normal(of_noise, (n, dimension)), s * t
