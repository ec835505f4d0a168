"""Numerics that all rooms share: products with curvature, Krylov spaces, proximal maps, trust regions, transport."""

from attractor.linalg.amplification import Amplified, amplified_sampling, rotations_needed
from attractor.linalg.conjugate_directions import (
    Conjugated,
    conjugate_directions,
    direction_loss,
    ritz_right_sides,
)
from attractor.linalg.continued_fractions import (
    Dynamics,
    Limits,
    Match,
    certified,
    convergents,
    dynamics,
    fraction_grid,
    limits,
    recognize,
)
from attractor.linalg.curvature import (
    empirical_fisher_product,
    fisher,
    ggn,
    hvp,
)
from attractor.linalg.determinantal import (
    Fit,
    christoffel,
    independent_points,
    legendre,
    orthonormal,
    projection_dpp,
    repeated_dpp,
    volume_points,
    weighted_least_squares,
)
from attractor.linalg.exact import (
    Reduced,
    Solution,
    crt,
    eliminate_mod,
    primes_below,
    rational_reconstruct,
    rref_mod,
    solve_by_fractions,
    solve_rational,
)
from attractor.linalg.fixed_point import Halpern
from attractor.linalg.hutchinson import (
    block_average,
    hutchinson_diagonal,
    hutchinson_trace,
    hutchpp_trace,
    rademacher_like,
)
from attractor.linalg.infeasibility import (
    Certificate,
    Displacement,
    certificate,
    douglas_rachford,
    infimal_displacement,
    linear_program_operator,
)
from attractor.linalg.krylov_recycling import Recycled, gcro_dr, greedy_order, solve_sequence
from attractor.linalg.lanczos import (
    Eigenpairs,
    krylov_basis,
    top_eigenpairs,
    tridiagonalize,
)
from attractor.linalg.matrix_roots import (
    lyapunov_sign,
    sqrtm,
    sqrtm_eigh,
    sqrtm_newton_schulz,
)
from attractor.linalg.minimax import Minimax, remez
from attractor.linalg.parallel_evaluation import Evaluated, parallel_evaluation
from attractor.linalg.preconditioners import (
    factor_loss,
    factor_product,
    incomplete_cholesky,
    network_entries,
    network_factor,
    triangular_solves,
)
from attractor.linalg.proximal import (
    group_envelope,
    group_envelope_gap,
    group_soft_threshold,
    lasso,
    onto_balanced_box,
    prox_group_envelope,
    prox_group_lasso,
    soft_threshold,
)
from attractor.linalg.quantum_systems import Prepared, hermitian_dilation, hhl
from attractor.linalg.relaxation import ChebyshevBandit, Relaxed, TsallisInf, learn_to_relax, sor
from attractor.linalg.rotations import Rotation, givens
from attractor.linalg.sinkhorn import (
    Transport,
    ot_dual_potential,
    sinkhorn,
    sinkhorn_newton_sparse,
    sparse_dual_hessian,
)
from attractor.linalg.stiefel import nearest_frame, tangent_part
from attractor.linalg.trust_region import (
    trust_region_step,
)
