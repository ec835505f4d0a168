"""Traces: what a run recorded, as an `xarray.Dataset` with dims ``config``, ``seed`` and ``step``."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import fsspec
import numpy as np
import pandas as pd
import plotly.colors
import plotly.graph_objects as go
import pyarrow as pa
import pyarrow.parquet as pq
import xarray as xr
from jaxtyping import PyTree

from attractor.stats import Interval, Rate, fit_rate
from attractor.stats import mean as interval_of_mean
from attractor.store import write_atomically

FORMAT = "attractor-trace-1"
COLORS = plotly.colors.qualitative.D3


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

    def plot(self, metric: str | None = None, log: bool = True) -> go.Figure:
        """Curves of a metric: the median over seeds and, for several seeds, the band between the quartiles."""
        metric = self.metrics[0] if metric is None else self._known(metric)
        figure = go.Figure()
        for config in range(self.dataset.sizes["config"]):
            label = describe(self.configuration(config)) or "run"
            add_curve(figure, self.dataset["step"].values, self[metric].values[config], label, config)
        figure.update_layout(xaxis_title="step", yaxis_title=metric, template="plotly_white")
        return figure.update_yaxes(type="log" if log and bool((self[metric] > 0).all()) else "linear")

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write one Parquet file, atomically; a local path or any fsspec URL."""
        shapes = {m: list(self.dataset[m].shape[3:]) for m in self.metrics}
        goals = {m: self.dataset[m].attrs.get("goal", "min") for m in self.metrics}
        dtypes = {m: str(self.dataset[m].dtype) for m in self.metrics}
        header = {
            "format": FORMAT,
            "settings": dict(self.dataset.attrs),
            "hyperparameters": self.hyperparameters,
            "shapes": shapes,
            "goals": goals,
            "dtypes": dtypes,
            "timing": vars(self.timing),
        }
        table = pa.Table.from_pandas(self.frame(), preserve_index=False)
        table = table.replace_schema_metadata({"attractor": json.dumps(header)})
        write_atomically(path, lambda file: pq.write_table(table, file))

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "Trace":
        """Read what `save` wrote.

        Raises:
            ValueError: if the file is not a trace.
        """
        with fsspec.open(str(path), "rb") as file:
            try:
                table = pq.read_table(file)
            except pa.ArrowInvalid as error:
                raise ValueError(f"path: {path} is no Parquet file, or a damaged one ({error})") from error
        header = json.loads((table.schema.metadata or {}).get(b"attractor", b"{}"))
        if header.get("format") != FORMAT:
            raise ValueError(f"path: {path} is a Parquet file but no trace (expected format {FORMAT})")
        frame = table.to_pandas()
        steps, seeds = frame["step"].unique().tolist(), frame["seed"].unique().tolist()
        sizes = (frame["config"].nunique(), len(seeds), len(steps))
        configs = [
            {k: frame[k].iloc[c * sizes[1] * sizes[2]] for k in header["hyperparameters"]} for c in range(sizes[0])
        ]
        values = {
            m: np.asarray(frame[m].tolist(), dtype=header["dtypes"][m]).reshape(*sizes, *shape)
            for m, shape in header["shapes"].items()
        }
        diverged_at = frame["diverged_at"].to_numpy().reshape(sizes)[:, :, 0]
        dataset = _dataset(values, diverged_at, steps, configs, seeds, header["settings"])
        for metric, goal in header["goals"].items():
            dataset[metric].attrs["goal"] = goal
        return cls(dataset, timing=Timing(**header["timing"]))

    def _known(self, metric: str) -> str:
        if metric not in self.metrics:
            raise ValueError(f"metric: expected one of {', '.join(self.metrics)}, got {metric!r}")
        return metric


def describe(config: Mapping[str, Any]) -> str:
    """A configuration in one line."""
    return ", ".join(f"{k}={v:.3g}" if isinstance(v, float) else f"{k}={v}" for k, v in config.items())


def add_curve(
    figure: go.Figure, x: np.ndarray, curves: np.ndarray, name: str, color: int, visible: bool = True
) -> None:
    """Add the median over seeds of ``curves`` (seeds, points) and a band between the quartiles to a figure."""
    shade = COLORS[color % len(COLORS)]
    curves = np.where(np.isfinite(curves), curves, np.nan)
    with np.errstate(all="ignore"):
        low, middle, high = np.nanquantile(curves, [0.25, 0.5, 0.75], axis=0)
    group = {"legendgroup": name, "visible": visible}
    if len(curves) > 1:
        band = np.concatenate([high, low[::-1]])
        figure.add_scatter(
            x=np.concatenate([x, x[::-1]]), y=band, fill="toself", fillcolor=shade, opacity=0.15, mode="lines",
            line_width=0, hoverinfo="skip", showlegend=False, **group,
        )  # fmt: skip
    figure.add_scatter(x=x, y=middle, name=name, mode="lines", line_color=shade, **group)


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
