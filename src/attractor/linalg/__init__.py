"""Numerics that all rooms share: products with curvature, Krylov spaces, proximal maps, trust regions, transport."""

from attractor.linalg.amplification import Amplified, amplified_sampling, rotations_needed
from attractor.linalg.curvature import (
    empirical_fisher_product,
    fisher,
    ggn,
    hvp,
)
from attractor.linalg.fixed_point import Halpern
from attractor.linalg.hutchinson import (
    block_average,
    hutchinson_diagonal,
    hutchinson_trace,
    hutchpp_trace,
    rademacher_like,
)
from attractor.linalg.lanczos import (
    Eigenpairs,
    krylov_basis,
    top_eigenpairs,
    tridiagonalize,
)
from attractor.linalg.proximal import (
    group_envelope,
    group_envelope_gap,
    group_soft_threshold,
    lasso,
    prox_group_envelope,
    prox_group_lasso,
    soft_threshold,
)
from attractor.linalg.sinkhorn import (
    Transport,
    ot_dual_potential,
    sinkhorn,
    sinkhorn_newton_sparse,
    sparse_dual_hessian,
)
from attractor.linalg.trust_region import (
    trust_region_step,
)
