"""Clusters of points, one a class."""

import numpy as np
from jaxtyping import Float

from attractor.checks import in_range


def gaussian_clusters(
    seed: int, classes: int, outputs: int = 8, dim: int = 10, examples: int = 160
) -> tuple[Float[np.ndarray, "n d"], Float[np.ndarray, "n k"], Float[np.ndarray, " k"]]:
    """Clusters with orthogonal means of length 3 and deviations of 0.2, for a network with more outputs than classes.

    Arguments:
        seed: Of the draw.
        classes: From 1 to ``outputs``.
        outputs: k, at most ``dim``.
        dim: d, at least 1.
        examples: n, at least 1.

    Returns:
        Points, one-hot labels, and what to add to the outputs: -1e9 where there is no class, else 0.

    Raises:
        ValueError: for an argument out of range.
    """
    in_range("classes", classes, 1, outputs)
    in_range("dim", dim, 1)
    in_range("examples", examples, 1)
    rng, labels = np.random.default_rng([seed, 2]), np.arange(examples) % classes
    means = 3 * np.linalg.qr(rng.standard_normal((dim, dim)))[0]
    cut = np.where(np.arange(outputs) < classes, 0.0, -1e9)
    return means[labels] + 0.2 * rng.standard_normal((examples, dim)), np.eye(outputs)[labels], cut
