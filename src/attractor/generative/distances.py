"""Distances between samples and distributions that are known."""

import numpy as np
from jaxtyping import Float
from scipy.special import ndtri

from attractor.checks import in_range


def sliced_wasserstein_to_normal(
    points: Float[np.ndarray, "n 2"], root: Float[np.ndarray, "2 2"], projections: int = 64
) -> float:
    r"""Sliced Wasserstein-2 distance between points of the plane and $N(0, R R^\top)$.

    The root of the mean over directions of the squared distance between projections; those of the normal distribution
    have known quantiles.

    Arguments:
        points: One per row.
        root: R, symmetric.
        projections: Directions, evenly spread over half a turn, at least 1.

    Raises:
        ValueError: if ``projections`` is out of range.
    """
    in_range("projections", projections, 1)
    angle = np.arange(projections) * np.pi / projections
    directions = np.stack([np.cos(angle), np.sin(angle)])
    quantiles = ndtri((np.arange(len(points)) + 0.5) / len(points))
    target = quantiles[:, None] * np.linalg.norm(root @ directions, axis=0)
    return float(((np.sort(points @ directions, axis=0) - target) ** 2).mean() ** 0.5)
