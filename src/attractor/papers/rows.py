"""The objects that scripts read: what ``--json`` prints and the page's API answers, made in one place."""

import ast
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any

from attractor.names import unknown
from attractor.papers import record
from attractor.papers.catalogue import ROOMS, Paper, catalogue, find
from attractor.papers.claims import Verdict, module_of, written
from attractor.papers.record import STATUSES, Record
from attractor.papers.sources import PARSING, path_of
from attractor.progress import task

CHECKED = (
    "slug", "claim", "verdict", "value", "low", "high", "threshold", "direction", "source", "given", "cases",
    "broken", "seconds",
)  # fmt: skip


def select(query: str | None = None, room: str | None = None) -> list[Paper]:
    """The papers that a query finds, best first; without one, all of the room or of the catalogue.

    Raises:
        ValueError: for an unknown room.
    """
    if room is not None and room not in ROOMS:
        raise unknown("room", room, ROOMS, f"rooms: {', '.join(ROOMS)}")
    if query is None or not query.strip():
        return [p for p in catalogue().values() if room in (None, p.room)]
    from attractor.papers.search import search

    return [p for p, _ in search(query, limit=len(catalogue()), room=room)]


def papers(
    query: str | None = None,
    room: str | None = None,
    status: str | None = None,
    limit: int = 20,
    states: Mapping[str, str] | None = None,
) -> list[dict[str, Any]]:
    """A row per paper, as ``attractor papers --json`` prints them; with a query, at most ``limit``.

    ``states`` has the statuses of papers with verdicts, where they are known; else they are found out.

    Raises:
        ValueError: for an unknown room or status.
    """
    if status is not None and status not in STATUSES:
        raise ValueError(f"status: expected one of {', '.join(STATUSES)}, got {status!r}")
    known, chosen, end = record.read_all(), list(select(query, room)), None if query is None else limit
    if status is None:  # to find out the status of one takes longer than the search
        chosen = chosen[:end]
    rows, tried = [], sum(p.slug in known for p in chosen)
    with task("comparing claims with their sources", tried, "paper") as advance:  # seconds after an installation
        for p in chosen:
            rows.append(paper(p, known.get(p.slug), (states or {}).get(p.slug)))
            advance(p.slug in known)
    return [row for row in rows if status in (None, row["status"])][:end]


def paper(p: Paper, known: Record | None, state: str | None = None) -> dict[str, Any]:
    """A paper's row in a list."""
    state = state or ("missing" if known is None else record.status(p.slug, known))
    found = known or Record(p.slug)
    row = {"slug": p.slug, "title": p.title, "room": p.room, "kind": p.kind, "status": state}
    return row | {"claims": found.counts, "replicated": found.replicated_share}


def details(slug: str) -> dict[str, Any]:
    """All that is known of a paper, as ``attractor show --json`` prints it.

    Raises:
        ValueError: for an unknown slug, with a suggestion.
    """
    p, found = find(slug), record.with_local(slug) or Record(slug)
    row = {"slug": slug, "title": p.title, "room": p.room, "kind": p.kind, "gist": p.gist, "link": p.link}
    row |= {"claim": p.claim, "headline": p.headline, "status": record.status(slug), "snippet": snippet(slug)}
    row |= {"claims": found.counts, "replicated": found.replicated_share}
    verdicts = [{**v.asdict(), "replicated": found.replicated(n)} for n, v in found.quick.items()]
    return row | {"verdicts": verdicts, "full": [v.asdict() for v, _ in found.full.values()]}


def checked(verdict: Verdict) -> dict[str, Any]:
    """A verdict, as ``attractor check --json`` prints it."""
    data = verdict.asdict()
    broken = [{k: b[k] for k in ("name", "verdict", "informative")} for b in verdict.broken]
    return {k: data[k] for k in CHECKED} | {"broken": broken}


def snippet(slug: str) -> str:
    """The usage example in a paper's file (its docstring's fenced block), without importing it; '' if none."""
    if not written(slug):
        return ""
    with PARSING:
        text = ast.get_docstring(ast.parse(path_of(module_of(slug)).read_text(encoding="utf-8"))) or ""
    return text.partition("```python\n")[2].partition("```")[0]


def methods(rooms: Iterable[str] = ()) -> list[dict[str, Any]]:
    """A row per registered method, as ``attractor methods --json`` prints them; loads all rooms."""
    from attractor import registry

    costs, rooms = registry.costs(), set(rooms)
    return [
        {
            "name": m.name,
            "needs": m.kind,
            "space": {k: str(d) for k, d in m.space.items()},
            "cost": costs.get(m.name),
            "paper": m.paper,
            "room": m.room,
            "summary": m.summary,
        }
        for m in registry.methods().values()
        if not rooms or m.room in rooms
    ]


def problems() -> list[dict[str, Any]]:
    """A row per registered problem, as ``attractor problems --json`` prints them; loads all rooms."""
    from attractor import registry

    return [
        {"name": p.name, "metric": p.metric, "steps": p.steps, "target": p.target, "summary": p.summary}
        for p in registry.problems().values()
    ]


@cache
def steps_to_target() -> Mapping[str, Mapping[str, Any]]:
    """What ``benchmarks/steps_to_target.py`` has measured: by problem and method, the steps with their interval."""
    import json
    from pathlib import Path

    path = Path(__file__).parents[1] / "data" / "steps_to_target.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
