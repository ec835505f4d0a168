"""Linear systems, fixed points and optimal transport."""

from attractor.linalg.amplification import Amplified, amplified_sampling, rotations_needed
from attractor.linalg.sinkhorn import (
    Transport,
    ot_dual_potential,
    sinkhorn,
    sinkhorn_newton_sparse,
    sparse_dual_hessian,
)

__all__ = [
    "Amplified",
    "Transport",
    "amplified_sampling",
    "ot_dual_potential",
    "rotations_needed",
    "sinkhorn",
    "sinkhorn_newton_sparse",
    "sparse_dual_hessian",
]
