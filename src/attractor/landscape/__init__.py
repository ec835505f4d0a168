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
from attractor.landscape.concept_space import composed_embedding, concept_coordinates, concept_signal, overprompt
from attractor.landscape.deep_limits import (
    controlled_resnet,
    layer_differences,
    neural_signature_kernel,
    refine_layers,
    scaled_resnet,
    signature_kernel,
)
from attractor.landscape.deep_linear import (
    bures_wasserstein,
    decoupled_start,
    deep_linear_loss,
    deep_linear_map,
    generator_critical_points,
    generator_loss,
    learning_time,
    mode_strength,
    train_deep_linear,
)
from attractor.landscape.distillation import (
    batch_normalized_features,
    distillation_loss,
    linear_probe,
    near_teacher,
    projection_logits,
)
from attractor.landscape.dynamical_stability import diagonal_network_sgd, sgd_second_moment, sgd_stability_threshold
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
from attractor.landscape.feature_learning import (
    FeatureResponses,
    decoupled_margin,
    feature_responses,
    randomize_columns,
    randomized_auc,
    slab_data,
    spectral_decoupling,
    structured_task,
    two_moons,
)
from attractor.landscape.kernel_regression import hierarchical_kernels, learning_curve, patch_cosines, sphere_patches
from attractor.landscape.lazy_training import (
    centered,
    grokking_gap,
    linearized,
    quadratic_teacher,
    quadratic_test_loss,
    quadratic_units,
    quadratic_units_kernel,
)
from attractor.landscape.linear_attention import LinearTransformer, in_context_regression
from attractor.landscape.linearization import Linearized, average_path_length, freeze_linear, nonlinearity_penalty
from attractor.landscape.matrix_sensing import (
    kronecker_power,
    normal_operator,
    perturbed_completion,
    sensing_descent,
    spurious_completion,
    unbalanced_factors,
    weighted_factor_hessian,
    weighted_factor_loss,
)
from attractor.landscape.paths import (
    Barrier,
    filter_normalized,
    intrinsic_dimension,
    linear_barrier,
    loss_slice,
    random_subspace,
)
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
from attractor.landscape.singular_values import (
    coulomb_drift,
    singular_value_langevin,
    singular_value_phase,
    student_singular_values,
    wigner_surmise,
)
from attractor.landscape.spectrum import (
    SpectralDensity,
    count_outliers,
    extreme_eigenvalues,
    gradient_subspace_fraction,
    hessian_spectrum,
    lanczos_coefficients,
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
from attractor.landscape.unconstrained_features import (
    anchored_features,
    best_classifier,
    collapsed_strengths,
    feature_pull,
    free_features_loss,
)
from attractor.landscape.wide_limits import (
    RELU,
    Contractions,
    Criticality,
    Dual,
    LayerRecursion,
    PiecewiseLinear,
    WideKernels,
    WideMLP,
    correlation_exponent,
    criticality,
    derivative_contractions,
    dual_activation,
    infinite_ntk,
    kernel_recursion,
    linearized_dynamics,
    recorded_descent,
)
