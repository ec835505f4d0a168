"""Traces: what a run recorded, as an `xarray.Dataset` with dims ``config``, ``seed`` and ``step``."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import xarray as xr
from jaxtyping import PyTree

from attractor import store
from attractor.stats import Interval, Rate, fit_rate
from attractor.stats import mean as interval_of_mean

if TYPE_CHECKING:
    import plotly.graph_objects as go

SECONDS = "wall_seconds"  # a metric of runs that were timed one by one: seconds since the run's start


@dataclass(frozen=True)
class Timing:
    """Where a run's wall time went. Kept apart from the data, so that equal runs have equal data.

    Attributes:
        compile_seconds: The first program call, compilation included.
        run_seconds: All the calls after it.
        lane_steps: Steps times lanes done in ``run_seconds``.
    """

    compile_seconds: float = 0.0
    run_seconds: float = 0.0
    lane_steps: int = 0

    def add(self, seconds: float, steps: int, lanes: int, compiling: bool) -> "Timing":
        if compiling:
            return replace(self, compile_seconds=self.compile_seconds + seconds)
        return replace(self, run_seconds=self.run_seconds + seconds, lane_steps=self.lane_steps + steps * lanes)

    def wait(self, seconds: float) -> "Timing":
        return replace(self, run_seconds=self.run_seconds + seconds)

    def __add__(self, other: "Timing") -> "Timing":
        return Timing(
            self.compile_seconds + other.compile_seconds,
            self.run_seconds + other.run_seconds,
            self.lane_steps + other.lane_steps,
        )

    @property
    def seconds(self) -> float:
        """All of it."""
        return self.compile_seconds + self.run_seconds

    @property
    def seconds_per_step(self) -> float:
        """Wall seconds per lane and step once compiled; NaN if everything fitted into the first call."""
        return self.run_seconds / self.lane_steps if self.lane_steps else float("nan")


@dataclass(frozen=True, eq=False)
class Trace:
    """A recorded run.

    Attributes:
        dataset: Metrics as data variables over ``(config, seed, step)`` (array probes have further dims);
            hyper-parameters as coordinates of ``config``; ``diverged_at``, the first recorded step at which the
            iterate was not finite (NaN: never), over ``(config, seed)``.
        final: The last iterates, a pytree of arrays ``(config, seed, …)``; `None` after `load`.
        timing: Wall time, see `Timing`.
    """

    dataset: xr.Dataset
    final: PyTree = field(default=None, repr=False)
    timing: Timing = Timing()

    def __getitem__(self, metric: str) -> xr.DataArray:
        return self.dataset[self._known(metric)]

    @property
    def metrics(self) -> list[str]:
        """Names of the recorded probes."""
        return [str(name) for name in self.dataset.data_vars if name != "diverged_at"]

    @property
    def hyperparameters(self) -> list[str]:
        """Names of the swept hyper-parameters."""
        return [str(c) for c in self.dataset.coords if self.dataset[c].dims == ("config",) and c != "config"]

    @property
    def diverged(self) -> xr.DataArray:
        """Whether each lane's iterate stopped being finite: bool over ``(config, seed)``."""
        return self.dataset["diverged_at"].notnull()

    @property
    def failures(self) -> list[dict[str, Any]]:
        """Of a `Loop`, the runs that failed: ``{"config", "seed", "reason", "place"}`` each."""
        return self.dataset.attrs.get("failures", [])

    def configuration(self, config: int) -> dict[str, Any]:
        """The hyper-parameters of one configuration."""
        return {name: self.dataset[name].values[config].item() for name in self.hyperparameters}

    def frame(self) -> pd.DataFrame:
        """A row per configuration, seed and step; scalar metrics as columns, array metrics as lists."""
        sizes = [self.dataset.sizes[d] for d in ("config", "seed", "step")]
        index = [axis.ravel() for axis in np.meshgrid(*(np.arange(s) for s in sizes), indexing="ij")]
        columns: dict[str, Any] = {"config": index[0]}
        columns |= {name: self.dataset[name].values[index[0]] for name in self.hyperparameters}
        columns |= {
            "seed": self.dataset["seed"].values[index[1]],
            "step": self.dataset["step"].values[index[2]],
        }
        for metric in self.metrics:
            values = self.dataset[metric].values
            flat = values.reshape(-1, *values.shape[3:])
            columns[metric] = flat if flat.ndim == 1 else [row.ravel().tolist() for row in flat]
        columns["diverged_at"] = self.dataset["diverged_at"].values[index[0], index[1]]
        return pd.DataFrame(columns)

    def last(self, metric: str) -> xr.DataArray:
        """The last recorded value over ``(config, seed)``; infinite where the run diverged or it is not a number."""
        values = self[metric].isel(step=-1)
        worst = -np.inf if values.attrs.get("goal") == "max" else np.inf
        return values.where(np.isfinite(values) & ~self.diverged, worst)

    def best(self, metric: str) -> int:
        """The configuration whose last value, averaged over seeds, is best in the probe's own direction."""
        values = self.last(metric)
        averages = values.mean("seed").values
        return int(np.argmax(averages) if values.attrs.get("goal") == "max" else np.argmin(averages))

    def rate(self, metric: str, config: int | None = None, optimum: float = 0.0) -> Rate:
        """Fit linear (``C ρ^t``) and power-law (``C t^-p``) convergence of ``metric - optimum``; see `Rate`.

        Arguments:
            metric: A scalar metric.
            config: The configuration; default: the best one.
            optimum: The value the metric converges to.
        """
        config = self.best(metric) if config is None else config
        return fit_rate(self.dataset["step"].values, self[metric].values[config] - optimum)

    def summary(self, metric: str) -> list[Interval]:
        """Mean over seeds of the last value, with its interval, for every configuration."""
        return [interval_of_mean(row) for row in self.last(metric).values]

    def label(self, config: int) -> str:
        """A configuration in one line, for a legend."""
        return describe(self.configuration(config)) or "run"

    def plot(self, metric: str | None = None, log: bool = True) -> "go.Figure":
        """Curves of a metric: the median over seeds and, for several seeds, the band between the quartiles."""
        from attractor import plots  # the plotting library takes long to import, and few runs need it

        return plots.curves(self, self.metrics[0] if metric is None else self._known(metric), log)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write one Parquet file, atomically; a local path or any fsspec URL."""
        store.write(self, path)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "Trace":
        """Read what `save` wrote.

        Raises:
            ValueError: if the file is not a trace.
        """
        dataset, timing = store.read(path, _dataset)
        return cls(dataset, timing=Timing(**timing))

    def _known(self, metric: str) -> str:
        if metric not in self.metrics:
            raise ValueError(f"metric: expected one of {', '.join(self.metrics)}, got {metric!r}")
        return metric


def describe(config: Mapping[str, Any]) -> str:
    """A configuration in one line."""
    return ", ".join(f"{k}={v:.3g}" if isinstance(v, float) else f"{k}={v}" for k, v in config.items())


def _dataset(
    values: dict[str, np.ndarray],
    diverged_at: np.ndarray,
    steps: list[int],
    configs: list[dict[str, Any]],
    seeds: list[int],
    settings: dict[str, Any],
) -> xr.Dataset:
    base = ("config", "seed", "step")
    variables: dict[str, Any] = {m: ((*base, *(f"{m}_{d}" for d in range(v.ndim - 3))), v) for m, v in values.items()}
    variables["diverged_at"] = (("config", "seed"), diverged_at)
    coordinates: dict[str, Any] = {"seed": seeds, "step": steps, "config": np.arange(len(configs))}
    for name in configs[0]:
        column = [c[name] for c in configs]
        simple = all(isinstance(v, float | int | str | bool | np.generic) for v in column)
        coordinates[name] = (
            "config",
            column if simple else [getattr(v, "__name__", repr(v)) for v in column],
        )
    return xr.Dataset(variables, coordinates, settings)


def build(
    values: dict[str, np.ndarray],
    finite: np.ndarray,
    steps: list[int],
    configs: list[dict[str, Any]],
    seeds: list[int],
    settings: dict[str, Any],
    final: PyTree,
    timing: Timing,
) -> Trace:
    """Put a run's recordings together; ``values[name]`` and ``finite`` have axes ``(config, seed, record, …)``."""
    first_bad = np.asarray(steps, float)[np.argmin(finite, axis=2)]
    diverged_at = np.where(finite.all(axis=2), np.nan, first_bad)
    return Trace(_dataset(values, diverged_at, steps, configs, seeds, settings), final, timing)
