"""Neural collapse: how far the last layer's features are from class means that form a simplex."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int


class Collapse(NamedTuple):
    """The four measures of neural collapse, each 0 where it is complete.

    Attributes:
        within: NC1, variation inside the classes over that between them.
        norms: NC2, spread of the lengths of the centered class means, over their mean.
        angles: NC2, mean distance of their pairwise cosines from -1 / (C - 1).
        duality: NC3, squared distance between classifier and centered means, each of norm 1; NaN without a classifier.
        nearest: NC4, share of examples that the classifier puts elsewhere than the nearest class mean does; NaN
            without a classifier.
    """

    within: Float[Array, ""]
    norms: Float[Array, ""]
    angles: Float[Array, ""]
    duality: Float[Array, ""]
    nearest: Float[Array, ""]


def neural_collapse(
    features: Float[Array, "n d"],
    labels: Int[Array, " n"],
    classes: int,
    weight: Float[Array, "C d"] | None = None,
    bias: Float[Array, " C"] | None = None,
) -> Collapse:
    r"""NC1 to NC4 of a layer's features (Papyan, Han, Donoho 2020, 2008.08186).

    With class means $\mu_c$, their mean $\mu_G$ (every class counts alike, whatever its size), and the covariances
    $\Sigma_W$ within and $\Sigma_B$ between the classes: NC1 is $\operatorname{tr}(\Sigma_W \Sigma_B^\dagger) / C$.
    All $\mu_c - \mu_G$ have one length and cosines $-1 / (C - 1)$ where NC2 is 0, and the rows of the classifier are
    proportional to them where NC3 is.

    Arguments:
        features: Inputs of the last layer.
        labels: Classes 0 … C - 1; each has to occur.
        classes: C, at least 2.
        weight: Of the last layer, as Equinox and PyTorch store it.
        bias: Of the last layer; default: none.

    Raises:
        ValueError: if there are fewer than two classes.

    Paper: Neural Collapse in Deep Linear Networks: From Balanced to Imbalanced Data.
    """
    if classes < 2:
        raise ValueError(f"classes: expected at least 2, got {classes}")
    member = jax.nn.one_hot(labels, classes, dtype=features.dtype)  # (n, C)
    share = member / member.sum(0)
    means = share.T @ features
    centered = means - means.mean(0)
    apart = features - means[labels]
    within = jnp.einsum("nc,nd,ne->de", share, apart, apart) / classes
    between = centered.T @ centered / classes
    lengths = jnp.linalg.norm(centered, axis=1)
    cosines = (centered / lengths[:, None]) @ (centered / lengths[:, None]).T
    pairs = ~jnp.eye(classes, dtype=bool)
    nan = jnp.full((), jnp.nan, features.dtype)
    duality = nearest = nan
    if weight is not None:
        unit = [m / jnp.linalg.norm(m) for m in (weight, centered)]
        duality = jnp.sum((unit[0] - unit[1]) ** 2)
        chosen = jnp.argmax(features @ weight.T + (0 if bias is None else bias), 1)
        distances = jnp.sum((features[:, None] - means) ** 2, -1)
        nearest = jnp.mean(chosen != jnp.argmin(distances, 1), dtype=features.dtype)
    # Of rank C - 1: what rounding leaves below is no direction between classes.
    inverse = jnp.linalg.pinv(between, rtol=max(between.shape) * jnp.finfo(between.dtype).eps * 10, hermitian=True)
    return Collapse(
        jnp.trace(within @ inverse) / classes,
        jnp.std(lengths) / lengths.mean(),
        jnp.sum(jnp.abs(cosines + 1 / (classes - 1)), where=pairs) / (classes * (classes - 1)),
        duality,
        nearest,
    )
