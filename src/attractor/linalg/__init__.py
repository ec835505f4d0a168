"""Linear systems, fixed points and optimal transport."""

from attractor.linalg.sinkhorn import (
    Transport,
    ot_dual_potential,
    sinkhorn,
    sinkhorn_newton_sparse,
    sparse_dual_hessian,
)

__all__ = ["Transport", "ot_dual_potential", "sinkhorn", "sinkhorn_newton_sparse", "sparse_dual_hessian"]
