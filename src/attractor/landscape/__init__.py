"""What the loss surface looks like from where training stands."""

from attractor.landscape.activity import Rank, UnitActivity, soft_rank, unit_activity, update_ratios
from attractor.landscape.collapse import Collapse, neural_collapse
from attractor.landscape.dynamical_stability import sgd_second_moment, sgd_stability_threshold
from attractor.landscape.edge_of_stability import (
    CentralFlow,
    CentralState,
    QuadraticRegression,
    oscillation_covariance,
    scalar_network_flow_sharpness,
    scalar_network_flow_solution,
    scalar_network_loss,
    squared_regression_flow_sharpness,
)
from attractor.landscape.linear_attention import LinearTransformer, in_context_regression
from attractor.landscape.paths import Barrier, filter_normalized, linear_barrier, loss_slice, random_subspace
from attractor.landscape.similarity import Matching, linear_cka, match_units
from attractor.landscape.spectrum import (
    SpectralDensity,
    count_outliers,
    extreme_eigenvalues,
    gradient_subspace_fraction,
    hessian_spectrum,
    robust_condition_number,
    spectral_density,
    subspace_overlap,
    top_hessian_eigs,
)
from attractor.landscape.stability import (
    NoiseScale,
    Sharpness,
    adam_preconditioner,
    antisymmetry,
    gradient_noise_scale,
    preconditioned,
    sharpness,
    stability_threshold,
)
from attractor.landscape.tangent_kernel import (
    kernel_alignment,
    sketched_tangent_kernel,
    tangent_kernel,
    tangent_kernel_product,
)
