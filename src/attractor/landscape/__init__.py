"""What the loss surface looks like from where training stands."""

from attractor.landscape.activity import Rank, UnitActivity, soft_rank, unit_activity, update_ratios
from attractor.landscape.algebraic_tasks import (
    FourierNodes,
    QuadraticNet,
    composed_modular_addition,
    cyclic_nodes,
    fourier_nodes,
    frequency_share,
    grid_error,
    group_norm,
    largest_modular_margin,
    max_margin_modular_addition,
    max_margin_parity,
    modular_addition_loss,
    monomial_potential,
    normalized_margin,
    order_six_nodes,
    parity_margin,
    potential_loss,
    sums_modulo,
)
from attractor.landscape.collapse import Collapse, neural_collapse
from attractor.landscape.concept_space import (
    composed_embedding,
    concept_coordinates,
    concept_signal,
    overprompt,
)
from attractor.landscape.paths import Barrier, filter_normalized, linear_barrier, loss_slice, random_subspace
from attractor.landscape.scaling_laws import (
    Frontier,
    Modes,
    Phase,
    PowerLawRandomFeatures,
    compute_optimal_frontier,
    log_spaced_steps,
    power_law_random_features,
    scaling_phase,
    sgd_volterra_loss,
)
from attractor.landscape.similarity import Matching, linear_cka, match_units
from attractor.landscape.single_index import (
    csq_queries,
    cyclic_group,
    gradient_variance_over_targets,
    haar_unitary_eigenvalues,
    hypercube,
    information_exponent,
    power_sum_features,
    single_index_field,
    subset_orbits,
    symmetric_single_index_flow,
    symmetrized_parities,
    time_to_overlap,
)
from attractor.landscape.spectrum import (
    SpectralDensity,
    extreme_eigenvalues,
    gradient_subspace_fraction,
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
