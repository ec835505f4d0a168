"""Curvature: Newton, Gauss-Newton, natural gradient, Kronecker factors."""

from attractor.second_order.curvature import block_average, hutchinson_diagonal, hvp, rademacher_like
from attractor.second_order.diagonal import adahessian, scale_by_adahessian, spatial_average

__all__ = [
    "adahessian",
    "block_average",
    "hutchinson_diagonal",
    "hvp",
    "rademacher_like",
    "scale_by_adahessian",
    "spatial_average",
]
