"""A diagnosis as one self-contained HTML page, as a piece of a notebook, and in a terminal."""

import html
import math
import re
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

import attractor
from attractor.diagnosis.findings import Diagnosis, Finding, told
from attractor.diagnosis.signs import Signs, smooth

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

STYLE = Path(__file__).with_name("page.css").read_text(encoding="utf-8")
ABOUT = {"state": "a state of training", "run": "a training run", "log": "a training log"}
TONES = {"sure": "bold red", "likely": "yellow", "possible": "dim"}
BLOCKS = "▁▂▃▄▅▆▇█"

# Plots take the inks of the page, and change them with it.
INKS = """<script>
const scheme = matchMedia("(prefers-color-scheme: dark)");
const paint = () => document.querySelectorAll(".plotly-graph-div").forEach(
  plot => Plotly.relayout(plot, {"font.color": scheme.matches ? "#b8c2cc" : "#49525e", autosize: true}));
scheme.addEventListener("change", paint); paint();
</script>"""


def render(diagnosis: Diagnosis) -> str:
    """The page as one string, plotting library included; it needs no network.

    Arguments:
        diagnosis: What to show.
    """
    from attractor.diagnosis.drawing import figures, layer_table
    from attractor.report import STYLE as house

    signs = diagnosis.signs
    title = f"Diagnosis of {ABOUT[signs.kind]}"
    drawn = figures(signs)
    parts = [f"<h1>{title}</h1>", f'<p class="lead">{_escape(summary(diagnosis))}</p>', _cards(diagnosis)]
    if drawn:
        parts += [
            "<h2>Curves</h2>",
            _spikes(drawn),
            f'<div class="plots{" one" * (len(drawn) == 1)}">{_plots(drawn)}</div>',
        ]
    if signs.layers:
        what = (
            "In the order of the forward pass. Red is far larger than usual, blue far smaller: for weights, gradients "
            "and outputs against the other layers, for updates against 1e-3."
        )
        parts += ["<h2>Layers</h2>", f'<p class="soft">{what}</p>', _scroll(layer_table(signs.layers), "Layers")]
    if numbers := {k: v for k, v in signs.numbers.items() if not math.isnan(v)}:
        rows = "".join(f'<tr><th scope="row">{_escape(k)}</th><td>{v:.4g}</td></tr>' for k, v in numbers.items())
        parts += ["<h2>Numbers</h2>", _scroll(f'<table class="facts layers"><tbody>{rows}</tbody></table>', "Numbers")]
    if signs.notes:
        parts += [f"<h2>{_noted(signs)}</h2>", _notes(signs)]
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title><style>{house}{STYLE}</style>{_library() if drawn else ""}</head><body>
<main class="diagnosis">
{"".join(parts)}
<p class="soft">attractor {attractor.__version__}</p>
</main>{INKS if drawn else ""}
</body></html>
"""


def fragment(diagnosis: Diagnosis) -> str:
    """The findings as a piece of HTML for a notebook, without plots."""
    return (
        f'<div class="diagnosis"><style>{STYLE.partition("/* The page")[0]}</style>'
        f"<p>{_escape(summary(diagnosis))}</p>{_cards(diagnosis)}{_notes(diagnosis.signs)}</div>"
    )


def summary(diagnosis: Diagnosis) -> str:
    """What was found, in a sentence."""
    if not diagnosis.findings:
        return "Nothing stands out."
    causes = [f"{f.name} ({f.sure})" for f in diagnosis.findings if not f.follows]
    rest = len(diagnosis.findings) - len(causes)
    more = f"; {rest} more may follow from {'it' if len(causes) == 1 else 'these'}" if rest else ""
    return f"{_capital(_listed(causes))}{more}." if causes else f"{_capital(_listed(diagnosis.names))}."


def show(diagnosis: Diagnosis, console: Console) -> None:
    """Print the findings to a terminal.

    Arguments:
        diagnosis: What to show.
        console: Where.
    """
    from attractor.diagnosis.drawing import judged

    _, loss = diagnosis.signs.curve("loss")
    if len(loss) > 1:
        console.print(_sparkline(loss), end="\n\n")
    if not diagnosis.findings:
        console.print(Text("Nothing stands out.", style="bold green"), end="\n\n")
    for i, finding in enumerate(diagnosis.findings, 1):
        head = Text.assemble(
            (f"{i}. {finding.name}", "bold"), "  ", (finding.sure, TONES[finding.sure]),
            (f"  {finding.where}" if finding.where else "", "dim"),
        )  # fmt: skip
        console.print(head)
        console.print(Padding(Text(finding.sentence), (0, 0, 0, 3)))
        grid = Table.grid(padding=(0, 2, 0, 0))
        grid.add_column(justify="right", style="dim", width=6)
        grid.add_column(overflow="fold")
        shown = {"judged": judged(finding), **_details(finding)}
        for label, text in shown.items():
            if not text:  # a plain fact
                continue
            grid.add_row(label, Text(text))
        console.print(Padding(grid, (0, 0, 1, 3)))
    for note in diagnosis.signs.notes:
        console.print(Text(f"{_noted(diagnosis.signs)}: {note}", style="dim"))


def _details(finding: Finding) -> dict[str, str]:
    details = {
        "after": ", ".join(finding.follows),
        "try": finding.remedy,
        "tried": told(finding.trial) if finding.trial else "",
        "see": finding.support,
    }
    return {label: text for label, text in details.items() if text}


def _sparkline(loss: np.ndarray) -> Text:
    """The loss in a line of blocks."""
    windows = smooth(loss, 40)
    finite = windows[np.isfinite(windows)]
    if not len(finite):
        return Text("loss  never finite", style="red")
    values = np.log(windows) if finite.min() > 0 else windows
    low, high = np.nanmin(values), np.nanmax(values)
    levels = (values - low) / (high - low) * (len(BLOCKS) - 1) if high > low else np.zeros(len(values))
    drawn = "".join("×" if math.isnan(v) else BLOCKS[round(v)] for v in levels)
    last = "not finite" if not math.isfinite(loss[-1]) else f"{loss[-1]:.4g}"
    return Text.assemble(("loss  ", "dim"), drawn, (f"  {finite[0]:.4g} → {last}", "dim"))


def _cards(diagnosis: Diagnosis) -> str:
    return "".join(_card(finding, i) for i, finding in enumerate(diagnosis.findings, 1))


def _card(finding: Finding, number: int) -> str:
    from attractor.diagnosis.drawing import bar

    labels = {"after": "May follow from", "try": "Try", "tried": "Tried", "see": "See"}
    shown = {
        label: _escape(text) if label not in ("after", "see") else {"after": _links, "see": _paper}[label](finding)
        for label, text in _details(finding).items()
    }
    rows = "".join(f"<dt>{labels[label]}</dt><dd>{text}</dd>" for label, text in shown.items())
    where = f'<span class="where">{_escape(finding.where)}</span>' if finding.where else ""
    return (
        f'<article class="card {finding.sure}" id="{_anchor(finding.name)}"><h3>{number}. {_escape(finding.name)}'
        f'<span class="badge">{finding.sure}</span>{where}</h3><p>{_escape(finding.sentence)}</p>'
        f"{bar(finding)}<dl>{rows}</dl></article>"
    )


def _links(finding: Finding) -> str:
    return ", ".join(f'<a href="#{_anchor(name)}">{_escape(name)}</a>' for name in finding.follows)


def _paper(finding: Finding) -> str:
    """The support, with a link where the paper has one."""
    from attractor.papers import find

    text, paper = _escape(finding.support), find(finding.paper)
    title = _escape(paper.title)
    return text.replace(title, f'<a href="{_escape(paper.link)}">{title}</a>', 1) if paper.link else text


def _anchor(name: str) -> str:
    return "finding-" + re.sub(r"[^a-z0-9]+", "-", name.lower())


def _spikes(drawn: "dict[str, Figure]") -> str:
    """What the dotted lines are, where there are any."""
    count = len(next(iter(drawn.values())).layout.shapes or ())  # pyright: ignore[reportAttributeAccessIssue]
    told = {0: "", 1: "A dotted line marks the loss' spike."}.get(count, "Dotted lines mark the loss' spikes.")
    return f'<p class="soft">{told}</p>' if told else ""


def _plots(drawn: "dict[str, Figure]") -> str:
    config = {"displayModeBar": False, "responsive": True}
    return "".join(
        f"<figure><figcaption>{_escape(title)}</figcaption>"
        f"{figure.to_html(include_plotlyjs=False, full_html=False, config=config, default_width='100%')}</figure>"
        for title, figure in drawn.items()
    )


def _library() -> str:
    from plotly.offline import get_plotlyjs

    return f"<script>{get_plotlyjs()}</script>"


def _scroll(table: str, label: str) -> str:
    """A table that scrolls by itself where the page is narrow; with the keyboard too."""
    return f'<div class="scroll" tabindex="0" role="region" aria-label="{label}">{table}</div>'


def _noted(signs: Signs) -> str:
    """What notes are: of a log, mostly what was taken for what."""
    return "Note" if signs.kind == "log" else "Not looked at"


def _notes(signs: Signs) -> str:
    return f'<ul class="soft">{"".join(f"<li>{_escape(n)}</li>" for n in signs.notes)}</ul>' if signs.notes else ""


def _escape(text: str) -> str:
    return html.escape(text)


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
