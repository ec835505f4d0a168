"""First-order minimization: optax transformations and wrappers around them."""

import attractor.optim.kept as _kept  # noqa: F401  (registers what optax keeps)
from attractor.optim.adaptive import (
    adamomentum,
    exadam,
    growing_schedule,
    half_life_schedule,
    scale_by_adagrad_norm,
    scale_by_adamomentum,
    scale_by_exadam,
)
from attractor.optim.batch_size import AdaptiveBatch, adadagrad, adadagrad_norm
from attractor.optim.model_based import ModelBased
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
from attractor.optim.online import convert_online_learner, online_to_nonconvex
from attractor.optim.perceptron import OutputNormalized, logistic_loss, margins, perceptron_loss
from attractor.optim.private import PrivateDescent, gaussian_noise, normalized_mean, zcdp_budget, zcdp_epsilon
from attractor.optim.projected import adamp, project_out_radial, sgdp
from attractor.optim.random_scaling import random_scaled_sgdm, random_scaling
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
from attractor.optim.sign import lion_k, lion_lyapunov, scale_by_lion_k, signs, unit_vector
from attractor.optim.stationarity import goldstein_norm, min_norm_in_hull, moreau_gradient
from attractor.optim.stochastic_approximation import (
    averaged_covariance,
    hill_estimator,
    kesten_tail_index,
    linear_stochastic_approximation,
    stationary_covariance,
)
from attractor.optim.subgradient import subgradient_descent
from attractor.optim.weight_decay import (
    add_cautious_decayed_weights,
    cautious_adamw,
    cautious_lion,
    cautious_muon,
    cautious_sgdm,
    cautious_weight_decay,
)

__all__ = [
    "AdaptiveBatch",
    "CombinedGradient",
    "ModelBased",
    "MomentumConfig",
    "OutputNormalized",
    "PrivateDescent",
    "adadagrad",
    "adadagrad_norm",
    "adamomentum",
    "adamp",
    "add_cautious_decayed_weights",
    "add_penalty",
    "averaged_covariance",
    "binary_penalty",
    "bloop",
    "cauchy_schwarz_gap",
    "cautious_adamw",
    "cautious_lion",
    "cautious_muon",
    "cautious_sgdm",
    "cautious_weight_decay",
    "combine_gradients",
    "config",
    "conflict_free_direction",
    "convert_online_learner",
    "eigenvector_penalty",
    "exadam",
    "gaussian_noise",
    "goldstein_norm",
    "growing_schedule",
    "half_life_schedule",
    "hill_estimator",
    "kesten_tail_index",
    "linear_stochastic_approximation",
    "lion_k",
    "lion_lyapunov",
    "logistic_loss",
    "margins",
    "min_norm_in_hull",
    "moreau_gradient",
    "normalized_mean",
    "on_affine_set",
    "one_sided_penalty",
    "online_to_nonconvex",
    "orthogonal_penalty",
    "pcgrad",
    "perceptron_loss",
    "project_auxiliary",
    "project_out_radial",
    "projected_sum",
    "random_scaled_sgdm",
    "random_scaling",
    "scale_by_adagrad_norm",
    "scale_by_adamomentum",
    "scale_by_exadam",
    "scale_by_lion_k",
    "sgdp",
    "signs",
    "stationary_covariance",
    "subgradient_descent",
    "ternary_penalty",
    "unit_vector",
    "zcdp_budget",
    "zcdp_epsilon",
]
