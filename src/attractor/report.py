"""A comparison as one self-contained HTML page: works offline, can be mailed."""

import html
import json
import os
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import plotly.io as pio
from plotly.offline import get_plotlyjs

from attractor.places import write_atomically
from attractor.plots import COLORS, add_curve, axis_of
from attractor.stats import Interval
from attractor.trace import describe

if TYPE_CHECKING:
    from attractor.results import Comparison, Entry

LEGEND = {"orientation": "h", "y": -0.2, "yanchor": "top"}  # below, where it meets no menu on a small screen
STYLE = Path(__file__).with_name("report.css").read_text(encoding="utf-8")


def write(comparison: "Comparison", path: str | os.PathLike[str]) -> str:
    """Write the page for a comparison, to a local file or any fsspec URL, atomically; returns where."""
    page = render(comparison)
    write_atomically(path, lambda file: file.write(page.encode()))
    return os.fspath(path)


def render(comparison: "Comparison") -> str:
    """The page as one string, plotting library included."""
    settings = comparison.settings
    shown = {k: v for k, v in settings.items() if k != "again"} | {"winners": _winners(comparison)}
    title = f"{comparison.metric} on {settings['problem']}"
    charts = [_curves(comparison), *_tuning(comparison)]
    how = {"displayModeBar": False, "responsive": True}
    divs = [pio.to_html(f, include_plotlyjs=False, full_html=False, config=how) for f in charts]
    made = settings.get("versions", {})
    fair = "" if settings["tuned_on"] == comparison.metric else ", on data that do not grade them"
    unreached = "" if comparison.target is None else " Never to reach the target counts as ten times all steps."
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{html.escape(title)}</title><style>{STYLE}</style><script>{get_plotlyjs()}</script></head><body>
<h1>{html.escape(title)}</h1>
<div class="soft">{len(comparison.entries)} methods · {settings["steps"]:,} steps · tuned over
{settings["budget"]} configurations each on {len(settings["tuning_seeds"])} tuning seeds by
{html.escape(_tuned_by(comparison))}{fair}, then measured on
{settings["seeds"]} fresh seeds that all methods share · {comparison.seconds:.0f} s</div>
<p class="lead">{html.escape(sentence(comparison))}</p>
{tables(comparison)}
<p class="soft">Brackets are 95 % intervals over the fresh seeds; differences and ratios are paired.
{_costs(comparison)}</p>
{_failures(comparison)}
<h2>Convergence</h2>
<p class="soft">Median over fresh seeds, band between the quartiles. The menu changes the horizontal axis.</p>
{divs[0]}
<h2>Tuning</h2>
<p class="soft">Every configuration tried. A star marks the one that was measured; crosses diverged or
were stopped. A best value at the edge of its range says that the search space was too narrow.{unreached}</p>
{"".join(divs[1:]) or '<p class="soft">None of the methods has a hyper-parameter to tune.</p>'}
<h2>Settings</h2>
<p class="soft">All it takes to do this again. Made with {", ".join(f"{k} {v}" for k, v in made.items())} on
{html.escape(settings.get("machine", "a machine that was not recorded"))}.</p>
<pre>{html.escape(reproduce(comparison))}</pre>
<details><summary>Search spaces, seeds, and what won</summary>
<pre>{html.escape(json.dumps(shown, indent=2, default=str))}</pre></details>
</body></html>
"""


def fragment(comparison: "Comparison") -> str:
    """The sentence and the table alone, for a notebook."""
    return f"<p>{html.escape(sentence(comparison))}</p>{tables(comparison)}"


def data(comparison: "Comparison") -> dict[str, Any]:
    """``{settings, table}``, as JSON can hold it: what ``attractor compare --json`` prints."""
    rows = json.loads(str(comparison.table().map(_jsonable).reset_index().to_json(orient="records")))
    return {"settings": comparison.settings, "table": rows}


def _jsonable(cell: Any) -> Any:
    if isinstance(cell, Interval):
        return {k: v if np.isfinite(v) else None for k, v in vars(cell).items()}
    return cell


def sentence(comparison: "Comparison") -> str:
    """What was found, in words a reader can quote."""
    best, *others = comparison.ranking
    n, criterion = comparison.settings["seeds"], comparison.criterion
    to_target = criterion != "final"
    entry = comparison[best]
    if not any(np.isfinite(e.final).any() for e in comparison.entries.values()):
        where = comparison.settings.get("not_finite")
        return f"Nothing finite was measured: every run of every method diverged{f'; {where}' if where else ''}."
    if criterion != "final":
        cost = comparison.median(criterion, best)
        cost = f"{cost:g} steps" if criterion == "steps_to_target" else f"{cost:.3g} seconds"
        value = f"reaching a {comparison.metric} of {comparison.target:g} in {cost}"
        value += (
            f" (median; {int(entry.reached.sum())} of {n} runs reach it)" if not entry.reached.all() else " (median)"
        )
    else:
        value = f"at a final {comparison.metric} of {entry.final.mean():.4g}"
    missed = "" if to_target or comparison.target is None else f" No method reaches {comparison.target:g}."
    if n == 1:
        return f"{best} is ahead, {value}, on one seed, which says nothing about others: take seeds=3 or more.{missed}"
    tied = comparison.tied
    if len(tied) > 1:
        text = f"{' and '.join(tied)} tie (equal means over {n} seeds), {best} {value}."
    else:
        text = f"{best} is best, {value}, with probability {comparison.probability_best()[best]:.0%}."
    others = [name for name in others if name not in tied]
    close = [name for name in others if not _behind(comparison, name, best)]
    if close:
        text += f" {' and '.join(close)} cannot be told apart from {'it' if len(tied) == 1 else best} with {n} seeds."
    elif others:
        text += f" {'Its' if len(tied) == 1 else 'Their'} lead over every other method is outside the 95 % interval."
    if to_target:
        text += (
            f" Methods were tuned for {criterion.split('_')[0]} to the target, not for the final {comparison.metric}."
        )
    return text + missed


def _behind(comparison: "Comparison", name: str, best: str) -> bool:
    """Whether the interval of a method's distance from the best excludes none."""
    if comparison.criterion != "final":
        return comparison.ratio(comparison.criterion, name, best).low > 1
    difference = comparison.difference(name, best)
    return difference.low > 0 if comparison.goal == "min" else difference.high < 0


def reproduce(comparison: "Comparison") -> str:
    """The command, or the call with its imports, that repeats the comparison."""
    return comparison.settings.get("command") or comparison.settings["again"]


def _costs(comparison: "Comparison") -> str:
    """What costs mean."""
    if "loop" in comparison.settings:
        return "Seconds are wall time of each run on this machine, as its loop spent it."
    return "FLOPs are XLA's count for one step, seconds are wall time per step in the compiled program on this machine."


def _failures(comparison: "Comparison") -> str:
    """Which runs of a `Loop` failed, by method and reason."""
    rows = []
    for name, entry in comparison.entries.items():
        traces = (entry.tuning, entry.trace)
        runs = sum(t.diverged.size for t in traces)
        reasons = Counter((f["reason"], f["place"]) for t in traces for f in t.failures)
        for (reason, place), count in reasons.most_common():
            told = f"{name}: {count} of {runs} runs: {reason}{f' ({place})' if place else ''}"
            rows.append(f"<li>{html.escape(told)}</li>")
    return f"<h2>What failed</h2><p class=soft>Of tuning and fresh runs.</p><ul>{''.join(rows)}</ul>" if rows else ""


def _tuned_by(comparison: "Comparison") -> str:
    """What chose the configurations."""
    metric = comparison.settings["tuned_on"]
    unit = comparison.settings.get("by", "steps")
    return f"final {metric}" if comparison.target is None else f"{unit} to {metric} {comparison.target:g}"


def _winners(comparison: "Comparison") -> dict[str, dict[str, Any]]:
    return {name: entry.winner for name, entry in comparison.entries.items()}


def _color(comparison: "Comparison", name: str) -> str:
    return COLORS[list(comparison.entries).index(name) % len(COLORS)]


def split_columns(frame: pd.DataFrame) -> tuple[list[Any], list[Any]]:
    """The columns of a comparison's table that say what was found, and those of costs: one table would be too wide."""
    costs = [c for c in frame.columns[1:] if c.split()[0] in ("flops", "seconds", "MFLOP", "ms", "tuned")]
    return [c for c in frame.columns if c not in costs], costs


def tables(comparison: "Comparison") -> str:
    """The table in two, for pages."""
    frame = comparison.table()
    parts = (_table(comparison, pd.DataFrame(frame[columns])) for columns in split_columns(frame))
    return "".join(f'<div class="scroll" style="overflow-x:auto">{part}</div>' for part in parts)


def _table(comparison: "Comparison", table: pd.DataFrame) -> str:
    head = "".join(f"<th>{html.escape(c)}</th>" for c in ["method", *table.columns])
    rows = []
    for i, (name, row) in enumerate(table.iterrows()):
        dot = f'<span class="dot" style="background:{_color(comparison, str(name))}"></span>'
        cells = "".join(f"<td>{_cell(column, value)}</td>" for column, value in row.items())
        rows.append(f"<tr{' class=best' if i == 0 else ''}><td>{dot}{html.escape(str(name))}</td>{cells}</tr>")
    return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"


def _cell(column: Any, value: Any) -> str:
    if column == "diverged":
        return html.escape(str(value).split(":")[0])  # why stands below
    if isinstance(value, Interval) and np.isposinf(value.low):
        return "never"
    if isinstance(value, Interval):
        return f'{value.value:.4g} <span class="range">[{value.low:.4g}, {value.high:.4g}]</span>'
    if value is None or (isinstance(value, float) and pd.isna(value)):
        return "—"
    if isinstance(value, float):
        if not np.isfinite(value):
            return "never"
        return f"{value:.0%}" if "probability" in str(column) else f"{value:.3g}"
    return html.escape(str(value))


def _curves(comparison: "Comparison") -> go.Figure:
    """One set of curves per horizontal axis (steps, FLOPs, seconds), switched by a menu."""
    figure = go.Figure()
    axes = {"steps": _steps, "FLOPs": lambda e: _steps(e) * e.flops_per_step, "seconds": _seconds}
    if "loop" in comparison.settings:
        del axes["FLOPs"]
    positive, shown, drawn = True, [], []
    for axis, values in axes.items():
        for i, (name, entry) in enumerate(comparison.entries.items()):
            curves = entry.trace[comparison.metric].values[0]
            before = len(figure.data)  # pyright: ignore[reportArgumentType]
            add_curve(figure, values(entry), curves, name, i, visible=axis == "steps")
            shown += [axis] * (len(figure.data) - before)  # pyright: ignore[reportArgumentType]
            drawn.append(curves.ravel())
            positive &= bool((curves[np.isfinite(curves)] > 0).all())
    buttons = [
        {"label": a, "method": "update", "args": [{"visible": [s == a for s in shown]}, {"xaxis.title.text": a}]}
        for a in axes
    ]
    log = positive and comparison.goal == "min"
    if comparison.target is not None:
        figure.add_hline(comparison.target, line_dash="dot", line_color="#888")
        # An annotation on a logarithmic axis wants the logarithm, which add_hline's own does not take.
        height = np.log10(comparison.target) if log else comparison.target
        figure.add_annotation(
            x=1, xref="paper", y=height, text="target", showarrow=False, yanchor="bottom", xanchor="right"
        )
    figure.update_layout(
        template="plotly_white", height=460, margin={"l": 70, "r": 20, "t": 20, "b": 90}, xaxis_title="steps",
        yaxis_title=comparison.metric, hovermode="x unified", legend=LEGEND,
        updatemenus=[{"buttons": buttons, "x": 1, "xanchor": "right", "y": 1.12, "direction": "down"}],
    )  # fmt: skip
    return figure.update_yaxes(**axis_of(np.concatenate(drawn), log))


def _steps(entry: "Entry") -> np.ndarray:
    return entry.trace.dataset["step"].values


def _seconds(entry: "Entry") -> np.ndarray:
    """Per recorded step, the median over the runs that came so far."""
    clock = entry.clock
    return np.asarray([np.median(c[np.isfinite(c)]) if np.isfinite(c).any() else np.nan for c in clock.T])


def _tuning(comparison: "Comparison") -> list[go.Figure]:
    """A scatter per hyper-parameter: its value against the tuning result, all methods that have it."""
    names = list(dict.fromkeys(h for e in comparison.entries.values() for h in e.tuning.hyperparameters))
    figures = []
    for hyper in names:
        figure = go.Figure()
        for name, entry in comparison.entries.items():
            if hyper not in entry.tuning.hyperparameters:
                continue
            _add_tuning(figure, comparison, name, hyper)
        values = np.concatenate([np.asarray(t.x, dtype=object) for t in figure.data])  # pyright: ignore
        numeric = all(isinstance(v, float) for v in values)
        figure.update_layout(
            template="plotly_white", height=360, margin={"l": 70, "r": 20, "t": 20, "b": 90}, xaxis_title=hyper,
            yaxis_title=_tuned_by(comparison), legend=LEGEND,
        )  # fmt: skip
        wide = numeric and min(values) > 0 and max(values) / min(values) > 30
        figure.update_xaxes(**(axis_of(values, wide) if numeric else dict[str, Any](type="category")))
        results = np.concatenate([np.asarray(t.y, dtype=float) for t in figure.data])  # pyright: ignore
        log = (results > 0).all() and (comparison.target is not None or comparison.goal == "min")
        figure.update_yaxes(**axis_of(results, bool(log)))
        figures.append(figure)
    return figures


def _add_tuning(figure: go.Figure, comparison: "Comparison", name: str, hyper: str) -> None:
    entry, result = comparison[name], comparison.tuning_scores(name)
    values = entry.tuning.dataset[hyper].values.tolist()
    finite = np.isfinite(result)
    # A diverged configuration still has its place on the axis: just beyond the worst that did not.
    smaller_is_better = comparison.goal == "min" or comparison.target is not None
    edge = (np.max(result[finite]) if smaller_is_better else np.min(result[finite])) if finite.any() else 1.0
    symbols = ["star" if i == entry.chosen else "circle" if ok else "x" for i, ok in enumerate(finite)]
    sizes = [15 if i == entry.chosen else 8 for i in range(len(values))]
    figure.add_scatter(
        x=values, y=np.where(finite, result, edge), mode="markers", name=name,
        marker={"color": _color(comparison, name), "symbol": symbols, "size": sizes},
        text=[describe(entry.tuning.configuration(i)) for i in range(len(values))],
    )  # fmt: skip
