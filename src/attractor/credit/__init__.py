"""Credit assignment without backpropagation."""

from attractor.credit.adaptation import (
    Normalization,
    NormalizedNetwork,
    StreamAdaptation,
    prediction_entropy,
    soft_hebb,
)
from attractor.credit.assemblies import (
    Projection,
    assembly_project,
    firing,
    hebb,
    k_cap,
    oja,
    random_area,
    random_stdp,
    stdp,
    support,
)
from attractor.credit.equilibrium import (
    Equilibrium,
    EquilibriumGradient,
    EquilibriumLoss,
    equilibrium_descent,
    equilibrium_digits,
    equilibrium_propagation,
    jacobian_asymmetry,
    layers_drive,
    layers_loss,
    settling_params,
)
from attractor.credit.feasibility import MarginNetwork, ProjectionTraining, margin_digits
from attractor.credit.feedback_alignment import direct_feedback, direct_feedback_descent, feedback_matrices
from attractor.credit.forward import (
    EstimatorStats,
    ForwardGradient,
    directional_gradient,
    estimator_stats,
    forward_gradient,
    forward_gradient_descent,
    value_and_forward_gradient,
)
from attractor.credit.guided import (
    Guided,
    GuidedGradient,
    first_heads,
    guided_forward_descent,
    guided_gradient,
)
from attractor.credit.layer_splitting import LayerSplitting, SplitNetwork, leaky_proximal, split_digits
from attractor.credit.layered import (
    Layered,
    LayeredGradient,
    LayeredLoss,
    Quality,
    backpropagation,
    dense,
    dense_params,
    estimator_quality,
    layered_digits,
    local_gradient,
    plain,
)
from attractor.credit.likelihood_ratio import likelihood_ratio, likelihood_ratio_descent, smoothed_backpropagation
from attractor.credit.local_losses import (
    forward_forward_loss,
    goodness,
    goodness_by_label,
    with_label,
    wrong_labels,
)
from attractor.credit.quantized_backward import Steps, few_bit, pack, step_approximation, stored_bytes, unpack
from attractor.credit.straight_through import (
    binary_dense,
    categorical_bound,
    exact_categorical_gradient,
    expected_categorical_gradient,
    gumbel_straight_through,
    power_sign,
    power_sign_slope,
    reinmax,
    sign_through,
    sign_with_slope,
    straight_through,
)
from attractor.credit.unrolled import UnrolledLoss, jacobian_growth, jacobian_spectrum
