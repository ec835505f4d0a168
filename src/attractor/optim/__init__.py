"""First-order minimization: optax transformations and wrappers around them."""

import attractor.optim.kept as _kept  # noqa: F401  (registers what optax keeps)
from attractor.optim.weight_decay import (
    add_cautious_decayed_weights,
    cautious_adamw,
    cautious_lion,
    cautious_muon,
    cautious_sgdm,
    cautious_weight_decay,
)

__all__ = [
    "add_cautious_decayed_weights",
    "cautious_adamw",
    "cautious_lion",
    "cautious_muon",
    "cautious_sgdm",
    "cautious_weight_decay",
]
