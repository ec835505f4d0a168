"""Subgradient descent with geometrically decaying steps."""

from typing import Any

import optax

from attractor.checks import Scalar, in_range
from attractor.registry import LogUniform, method

_SPACE: dict[str, Any] = {"learning_rate": LogUniform(1e-3, 1.0)}


@method("subgradient-descent", _SPACE, paper="subgm-robust-matrix-recovery", bad={"learning_rate": -1.0, "decay": 1.5})
def subgradient_descent(learning_rate: Scalar = 0.1, decay: Scalar = 0.99) -> optax.GradientTransformation:
    r"""Subgradient steps that shrink by a constant factor.

    $$ x_{t+1} = x_t - \eta \rho^t g_t, \qquad g_t \in \partial f(x_t) $$

    On a sharp loss, such as a sum of absolute residuals that determine their solution, the distance to it shrinks by
    the same factor, where a constant step would stall. Together the steps can move x by $\eta / (1 - \rho)$
    subgradients: a start next to a saddle point needs a slow decay.

    Arguments:
        learning_rate: The first step eta, in (0, inf).
        decay: The factor rho, in (0, 1]; 1 keeps the step.

    Raises:
        ValueError: for a hyper-parameter out of range.

    Paper: Global Convergence of Sub-gradient Method for Robust Matrix Recovery: Small Initialization, Noisy
    Measurements, and Over-parameterization.
    """
    in_range("learning_rate", learning_rate, 0.0, open_low=True)
    in_range("decay", decay, 0.0, 1.0, open_low=True)
    return optax.scale_by_learning_rate(lambda step: learning_rate * decay**step)
