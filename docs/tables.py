"""Tables and plots of results, which stand in pages where a placeholder is.

``{{ optimizers }}`` becomes the table of all optimizers, ``{{ fastest }}`` the best of them on each problem,
``{{ verdicts: slug, slug }}`` what the record says of some papers, ``{{ rates }}`` the measured tightness of every
proven bound, and ``{{ curves: problem, method, … }}`` a plot of the measured curves; ``{{ fractions }}`` is one of
continued fractions, ``{{ targets }}`` of black-box searches, ``{{ wire }}`` and ``{{ liars }}`` of distributed methods;
``{{ widths }}`` says whether learning rates transfer, ``{{ estimators }}`` what estimators of gradients miss,
``{{ cosines }}`` plots it; ``{{ cleaning }}`` compares bilevel methods, ``{{ ring }}`` those for games.
``{{ findings }}``, ``{{ thresholds }}``, ``{{ planted }}`` and ``{{ instruments }}`` are about `attractor.diagnose`.
"""

import html
import json
import re
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
from findings import findings, instruments, planted, thresholds
from plotly.subplots import make_subplots
from recorded import claims, measured, needed, outcome, plain, table

from attractor import registry
from attractor.papers.catalogue import catalogue
from attractor.papers.rows import steps_to_target

DATA = Path(__file__).with_name("data")
FRACTIONS = DATA / "continued_fractions.json"
WIDTHS = DATA / "widths.md"
TARGETS, DISTRIBUTED = DATA / "blackbox.json", DATA / "distributed.json"
CLEANING, RING, COSINES = DATA / "bilevel.json", DATA / "ring_gan.json", DATA / "credit.json"


def fill(markdown: str) -> str:
    """Replace the placeholders of a page."""

    fillers = (optimizers, fastest, verdicts, rates, curves, fractions, widths, estimators)
    fillers += (targets, wire, liars, cleaning, ring, cosines)
    fillers += (findings, thresholds, planted, instruments)
    known = {f.__name__: f for f in fillers}

    def found(match: re.Match[str]) -> str:
        return known[match[1]](*(a.strip() for a in (match[2] or "").split(",") if a.strip()))

    return re.sub(rf"\{{\{{ *({'|'.join(known)})(?:: *([^}}]*?))? *\}}\}}", found, markdown)


def shared() -> dict[str, dict]:
    """What is on record of the problems on which every method was tried, plain SGD, the unit of work, included."""
    return {p: rows for p, rows in steps_to_target().items() if "sgd" in rows}


def optimizers() -> str:
    """A row per method: what it keeps, what a step costs, the steps it needs on each shared problem."""
    measured, costs = shared(), registry.costs()
    problems = list(measured)
    targets = {p: registry.find_problem(p) for p in problems}
    head = ["method", "state, bytes per parameter", "gradients per step"]
    head += [
        f"{p}: steps to {targets[p].metric} ≤ {targets[p].target:g}; {_budget(measured[p]['sgd'])}" for p in problems
    ]
    rows = []
    for name in sorted({m for rows in measured.values() for m in rows}):
        cost = costs.get(name, {})
        rows.append(
            [_method(name), _number(cost.get("state_bytes_per_parameter")), _number(cost.get("gradients_per_step"))]
            + [_steps(measured[p].get(name)) for p in problems]
        )
    return table(head, rows)


def fastest(count: int = 6) -> str:
    """A row per problem: the methods that reach the target on every seed in the fewest steps, and with the least work.

    Work is in gradients of SGD's minibatch, by XLA's count of operations.
    """
    rows = []
    for problem, known in shared().items():
        entry = registry.find_problem(problem)
        reached = {m: r["steps"][0] for m, r in known.items() if r.get("reached", 0) == r.get("seeds")}
        gradient = known["sgd"]["flops_per_step"]
        work = {m: steps * known[m]["flops_per_step"] / gradient for m, steps in reached.items()}
        best = [", ".join(f"{_method(m)} {v:.0f}" for m, v in _smallest(by, count)) for by in (reached, work)]
        rows.append([f"{problem}, {entry.metric} ≤ {entry.target:g}; {_budget(known['sgd'])}", *best])
    return table(["problem", "fewest steps", "least work, in gradients"], rows)


def _budget(row: dict) -> str:
    """With how much the methods of a problem were tuned and measured; rows without a budget are of the usual one."""
    return f"{row.get('budget', 16)} configurations, {row['seeds']} seeds"


def _method(name: str) -> str:
    """A method's name, which leads to the page of its paper where it is one of the catalogue's."""
    entry = registry.methods().get(name)
    paper = catalogue().get((entry and entry.paper) or "")
    return f"[`{name}`](papers/{paper.room}/{paper.slug}.md)" if paper else f"`{name}`"


def _smallest(values: dict[str, float], count: int) -> list[tuple[str, float]]:
    return sorted(values.items(), key=lambda item: item[1])[:count]


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}"


def _steps(found: dict | None) -> str:
    if found is None:
        return "–"
    if "error" in found:
        return "error"
    if "skipped" in found:
        return found["skipped"]
    value, low, high = found["steps"]
    if value is None:
        return f"not reached ({found['reached']} of {found['seeds']})"
    return f"{value:.0f} [{0 if low is None else low:.0f}, {'∞' if high is None else f'{high:.0f}'}]"


def verdicts(*slugs: str) -> str:
    """A row per claim of some papers."""
    rows = [
        [_link(slug), plain(claim["statement"]), outcome(claim), measured(claim), needed(claim)]
        for slug in slugs
        for claim in claims(slug)
    ]
    return table(["paper", "claim", "outcome", "measured", "needed"], rows)


def estimators() -> str:
    """Bias, variance and cosine of gradient estimators, and the memory of a backward pass, as last measured."""
    path = Path(__file__).with_name("data") / "credit.md"
    return path.read_text(encoding="utf-8") if path.exists() else "*Not measured yet: `python benchmarks/credit.py`.*"


def cosines() -> str:
    """A plot of the cosines of estimates with the gradient: a row per estimator, a color per layer."""
    if not COSINES.exists():
        return "*Not measured yet: `python benchmarks/credit.py`.*"
    known = json.loads(COSINES.read_text(encoding="utf-8"))
    filled = known["later"] | known["settling"]
    rows, figure = list(reversed(filled)), go.Figure()
    for said, symbol, of in (("", "circle", filled), (", at the start", "circle-open", known["start"])):
        for i, color in enumerate(("#1f77b4", "#ff7f0e", "#2ca02c")):
            figure.add_scatter(
                x=[layers[i] for layers in of.values()], y=[rows.index(name) for name in of], mode="markers",
                name=f"layer {i + 1}{said}", marker={"color": color, "symbol": symbol, "size": 9},
                hovertemplate="%{x:.2f}",
            )  # fmt: skip
    labels = [re.sub(r"(:|,(?!.*:)) ", r"\1<br>", name.replace("`", "")) for name in rows]  # narrow on phones
    figure.add_vline(0, line_color="#999")
    figure.add_hline(len(known["settling"]) - 0.5, line_color="#999")
    figure.update_layout(
        template="plotly_white", height=32 * len(rows) + 130, margin={"l": 10, "r": 10, "t": 30, "b": 45},
        xaxis_title="cosine with the gradient", legend={"orientation": "h", "y": -0.1, "yanchor": "top"},
        yaxis={"tickvals": list(range(len(rows))), "ticktext": labels, "automargin": True, "tickfont": {"size": 11}},
    )  # fmt: skip
    return _drawn(figure, "cosines")


def _link(slug: str) -> str:
    paper = catalogue()[slug]
    return f"[{plain(paper.title)}](../papers/{paper.room}/{slug}.md)"


def rates() -> str:
    """A row per problem: the largest ratio of the measured error to the proven bound."""
    [bounds] = [c for c in claims("convergence-handbook-gradient-methods") if c["name"] == "stays-below-the-bounds"]
    rows = [[plain(problem), f"{case[0]:.3g}"] for problem, case in bounds["cases"].items()]
    return table(["problem", "error / bound, at most"], rows)


def widths() -> str:
    """The best learning rate over widths, under two parametrizations."""
    return (
        WIDTHS.read_text(encoding="utf-8") if WIDTHS.exists() else "*Not measured yet: `python benchmarks/widths.py`.*"
    )


def curves(problem: str, *methods: str) -> str:
    """A plot of the median over seeds, each method at its tuned setting."""
    entry, measured = registry.find_problem(problem), steps_to_target().get(problem, {})
    known = [name for name in methods if "curve" in measured.get(name, {})]
    if not known:
        return f"*Not measured yet: `python benchmarks/steps_to_target.py --problems {problem}`.*"
    figure = go.Figure()
    for name in known:
        figure.add_scatter(x=measured[name]["at"], y=measured[name]["curve"], name=name, mode="lines")
    if entry.target is not None:
        figure.add_hline(entry.target, line_dash="dot", annotation_text="target")
    figure.update_layout(
        template="plotly_white", height=380, margin={"l": 60, "r": 20, "t": 40, "b": 45},
        title=f"{problem}, tuned with the same budget", xaxis_title="steps", yaxis_title=entry.metric, yaxis_type="log",
    )  # fmt: skip
    return _drawn(figure, f"{problem}-{'-'.join(methods)}")


def fractions() -> str:
    """Continued fractions that were recognized: digits per term and delta, a color for each constant."""
    if not FRACTIONS.exists():
        return "*Not measured yet: `python benchmarks/continued_fractions.py`.*"
    figure = go.Figure()
    for name, rows in json.loads(FRACTIONS.read_text(encoding="utf-8")).items():
        figure.add_scatter(
            x=[row["digits"] for row in rows], y=[row["delta"] for row in rows], text=[row["formula"] for row in rows],
            name=name, mode="markers", marker={"size": 6, "opacity": 0.7},
            hovertemplate="%{text}<br>%{x:.2f} digits per term, δ = %{y:.3f}",
        )  # fmt: skip
    figure.update_layout(
        template="plotly_white", height=480, margin={"l": 60, "r": 20, "t": 20, "b": 45},
        xaxis_title="correct digits per term", yaxis_title="δ",
    )  # fmt: skip
    return _drawn(figure, "continued-fractions")


def targets() -> str:
    """Percent of the targets of BBOB's functions that each search has reached, over calls."""
    if not TARGETS.exists():
        return "*Not measured yet: `python benchmarks/blackbox.py --write docs/data/blackbox.md`.*"
    known = json.loads(TARGETS.read_text(encoding="utf-8"))
    figure = go.Figure()
    for name, percent in sorted(known["percent"].items(), key=lambda item: -item[1][-1]):
        figure.add_scatter(x=known["calls"], y=percent, name=name, mode="lines", line_shape="hv")
    _framed(figure, 420, xaxis_title="calls", yaxis_title="percent of targets", xaxis_type="log")
    return _drawn(figure, "targets")


def wire() -> str:
    """The loss above the smallest, over what a client has sent."""
    if not DISTRIBUTED.exists():
        return "*Not measured yet: `python benchmarks/distributed.py --write`.*"
    figure = go.Figure()
    for name, run in json.loads(DISTRIBUTED.read_text(encoding="utf-8"))["wire"].items():
        figure.add_scatter(x=run["kilobits"][1:], y=run["gap"][1:], name=name, mode="lines",
                           hovertemplate="%{x:,.0f} kbit, %{y:.3g}")  # fmt: skip
    _framed(figure, 460, xaxis_title="kilobits sent by a client", yaxis_title="loss above the smallest",
            xaxis_type="log", yaxis_type="log", yaxis_exponentformat="power")  # fmt: skip
    return _drawn(figure, "wire")


def liars() -> str:
    """Accuracy on held-out images for each rule and lie, as a map."""
    if not DISTRIBUTED.exists():
        return "*Not measured yet: `python benchmarks/distributed.py --write`.*"
    known = json.loads(DISTRIBUTED.read_text(encoding="utf-8"))["liars"]
    lies = list(next(iter(known.values())))
    table = [[known[rule][lie] for lie in lies] for rule in reversed(known)]
    figure = go.Figure(
        go.Heatmap(z=table, x=lies, y=list(reversed(known)), colorscale="RdYlBu", zmin=0, zmax=100,
                   texttemplate="%{z:.0f}", showscale=False, hovertemplate="%{y}, %{x}: %{z} %<extra></extra>")
    )  # fmt: skip
    _framed(figure, 380, xaxis_tickangle=-45, yaxis_automargin=True, xaxis_automargin=True)
    return _drawn(figure, "liars")


def _framed(figure: go.Figure, height: int, **axes: Any) -> None:
    """The look of a plot whose legend is below it, where it leaves the width to the curves on a narrow screen."""
    figure.update_layout(
        template="plotly_white", height=height, margin={"l": 60, "r": 20, "t": 20, "b": 45},
        legend={"orientation": "h", "y": -0.2}, **axes,
    )  # fmt: skip


def cleaning() -> str:
    """Bilevel methods at cleaning labels: accuracy, wrong labels found, and how those grow with the gradients taken."""
    if not CLEANING.exists():
        return "*Not measured yet: `python benchmarks/bilevel.py`.*"
    data = json.loads(CLEANING.read_text(encoding="utf-8"))
    rows = [
        [name, f"{row['steps']:,}" if "steps" in row else "", *(_share(row.get(of)) for of in ("accuracy", "found"))]
        for name, row in sorted(data["rows"].items(), key=lambda item: -item[1]["accuracy"][0])
    ]
    figure = go.Figure()
    for name, row in data["rows"].items():
        if "curve" in row:
            figure.add_scatter(x=row["at"], y=row["curve"], name=name, mode="lines")
    _framed(figure, 420, xaxis_title="gradients taken", yaxis_title="wrong labels found", yaxis_tickformat=".0%")
    head = ["method", "steps", "test accuracy", "wrong labels found"]
    return table(head, rows) + "\n" + _drawn(figure, "label-cleaning")


def ring() -> str:
    """Methods for games on the ring of Gaussians: modes covered, good samples, and some samples of each."""
    if not RING.exists():
        return "*Not measured yet: `python benchmarks/ring_gan.py`.*"
    data = json.loads(RING.read_text(encoding="utf-8"))
    found = dict(sorted(data["rows"].items(), key=lambda item: item[1]["energy_distance"][0]))
    rows = [
        [name, f"{row['steps']:,}", _interval(row["energy_distance"]), _interval(row["covered"]), _share(row["good"])]
        for name, row in found.items()
    ]
    shown = {"true points": data["true"]} | {name.replace("`", ""): row["samples"] for name, row in found.items()}
    columns = 3
    figure = make_subplots(-(-len(shown) // columns), columns, subplot_titles=list(shown), vertical_spacing=0.08)
    for i, points in enumerate(shown.values()):
        x, y = zip(*points, strict=True)
        at = {"row": i // columns + 1, "col": i % columns + 1}
        figure.add_scatter(x=x, y=y, mode="markers", marker={"size": 3, "color": "#4051b5", "opacity": 0.6}, **at)
    span = [-1.5, 1.5]
    figure.update_xaxes(range=span, visible=False).update_yaxes(range=span, visible=False)
    figure.update_layout(
        template="plotly_white", height=640, showlegend=False, margin={"l": 10, "r": 10, "t": 60, "b": 10}
    ).update_annotations(font_size=10)
    head = ["method", "steps", "energy distance", "modes covered, of 8", "good samples"]
    return table(head, rows) + "\n" + _drawn(figure, "ring-gan")


def _share(bounds: list[float] | None) -> str:
    """In percent, with its interval."""
    return "" if bounds is None else "{:.1%} [{:.1%}, {:.1%}]".format(*bounds)


def _interval(bounds: list[float]) -> str:
    return "{:.3g} [{:.3g}, {:.3g}]".format(*bounds)


def _drawn(figure: go.Figure, name: str) -> str:
    script = '<script src="../../javascripts/plotly.min.js"></script>'
    return script + figure.to_html(include_plotlyjs=False, full_html=False, div_id=html.escape(name))
