"""Curvature: Newton, Gauss-Newton, natural gradient, Kronecker factors."""

from attractor.second_order.curvature import block_average, hutchinson_diagonal, hvp, rademacher_like
from attractor.second_order.diagonal import adahessian, scale_by_adahessian, spatial_average
from attractor.second_order.gauss_newton import GaussNewton, dual_direction
from attractor.second_order.newton import LazyNewton, cubic_step
from attractor.second_order.saddle_free import SaddleFreeNewton, abs_hessian_solve, krylov_basis

__all__ = [
    "GaussNewton",
    "LazyNewton",
    "SaddleFreeNewton",
    "abs_hessian_solve",
    "adahessian",
    "block_average",
    "cubic_step",
    "dual_direction",
    "hutchinson_diagonal",
    "hvp",
    "krylov_basis",
    "rademacher_like",
    "scale_by_adahessian",
    "spatial_average",
]
