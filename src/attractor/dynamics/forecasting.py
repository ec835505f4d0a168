"""Forecasting time series of a dynamical system: reservoir computers, nonlinear vector autoregression, sMAPE.

A forecaster is a function ``(history (t, d), horizon) -> forecast (horizon, d)``. Both learn, by ridge regression on
standardized coordinates, the increment from a point to the next one, and forecast by feeding back what they predict.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from jax import lax
from jaxtyping import Array, Float

from attractor.checks import in_range
from attractor.dynamics.chaos import ChaoticSystem, trajectory
from attractor.registry import part

Forecaster = Callable[[Float[Array, "t d"], int], Float[Array, "horizon d"]]


def smape(actual: Float[Array, "*n"], forecast: Float[Array, "*n"]) -> Float[Array, ""]:
    r"""Symmetric mean absolute percentage error, $\frac{200}{n}\sum\frac{|y - \hat y|}{|y| + |\hat y|}$.

    It lies between 0 and 200; a forecast that is not finite counts as 200, and 0/0 as no error.
    """
    total = jnp.abs(actual) + jnp.abs(forecast)
    error = jnp.where(total > 0, jnp.abs(actual - forecast) / jnp.where(total > 0, total, 1), 0)
    return 200 * jnp.mean(jnp.where(jnp.isfinite(forecast), error, 1))


def mean_forecast(history: Float[Array, "t d"], horizon: int) -> Float[Array, "horizon d"]:
    """The mean of the history, always: the best constant."""
    return jnp.broadcast_to(history.mean(0), (horizon, history.shape[1]))


def nvar_forecast(
    history: Float[Array, "t d"], horizon: int, *, delays: int = 2, ridge: float | Array = 1e-6
) -> Float[Array, "horizon d"]:
    r"""Nonlinear vector autoregression: a linear readout of the last points and of all their pairwise products.

    $x_{t+1} = x_t + W\,(1, z_t, z_t \otimes z_t)$ with $z_t = (x_t, …, x_{t-k+1})$.

    Arguments:
        history: Equally spaced observations of the full state.
        horizon: Points to forecast.
        delays: Points k in $z_t$, at least 1.
        ridge: Penalty per observation, positive.

    Raises:
        ValueError: for an argument out of its range.

    Paper: "Next generation reservoir computing" (the model); graded in "Chaos as an interpretable benchmark for
    forecasting and data-driven modelling".
    """
    in_range("delays", delays, 1, len(history) - 1)
    x, mean, scale = _standardize(history)

    def features(window: Float[Array, "k d"]) -> Float[Array, " f"]:
        z = window.ravel()
        return jnp.concatenate([jnp.ones(1, z.dtype), z, jnp.outer(z, z)[np.triu_indices(z.size)]])

    windows = jnp.stack([x[i : len(x) - delays + i] for i in range(delays)], axis=1)
    weights = _ridge(jax.vmap(features)(windows), x[delays:] - x[delays - 1 : -1], ridge)

    def advance(window: Array, _: None) -> tuple[Array, Array]:
        new = window[-1] + features(window) @ weights
        return jnp.concatenate([window[1:], new[None]]), new

    return mean + scale * lax.scan(advance, x[-delays:], length=horizon)[1]


def esn_forecast(
    history: Float[Array, "t d"],
    horizon: int,
    *,
    units: int = 200,
    spectral_radius: float = 0.9,
    input_scale: float = 0.5,
    ridge: float | Array = 1e-6,
    washout: int = 100,
    seed: int = 0,
) -> Float[Array, "horizon d"]:
    r"""Echo state network: a fixed random recurrent network with a trained linear readout.

    $r_t = \tanh(A r_{t-1} + B x_t + b)$, $x_{t+1} = x_t + W\,(1, x_t, r_t)$; only W is fitted.

    Arguments:
        history: Equally spaced observations of the full state.
        horizon: Points to forecast.
        units: Size of the reservoir.
        spectral_radius: Of A, positive; below 1 the network forgets its initial state.
        input_scale: Entries of B and b are uniform in ± this; positive.
        ridge: Penalty per observation, positive.
        washout: First observations that only drive the reservoir, at least 0.
        seed: Of A, B and b.

    Raises:
        ValueError: for an argument out of its range.

    Paper: "Chaos as an interpretable benchmark for forecasting and data-driven modelling".
    """
    in_range("units", units, 1)
    in_range("spectral_radius", spectral_radius, 0, open_low=True)
    in_range("input_scale", input_scale, 0, open_low=True)
    in_range("washout", washout, 0, len(history) - 2)
    x, mean, scale = _standardize(history)
    for_a, for_b, for_bias = jax.random.split(jax.random.key(seed), 3)
    a = jax.random.normal(for_a, (units, units), x.dtype)
    # A Gaussian matrix has spectral radius sqrt(units) up to a few per cent (circular law): no eigenvalues needed.
    a = a * (spectral_radius / units**0.5)
    b = input_scale * jax.random.uniform(for_b, (units, x.shape[1]), x.dtype, -1, 1)
    bias = input_scale * jax.random.uniform(for_bias, (units,), x.dtype, -1, 1)

    def listen(r: Array, point: Array) -> tuple[Array, Array]:
        r = jnp.tanh(a @ r + b @ point + bias)
        return r, jnp.concatenate([jnp.ones(1, x.dtype), point, r])

    reservoir, features = lax.scan(listen, jnp.zeros(units, x.dtype), x[:-1])
    weights = _ridge(features[washout:], (x[1:] - x[:-1])[washout:], ridge)

    def advance(state: tuple[Array, Array], _: None) -> tuple[tuple[Array, Array], Array]:
        r, feature = listen(*state)
        new = state[1] + feature @ weights
        return (r, new), new

    return mean + scale * lax.scan(advance, (reservoir, x[-1]), length=horizon)[1]


def sample_systems(
    systems: Sequence[ChaoticSystem], points: int, *, per_period: int = 100, substeps: int = 4, settle: int = 5
) -> list[Float[np.ndarray, "points d"]]:
    """A series from each system on a clock of its own: equally many points in each dominant period, in float64.

    Arguments:
        systems: What to integrate.
        points: Length of the series.
        per_period: Points in a period.
        substeps: Runge-Kutta steps between two points.
        settle: Periods left out at the start.
    """

    @jax.jit
    def integrate(starts: list[Array]) -> list[Array]:
        steps = [s.period / (per_period * substeps) for s in systems]
        return [
            trajectory(s.field, x, dt, settle * per_period + points, substeps)
            for s, x, dt in zip(systems, starts, steps, strict=True)
        ]

    with jax.enable_x64(True):
        series = integrate([jnp.asarray(s.start) for s in systems])
    return [np.asarray(x)[settle * per_period :] for x in series]


def forecast_benchmark(
    models: Mapping[str, Forecaster],
    systems: Sequence[ChaoticSystem],
    series: Sequence[Float[np.ndarray, "_ _"]],
    *,
    horizon: int = 200,
) -> pd.DataFrame:
    """Grade forecasters: each sees a series but for its last ``horizon`` points, and forecasts those.

    Arguments:
        models: Forecasters by name.
        systems: What the series come from.
        series: One per system, all equally long, such as from `sample_systems`.
        horizon: Points to forecast.

    Returns:
        A row per model and system: ``model``, ``system``, ``lyapunov_per_period``, ``smape`` (0 … 200), and ``error``,
        the root mean square error in standard deviations of the history, infinite where the forecast is not finite.

    Raises:
        ValueError: if there is not one series for each system, or no history is left.
    """
    if len(systems) != len(series):
        raise ValueError(f"series: expected one for each of {len(systems)} systems, got {len(series)}")
    in_range("horizon", horizon, 1, len(series[0]) - 2)
    width = max(x.shape[1] for x in series)
    # Coordinates that a system does not have are constant zeros, which the models ignore: one program serves all.
    stacked = np.stack([np.pad(x, ((0, 0), (0, width - x.shape[1]))) for x in series])
    rows: list[dict[str, Any]] = []
    for model, forecaster in models.items():
        with jax.enable_x64(True):
            program = jax.jit(jax.vmap(lambda history, f=forecaster: f(history, horizon)))
            forecasts = np.asarray(program(jnp.asarray(stacked[:, :-horizon])))
        for system, x, forecast in zip(systems, series, forecasts, strict=True):
            history, actual = x[:-horizon], x[-horizon:]
            forecast = forecast[:, : x.shape[1]]
            with np.errstate(all="ignore"), jax.enable_x64(True):
                percent = float(smape(jnp.asarray(actual), jnp.asarray(forecast)))
                error = np.sqrt(np.mean(((forecast - actual) / history.std(0)) ** 2))
            rows.append(
                {
                    "model": model,
                    "system": system.name,
                    "lyapunov_per_period": system.lyapunov_per_period,
                    "smape": percent,
                    "error": float(error) if np.isfinite(error) else np.inf,
                }
            )
    return pd.DataFrame(rows)


def _standardize(x: Float[Array, "t d"]) -> tuple[Array, Array, Array]:
    scale = x.std(0)
    scale = jnp.where(scale > 0, scale, 1)  # a constant coordinate stays at 0
    return (x - x.mean(0)) / scale, x.mean(0), scale


def _ridge(features: Float[Array, "n f"], targets: Float[Array, "n d"], ridge: float | Array) -> Float[Array, "f d"]:
    in_range("ridge", ridge, 0, open_low=True)
    gram = features.T @ features / len(features) + ridge * jnp.eye(features.shape[1], dtype=features.dtype)
    return jnp.linalg.solve(gram, features.T @ targets / len(features))


part("forecaster", "mean", example=lambda: mean_forecast)(mean_forecast)
part("forecaster", "nvar", example=lambda: functools.partial(nvar_forecast, ridge=1e-3))(nvar_forecast)
part("forecaster", "esn", example=lambda: functools.partial(esn_forecast, units=20, washout=10, ridge=1e-3))(
    esn_forecast
)
