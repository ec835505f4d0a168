"""Figures of what runs recorded."""

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import plotly.colors
import plotly.graph_objects as go

if TYPE_CHECKING:
    from attractor.trace import Trace

COLORS = plotly.colors.qualitative.D3


def curves(trace: "Trace", metric: str, log: bool = True) -> go.Figure:
    """Curves of a metric, one per configuration; see `Trace.plot`.

    Arguments:
        trace: What a run recorded.
        metric: A scalar metric of it.
        log: A logarithmic vertical axis, where all values are positive.
    """
    figure = go.Figure()
    for config in range(trace.dataset.sizes["config"]):
        add_curve(figure, trace.dataset["step"].values, trace[metric].values[config], trace.label(config), config)
    figure.update_layout(xaxis_title="step", yaxis_title=metric, template="plotly_white")
    log = log and bool((trace[metric] > 0).all())
    return figure.update_yaxes(**axis_of(trace[metric].values, log))


def axis_of(values: np.ndarray, log: bool) -> dict[str, Any]:
    """Settings of an axis; a logarithmic one has few labels, at whole decades where it spans some."""
    if not log:
        return {"type": "linear"}
    values = np.asarray(values, float)
    logs = np.log10(values[np.isfinite(values) & (values > 0)])
    decades = float(np.ptp(logs)) if logs.size else 0.0
    ticks = {"dtick": int(np.ceil(decades / 5))} if decades > 1.5 else {"nticks": 6}
    return {"type": "log", "exponentformat": "power", **ticks}


def add_curve(
    figure: go.Figure, x: np.ndarray, curves: np.ndarray, name: str, color: int, visible: bool = True
) -> None:
    """Add the median over seeds of ``curves`` (seeds, points) and a band between the quartiles to a figure."""
    shade = COLORS[color % len(COLORS)]
    curves = np.where(np.isfinite(curves), curves, np.nan)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # where no seed has a finite value, there is no band
        low, middle, high = np.nanquantile(curves, [0.25, 0.5, 0.75], axis=0)
    group = {"legendgroup": name, "visible": visible}
    if len(curves) > 1:
        band = np.concatenate([high, low[::-1]])
        figure.add_scatter(
            x=np.concatenate([x, x[::-1]]), y=band, fill="toself", fillcolor=shade, opacity=0.15, mode="lines",
            line_width=0, hoverinfo="skip", showlegend=False, **group,
        )  # fmt: skip
    figure.add_scatter(x=x, y=middle, name=name, mode="lines", line_color=shade, **group)
