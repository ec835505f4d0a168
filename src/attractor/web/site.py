"""The catalogue's pages as static files, for any host or a folder: relative links, and search in the browser."""

import json
import posixpath
from collections.abc import Callable, Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

from attractor.papers import ROOMS, catalogue, record, rows
from attractor.places import write_atomically
from attractor.web import views
from attractor.web.catalogue import Shelf

ASSETS = ("style.css", "page.js", "icon.svg")
INDEX = "/assets/index.js"


def write(out: Path, advance: Callable[[float], None] = lambda amount: None) -> int:
    """Write all pages below a folder; returns how many.

    Arguments:
        out: The folder; other files in it stay.
        advance: Told of every page.
    """
    known = record.read_all()
    shelf = Shelf(known, {}, {slug: record.status(slug, found) for slug, found in known.items()})
    registry = {"methods": rows.methods(), "problems": rows.problems()}
    count = 0
    for path, view in pages(shelf, registry):
        html = view.render(_links(path), public=True, token="", static=True)
        _put(out / _file(path), html)
        advance(1)
        count += 1
    for name in ASSETS:
        _put(out / "assets" / name, files("attractor.web").joinpath("assets", name).read_text(encoding="utf-8"))
    _put(out / INDEX[1:], index(shelf))
    return count


def pages(shelf: Shelf, registry: dict[str, list[dict[str, Any]]]) -> Iterator[tuple[str, views.View]]:
    """Every page that stands without a server, by its path there."""
    methods, problems = registry["methods"], registry["problems"]
    yield "/", views.today(shelf)
    yield "/papers", views.papers(shelf, page=0)
    yield "/rooms", views.rooms(shelf)
    yield "/methods", views.methods(methods)
    yield "/problems", views.problems(problems)
    for room in ROOMS:
        yield f"/rooms/{room}", views.room(shelf, room, methods)
    for problem in problems:
        yield f"/problems/{problem['name']}", views.problem(problems, problem["name"], methods)
    for slug in catalogue():
        yield f"/papers/{slug}", views.paper(shelf, slug, methods)


def count() -> int:
    """About how many pages there are, for progress."""
    return 5 + len(ROOMS) + len(catalogue())


def index(shelf: Shelf) -> str:
    """What the search in the browser reads: per paper its slug, title, gist, state, and the words it is found by.

    A script and not JSON: pages that are opened from a folder may not read other files.
    """
    found = []
    for p in catalogue().values():
        told = f"{record.summary(shelf.known.get(p.slug))} · {p.room}" + (f" · {p.year}" if p.year else "")
        text = " ".join([p.title, p.gist, p.claim, p.headline, p.room.replace("_", " "), p.kind, *p.authors])
        found.append([p.slug, p.title, p.gist, told, text])
    data = json.dumps({"papers": found}, ensure_ascii=False, separators=(",", ":")).replace("</", "<\\/")
    return f"window.ATTRACTOR_INDEX={data};\n"


def _file(path: str) -> str:
    """Where a page's file stands: ``/`` is index.html, ``/papers`` papers.html."""
    return "index.html" if path == "/" else f"{path[1:]}.html"


def _links(page: str) -> views.Links:
    """Links from one page, relative to its file."""
    here = posixpath.dirname(_file(page))

    def link(path: str) -> str:
        target = path[1:] if path.startswith("/assets/") else _file(path)
        return posixpath.relpath(target, here or ".")

    return link


def _put(path: Path, text: str) -> None:
    write_atomically(path, lambda file: file.write(text.encode()))
