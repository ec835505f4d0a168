"""Chaotic systems, Koopman operators, integrators."""

from attractor.dynamics.chaos import (
    ChaoticSystem,
    chaos_registry,
    chaotic_system,
    jax_field,
    rk4_step,
    trajectory,
)
from attractor.dynamics.forecasting import (
    esn_forecast,
    forecast_benchmark,
    mean_forecast,
    nvar_forecast,
    sample_systems,
    smape,
)
from attractor.dynamics.lyapunov import lyapunov_spectrum

__all__ = [
    "ChaoticSystem",
    "chaos_registry",
    "chaotic_system",
    "esn_forecast",
    "forecast_benchmark",
    "jax_field",
    "lyapunov_spectrum",
    "mean_forecast",
    "nvar_forecast",
    "rk4_step",
    "sample_systems",
    "smape",
    "trajectory",
]
