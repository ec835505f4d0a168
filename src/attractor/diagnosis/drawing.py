"""Pictures of a diagnosis: curves with their spikes, a finding's number against its threshold, a table of layers."""

import html
import math
from collections.abc import Callable

import numpy as np
import plotly.graph_objects as go
from jaxtyping import Float

from attractor.diagnosis.findings import Finding
from attractor.diagnosis.rules import short, spikes
from attractor.diagnosis.signs import Layer, Signs, median, smooth
from attractor.plots import COLORS

POINTS = 2000  # of a curve, at most, in two for each window: its least and its largest
WINDOWS = 60  # of a long curve, over which its course is drawn
LOW, HIGH = 0.1, 100.0  # ends of the scale of a number over its threshold
USUAL_UPDATE = 1e-3  # of the weights, in a step

PLOTS = {
    "Loss": ("loss", "validation loss"),
    "Accuracy": ("accuracy", "validation accuracy"),
    "Gradient norm": ("gradient norm",),
    "Update over weights, a step": ("update ratio",),
    "Weight norm": ("weight norm",),
    "Learning rate": ("learning rate",),
    "Size of the inputs": ("input size",),
}


def figures(signs: Signs) -> dict[str, go.Figure]:
    """The curves with more than one point, by their title; spikes of the loss are marked in every one."""
    steps, loss = signs.curve("loss")
    at = [float(steps[s.at]) for s in sorted(spikes(loss), key=lambda s: -s.height)[:20]]
    drawn = {}
    for title, names in PLOTS.items():
        curves = {name: signs.curve(name) for name in names}
        curves = {name: (x, y) for name, (x, y) in curves.items() if np.isfinite(y).sum() > 1}
        if curves:
            drawn[title] = _figure(curves, at)
    if signs.runs:
        several = {name: of_run.curve("loss") for name, of_run in list(signs.runs.items())[: len(COLORS)]}
        several = {name: (x, y) for name, (x, y) in several.items() if np.isfinite(y).any()}
        drawn = {"Loss of every run": _figure(several, []), **drawn}
    return drawn


def _figure(curves: dict[str, tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"]]], at: list[float]) -> go.Figure:
    figure = go.Figure()
    every = np.concatenate([y[np.isfinite(y)] for _, y in curves.values()])
    log = bool(every.min() > 0 and every.max() > 5 * every.min())
    for i, (name, (x, y)) in enumerate(curves.items()):
        long = len(x) > 10 * WINDOWS
        if long:  # its course over its scatter
            middle = np.asarray([median(part) for part in np.array_split(x, WINDOWS)])
            figure.add_scatter(
                x=middle, y=smooth(y, WINDOWS), mode="lines", line={"color": COLORS[i], "width": 2.2}, hoverinfo="skip",
                showlegend=False,
            )  # fmt: skip
        x, y = thinned(x, y)
        dots = "lines+markers" if len(x) <= 50 else "lines"
        figure.add_scatter(
            x=x, y=np.where(np.isfinite(y), y, np.nan), name=html.escape(name), mode=dots,
            line={"color": COLORS[i], "width": 1 if long else 1.6}, opacity=0.45 if long else 1,
            marker={"size": 5}, hovertemplate="step %{x:,}<br>%{y:.4g}",
        )  # fmt: skip
        bad = x[~np.isfinite(y)]
        if len(bad):
            top = float(every.max())
            figure.add_scatter(
                x=bad, y=np.full(len(bad), top), mode="markers", name="not finite",
                marker={"symbol": "x", "color": COLORS[3], "size": 8}, hovertemplate="step %{x:,}<br>not finite",
            )  # fmt: skip
    for step in at:
        figure.add_vline(step, line_dash="dot", line_width=1, line_color=COLORS[3])
    figure.update_layout(
        # Gray on nothing is read on a light page and on a dark one.
        paper_bgcolor="rgba(0,0,0,0)", plot_bgcolor="rgba(0,0,0,0)", font={"color": "#7d8590", "size": 12}, height=260,
        margin={"l": 62, "r": 14, "t": 26, "b": 42}, showlegend=sum(t.name is not None for t in figure.data) > 1,  # pyright: ignore
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0}, hovermode="closest",
    )  # fmt: skip
    grid = {"gridcolor": "rgba(125,133,144,0.22)", "zeroline": False, "automargin": True}
    figure.update_xaxes(title="step", nticks=6, **grid)
    if every.min() == every.max():  # plotly would show it between minus one and one
        grid["range"] = sorted((0.5 * float(every.max()), 1.5 * float(every.max()) or 1))
    return figure.update_yaxes(**grid, **(_log_ticks(every) if log else {"nticks": 5, "exponentformat": "power"}))


def _log_ticks(values: Float[np.ndarray, " n"]) -> dict:
    """A logarithmic axis with at most six labels, which never run into each other."""
    low, high = math.log10(values.min()), math.log10(values.max())
    pad = 0.05 * (high - low)
    low, high = low - pad, high + pad
    decades = [10.0**e for e in range(math.ceil(low), math.floor(high) + 1)]
    if len(decades) < 2:  # within a decade, or parts of two
        shown = (1, 2, 5) if high - low > 1 else (1, 2, 3, 5, 7)
        candidates = [m * 10.0**e for e in range(math.floor(low), math.ceil(high) + 1) for m in shown]
        ticks = [t for t in candidates if low <= math.log10(t) <= high]
    else:
        ticks = decades[:: -(-len(decades) // 6)]
    return {"type": "log", "range": [low, high], "tickvals": ticks, "ticktext": [f"{t:.3g}" for t in ticks]}


def thinned(
    x: Float[np.ndarray, " n"], y: Float[np.ndarray, " n"]
) -> tuple[Float[np.ndarray, " m"], Float[np.ndarray, " m"]]:
    """A long curve by the least and the largest value of each window, so that no spike is lost."""
    if len(x) <= POINTS:
        return x, y
    kept = [np.flatnonzero(~np.isfinite(y))[:20]]
    for window in np.array_split(np.arange(len(x)), POINTS // 2):
        finite = window[np.isfinite(y[window])]
        if len(finite):
            kept.append(finite[[np.argmin(y[finite]), np.argmax(y[finite])]])
    index = np.unique(np.concatenate(kept))
    return x[index], y[index]


def bar(finding: Finding) -> str:
    """The number against its threshold, on a scale from a tenth of it to a hundred times; nothing for a plain fact."""
    if math.isnan(finding.threshold):
        return ""
    place, limit, said = _place(_past(finding)), _place(1.0), html.escape(judged(finding))
    return (
        f'<div class="scale"><div class="track" role="img" aria-label="{said}">'
        f'<i class="fill" style="width:{place:.1f}%"></i><i class="limit" style="left:{limit:.1f}%"></i></div>'
        f'<div class="soft">{said}</div></div>'
    )


def judged(finding: Finding) -> str:
    """The number and its threshold in words; empty for what is so or not."""
    number, limit = finding.number, finding.threshold
    if math.isnan(limit):
        return ""
    if not math.isfinite(number):
        return f"not finite; threshold {short(limit)}"
    if number < limit:
        return f"{short(number)}, below the threshold of {short(limit)}"
    ratio = f"{short(number / limit)} times the threshold"
    # Where the threshold is one, the number is a ratio already.
    return ratio if limit == 1 else f"{short(number)}, {ratio} of {short(limit)}"


def _past(finding: Finding) -> float:
    """How far a number is past its threshold, in its direction: a finding is never before it."""
    number, limit = finding.number, finding.threshold
    return number / limit if number >= limit else HIGH if number <= 0 else limit / number


def _place(ratio: float) -> float:
    """Where a ratio stands between the ends of the scale, in percent."""
    kept = min(max(ratio, LOW), HIGH)
    return 100 * math.log(kept / LOW) / math.log(HIGH / LOW)


# How far a number is from usual: from -1 (far too small) over 0 to 1 (far too large), given those of all layers.
Shade = Callable[[float, list[float]], float]


def _relative(value: float, all_values: list[float]) -> float:
    """Against the other layers: three decades off is far."""
    usual = median(v for v in all_values if v > 0)
    return 0.0 if not (usual > 0 and value >= 0) else math.log10(max(value, 1e-30) / usual) / 3


def _of_update(value: float, _: list[float]) -> float:
    """Against the usual step: two decades off is far."""
    return math.log10(max(value, 1e-30) / USUAL_UPDATE) / 2


LAYERS: dict[str, tuple[str, str, Shade]] = {
    "weight": ("weights, rms", "{:.2g}", _relative),
    "gradient": ("gradient, rms", "{:.2g}", _relative),
    "update": ("update over weights", "{:.2g}", _of_update),
    "output": ("output, rms", "{:.2g}", _relative),
    "dead": ("dead units", "{:.0%}", lambda v, _: v),
    "saturated": ("saturated", "{:.0%}", lambda v, _: v),
    "rank": ("effective rank", "{:.0%}", lambda v, _: -max(-math.log10(max(v, 1e-3)) - 0.5, 0.0)),
}


def layer_table(layers: dict[str, Layer]) -> str:
    """A row per layer, what is far from usual in color: blue for too small, red for too large."""
    shown = {c: [getattr(layer, c) for layer in layers.values()] for c in LAYERS}
    shown = {c: values for c, values in shown.items() if not all(math.isnan(v) for v in values)}
    head = "".join(f'<th scope="col">{LAYERS[c][0]}</th>' for c in shown)
    rows = []
    for i, (name, layer) in enumerate(layers.items()):
        cells = "".join(_cell(c, values[i], values) for c, values in shown.items())
        state = "" if layer.trained is not False else " (frozen)"
        state += " (no gradient arrives)" if layer.reached is False and layer.trained else ""
        size = f"{layer.size:,}" if layer.size else "–"
        rows.append(f'<tr><th scope="row">{html.escape(name)}{state}</th><td>{size}</td>{cells}</tr>')
    return (
        f'<table class="layers"><thead><tr><th scope="col">layer</th><th scope="col">parameters</th>{head}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table>"
    )


def _cell(column: str, value: float, values: list[float]) -> str:
    if math.isnan(value):
        return "<td>–</td>"
    _, layout, shade = LAYERS[column]
    color = min(max(shade(value, [v for v in values if not math.isnan(v)]), -1.0), 1.0) if math.isfinite(value) else 1.0
    strength = round(abs(color) * 0.55, 2)
    tone = "214,69,65" if color > 0 else "52,120,200"
    style = f' style="background:rgba({tone},{strength})"' if strength >= 0.08 else ""
    return f"<td{style}>{layout.format(value)}</td>"
