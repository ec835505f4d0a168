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
