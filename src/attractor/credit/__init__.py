"""Credit assignment without backpropagation."""

from attractor.credit.forward import (
    EstimatorStats,
    ForwardGradient,
    directional_gradient,
    estimator_stats,
    forward_gradient,
    forward_gradient_descent,
    value_and_forward_gradient,
)
