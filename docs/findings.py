"""Tables of what `diagnose` can find: read from the rules themselves."""

import re
from pathlib import Path

from recorded import plain, status, table

from attractor.diagnosis import RULES, THRESHOLDS
from attractor.diagnosis.rules import judging
from attractor.papers.catalogue import catalogue

DATA = Path(__file__).with_name("data")


def findings() -> str:
    """A row per finding, causes before what follows from them."""
    rows = []
    for rule in RULES.values():
        explained = "everything after it" if rule.explains == judging.EVERYTHING else ", ".join(rule.explains)
        rows.append([f"**{plain(rule.name)}**", plain(rule.remedy), plain(explained), _paper(rule.paper)])
    return table(["finding", "what to try", "explains", "paper"], rows)


def _paper(slug: str) -> str:
    if not slug:
        return ""
    paper, known = catalogue()[slug], status(slug)
    return f"[{plain(paper.title)}](papers/{paper.room}/{slug}.md)" + (f" ({known})" if known else "")


def thresholds() -> str:
    """A row per threshold: its value, and what its line in the source says of it."""
    source = Path(judging.__file__).read_text(encoding="utf-8")
    said = dict(re.findall(r'^    "([^"]+)": [^#\n]+#\s*(.+)$', source, re.MULTILINE))
    rows = []
    for name, value in THRESHOLDS.items():
        text = said.get(name, "")
        chosen = "chosen on half of the planted faults" if text.startswith("*") else "conventional"
        rows.append([plain(name), f"{value:g}", plain(text.lstrip("* ")), chosen])
    return table(["number", "threshold", "what it is", "from"], rows)


def planted() -> str:
    """What was found in programs with planted faults."""
    return _measured("planted_faults")


def instruments() -> str:
    """What each instrument costs, in gradients."""
    return _measured("instruments")


def _measured(benchmark: str) -> str:
    """The table that a benchmark has written."""
    path = DATA / f"{benchmark}.md"
    if not path.exists():
        return f"*Not measured yet: `python benchmarks/{benchmark}.py --write`.*"
    return path.read_text(encoding="utf-8")
