"""First-order minimization: optax transformations and wrappers around them."""

import attractor.optim.kept as _kept  # registers what optax keeps
from attractor.optim.adaptive import (
    adam_mini,
    adamomentum,
    ademamix,
    correct_gradients,
    exadam,
    growing_schedule,
    half_life_schedule,
    mars,
    scale_by_adagrad_norm,
    scale_by_adam_mini,
    scale_by_adamomentum,
    scale_by_exadam,
)
from attractor.optim.averaged_iteration import AveragedIteration, open_loop
from attractor.optim.batch_size import AdaptiveBatch, adadagrad, adadagrad_norm
from attractor.optim.block_descent import (
    block_proximal_descent,
    cp_tensor,
    dictionary_start,
    divergence_cp,
    entropic_conjugate,
    entropic_cost,
    feasible_descent,
    nonnegative_cp,
    sinkhorn_divergence,
    wasserstein_cp_dictionary,
)
from attractor.optim.common_descent import CommonDescent, common_descent, largest_front_gap, scalarized
from attractor.optim.convex_networks import (
    ReluNetwork,
    convex_adversarial_relu,
    convex_relu_admm,
    recover_relu_network,
    relu_dual_bound,
    relu_training_loss,
    robust_arrangements,
    sample_relu_arrangements,
    sampled_convex_program,
)
from attractor.optim.delay import adaptive_braking, delay_gradients, trace_with_braking
from attractor.optim.fractional import (
    AffineForm,
    FractionalProgram,
    TopKNorm,
    dinkelbach,
    fractional_coordinate_descent,
)
from attractor.optim.functional_teaching import (
    functional_gradient_learner,
    functional_teaching,
    gaussian_kernel,
    iterative_teaching_dimension,
)
from attractor.optim.gradient_penalty import (
    differentiated_difference,
    double_backpropagation,
    flooding,
    gradient_penalty_sgd,
    penalize_gradient_norm,
)
from attractor.optim.maximal_loss import (
    BallAcceleration,
    BallDescent,
    amplified_categorical,
    categorical,
    minimize_in_ball,
    soft_maximum,
)
from attractor.optim.mirror import hypentropy_descent, least_hypentropy
from attractor.optim.model_based import ModelBased
from attractor.optim.momentum import heavy_ball, nesterov, triple_momentum, two_step_momentum
from attractor.optim.multi_objective import (
    CombinedGradient,
    MomentumConfig,
    bloop,
    combine_gradients,
    config,
    conflict_free_direction,
    pcgrad,
    project_auxiliary,
    projected_sum,
)
from attractor.optim.normalized import change_of_gradient, normalized_gd, scale_by_norm_power
from attractor.optim.online import convert_online_learner, online_to_nonconvex
from attractor.optim.perceptron import OutputNormalized, logistic_loss, margins, perceptron_loss
from attractor.optim.phase_field import GinzburgLandau
from attractor.optim.primal_dual import (
    image_gradient,
    operator_norm,
    primal_dual_hybrid_gradient,
    total_variation,
    tv_objective,
    tv_reconstruction,
)
from attractor.optim.private import PrivateDescent, gaussian_noise, normalized_mean, zcdp_budget, zcdp_epsilon
from attractor.optim.projected import adamp, project_out_radial, sgdp
from attractor.optim.proximal import apply_prox, exponentiated_gradient, proximal_gradient, proximal_sgd
from attractor.optim.quasar_convex import (
    VarianceReduced,
    quasar_accelerated,
    quasar_accelerated_svrg,
    quasar_convexity,
    quasar_convexity_within,
)
from attractor.optim.random_scaling import random_scaled_sgdm, random_scaling
from attractor.optim.rates import (
    averaging_momentum,
    bounded_quantity,
    convergence_bound,
    largest_step,
    minibatch_constants,
    recursion_slack,
    svrg_contraction,
)
from attractor.optim.recurrent_penalty import (
    backward_signals,
    jacobian_product_norms,
    vanishing_gradient_penalty,
)
from attractor.optim.regularization_by_denoising import (
    fit_separable,
    principal_denoiser,
    red_gradient_descent,
    red_penalty,
    red_prox,
    separable_red,
)
from attractor.optim.regularizers import (
    add_penalty,
    binary_penalty,
    cauchy_schwarz_gap,
    eigenvector_penalty,
    on_affine_set,
    one_sided_penalty,
    orthogonal_penalty,
    ternary_penalty,
)
from attractor.optim.schedules import inverse_power_schedule, last_iterate_schedule, uba_schedule
from attractor.optim.sign import (
    lion_k,
    lion_lyapunov,
    scale_by_lion_k,
    signs,
    smoothed_absolute_conjugate,
    smoothed_absolute_sum,
    unit_vector,
)
from attractor.optim.spectral import (
    muon,
    newton_schulz,
    normuon,
    scale_by_muon,
    scale_by_normuon,
    scale_by_scion,
    scion,
)
from attractor.optim.splitting import Admm, admm, fista
from attractor.optim.stationarity import (
    CriticalPoints,
    averaged_gradients,
    critical_points,
    goldstein_norm,
    min_norm_in_hull,
    moreau_gradient,
    stationary_point,
)
from attractor.optim.stochastic_approximation import (
    averaged_covariance,
    hill_estimator,
    kesten_tail_index,
    linear_stochastic_approximation,
    stationary_covariance,
)
from attractor.optim.subgradient import subgradient_descent
from attractor.optim.surrogate import ProxyProximal, TargetSurrogate, target_surrogate
from attractor.optim.variance_reduction import CyclicBlockDescent, NormalizedSpider, PrivateSpider, Svrg, page
from attractor.optim.weight_decay import (
    add_cautious_decayed_weights,
    cautious_adamw,
    cautious_lion,
    cautious_muon,
    cautious_sgdm,
    cautious_weight_decay,
)
from attractor.optim.whitening import (
    fading_schedule,
    kron,
    scale_by_kron,
    scale_by_shampoo,
    scale_by_soap,
    shampoo,
    soap,
    spectral_norm_bound,
)
