"""First-order minimization: optax transformations and wrappers around them."""

import attractor.optim.kept as _kept  # noqa: F401  (registers what optax keeps)
from attractor.optim.perceptron import OutputNormalized, logistic_loss, margins, perceptron_loss
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
from attractor.optim.stationarity import goldstein_norm, min_norm_in_hull
from attractor.optim.weight_decay import (
    add_cautious_decayed_weights,
    cautious_adamw,
    cautious_lion,
    cautious_muon,
    cautious_sgdm,
    cautious_weight_decay,
)

__all__ = [
    "OutputNormalized",
    "add_cautious_decayed_weights",
    "add_penalty",
    "binary_penalty",
    "cauchy_schwarz_gap",
    "cautious_adamw",
    "cautious_lion",
    "cautious_muon",
    "cautious_sgdm",
    "cautious_weight_decay",
    "eigenvector_penalty",
    "goldstein_norm",
    "logistic_loss",
    "margins",
    "min_norm_in_hull",
    "on_affine_set",
    "one_sided_penalty",
    "orthogonal_penalty",
    "perceptron_loss",
    "random_scaled_sgdm",
    "random_scaling",
    "ternary_penalty",
]
