"""What each page shows, the same served and static: a template and what it takes."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from attractor.names import unknown
from attractor.papers import ROOMS, catalogue, find, rows, written
from attractor.papers.citation import bibtex
from attractor.papers.record import STATUSES, summary
from attractor.web import drawing, incoming
from attractor.web.catalogue import GLYPHS, WINGS, Shelf, ordered
from attractor.web.prose import prose

PAGE = 60  # papers on one page of a list
ASIDE = ("flops to target", "seconds to target", "MFLOP per step", "ms per step", "tuned")  # of a comparison
SHOWN = 4  # papers measured lately, on the first page

Links = Callable[[str], str]


@cache
def environment() -> Environment:
    """The templates; everything that is put into them is escaped."""
    env = Environment(
        loader=PackageLoader("attractor.web"), autoescape=select_autoescape(default=True), undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    env.filters |= {"prose": prose, "thousands": "{:,.0f}".format}
    env.globals |= {
        "glyphs": GLYPHS, "rooms": ROOMS, "draw": drawing.verdict, "skyline": drawing.skyline,
        "range_bar": drawing.range_bar, "color": drawing.color, "aside": ASIDE, "number": drawing.number,
        "needed": drawing.threshold, "summary": summary,
    }  # fmt: skip
    return env


@dataclass(frozen=True)
class View:
    """A page to be: its template and what it takes. ``status`` is HTTP's."""

    template: str
    data: Mapping[str, Any] = field(default_factory=dict)
    status: int = 200

    def render(self, links: Links, **more: Any) -> str:
        """As HTML; ``links`` turns a path such as ``/papers/gae`` into an address."""
        return environment().get_template(self.template).render(href=links, **{**self.data, **more})


def today(shelf: Shelf, placed: bool = True) -> View:
    """New and trending papers, and what was measured lately; ``placed``: with what runs for each."""
    latest = shelf.latest
    return View(
        "today.html",
        {
            "here": "today", "shelf": shelf, "latest": latest[:SHOWN], "papers": len(catalogue()),
            "tried": len(latest), "feed": incoming.front(placed), "placed": placed,
        },
    )  # fmt: skip


def papers(shelf: Shelf, query: str = "", room: str = "", state: str = "", page: int = 1) -> View:
    """Papers found by meaning.

    Raises:
        ValueError: for an unknown room or state.
    """
    if state and state not in STATUSES:
        raise unknown("state", state, STATUSES)
    found = rows.select(query, room or None)
    if not query.strip():
        found = ordered(found, shelf)
    found = [p for p in found if state in ("", shelf.state(p.slug))]
    pages = max(1, -(-len(found) // PAGE))
    page = min(max(page, 1), pages)
    data = {"query": query, "room": room, "state": state, "states": STATUSES, "page": page, "pages": pages}
    data |= {"here": "papers", "shelf": shelf, "count": len(found), "found": found[PAGE * (page - 1) : PAGE * page]}
    return View("papers.html", {**data, "incoming": incoming.search(query) if query.strip() and page == 1 else []})


def paper(shelf: Shelf, slug: str, methods: list[dict[str, Any]]) -> View:
    """A paper: what it claims, what was measured, how to use it, what is near.

    Raises:
        ValueError: for an unknown slug, with a suggestion.
    """
    from attractor.papers.search import nearest

    p = find(slug)
    data = {"p": p, "claims": shelf.claims(slug), "state": shelf.state(slug), "record": shelf.known.get(slug)}
    data |= {"snippet": rows.snippet(slug), "bibtex": bibtex(p), "written": written(slug), "shelf": shelf}
    data |= {"nearest": [q for q, _ in nearest(slug)], "methods": [m for m in methods if m["paper"] == slug]}
    return View("paper.html", {**data, "here": "papers"})


def rooms(shelf: Shelf) -> View:
    """The rooms of the house as a map."""
    return View("rooms.html", {"here": "rooms", "shelf": shelf, "wings": WINGS, "plan": shelf.rooms()})


def room(shelf: Shelf, name: str, methods: list[dict[str, Any]]) -> View:
    """A room: its claims, papers and methods.

    Raises:
        ValueError: for an unknown room.
    """
    if name not in ROOMS:
        raise unknown("room", name, ROOMS)
    own = [m for m in methods if m["room"] == name]
    return View(
        "room.html", {"here": "rooms", "shelf": shelf, "name": name, "plan": shelf.rooms()[name], "methods": own}
    )


SORTS = ("name", "state", "cost", "steps")
COSTED = "digits-mlp"  # on which the cost of a step was measured, too: what the methods are shown on at first


def methods(found: list[dict[str, Any]], room: str = "", sort: str = "name", problem: str = "") -> View:
    """The methods, with what each keeps and costs, and the steps it needs where that was measured.

    Raises:
        ValueError: for an unknown room, order or problem.
    """
    measured = rows.steps_to_target()
    shared = [p for p in measured if "sgd" in measured[p]]
    problem = problem or max(shared, key=lambda p: (p == COSTED, len(measured[p])))
    for what, name, known in (("order", sort, SORTS), ("problem", problem, shared), ("room", room, ("", *ROOMS))):
        if name not in known:
            raise unknown(what, name, known)
    steps = measured[problem]
    listed = []
    for m in found:
        if room in ("", m["room"]):
            cost, row = m["cost"] or {}, steps.get(m["name"])
            numbers = _steps(row)
            more = {"bytes": cost.get("state_bytes_per_parameter"), "gradients": cost.get("gradients_per_step")}
            listed.append({**m, **more, "steps": numbers, "measured": row})
    keys = {"state": lambda m: m["bytes"], "cost": lambda m: m["gradients"], "steps": lambda m: m["steps"][0]}
    if sort in keys:  # what was not measured comes last
        listed.sort(key=lambda m: (keys[sort](m) is None, keys[sort](m) or 0.0, m["name"]))
    data = {"listed": listed, "room": room, "sort": sort, "problem": problem, "shared": shared, "ends": _ends(listed)}
    return View("methods.html", {**data, "here": "methods"})


def problems(found: list[dict[str, Any]]) -> View:
    """The problems on which methods are compared."""
    measured = {name: _fastest(rows) for name, rows in rows.steps_to_target().items()}
    listed = sorted(found, key=lambda p: (p["name"] not in measured, p["name"]))
    return View("problems.html", {"here": "problems", "listed": listed, "measured": measured})


def problem(found: list[dict[str, Any]], name: str, methods: list[dict[str, Any]]) -> View:
    """A problem: what it is, and how the methods that were tried on it fared.

    Raises:
        ValueError: for an unknown problem.
    """
    known = {p["name"]: p for p in found}
    if name not in known:
        raise unknown("problem", name, known)
    measured = _fastest(rows.steps_to_target().get(name, {}))
    data = {"p": known[name], "measured": measured, "names": {m["name"] for m in methods}, "ends": _ends(measured)}
    return View("problem.html", {**data, "here": "problems"})


def _fastest(measured: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What was measured of methods on a problem, the fewest steps first."""
    found = [{"name": name, **row, "steps": _steps(row)} for name, row in measured.items()]
    return sorted(found, key=lambda m: (m["steps"][0] is None, m["steps"][0] or 0.0))


def _steps(row: Mapping[str, Any] | None) -> list[float | None]:
    """Median, low and high of the steps to the target; `None` where it was not reached, or not tried."""
    return list((row or {}).get("steps", [None] * 3))


def _ends(measured: list[dict[str, Any]]) -> tuple[float, float]:
    """The fewest and the most steps in a list."""
    found = [x for m in measured for x in m["steps"] if x]
    return (min(found), max(found)) if found else (1.0, 1.0)
