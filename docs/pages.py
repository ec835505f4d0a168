"""A page for every paper and every room, made of the catalogue's rows, the record and the claim files' docstrings."""

import ast
import json

from recorded import claims, measured, needed, outcome, plain, status, table

from attractor.papers import ROOMS, Paper, catalogue, module_of
from attractor.papers.citation import bibtex
from attractor.papers.sources import path_of


def pages() -> dict[str, str]:
    """The Markdown of all these pages, by their path in the documentation."""
    made = {"papers/index.md": _overview()}
    made |= {f"papers/{room}/index.md": _room(room) for room in ROOMS}
    made |= {f"papers/{p.room}/{p.slug}.md": _paper(p) for p in catalogue().values()}
    return made


def _overview() -> str:
    rows = []
    for room, about in ROOMS.items():
        papers = _papers_of(room)
        tried = [p for p in papers if claims(p.slug)]
        outcomes = [c["outcome"] for p in tried for c in claims(p.slug)]
        holds = f"{outcomes.count('holds')} of {len(outcomes)}" if outcomes else ""
        rows.append([f"[{plain(room)}]({room}/index.md){_small(about)}", str(len(papers)), str(len(tried)), holds])
    return _page(
        "Papers by room",
        "Every paper has a page: what it claims, what came of it here, how to use it and how to cite it. "
        "`attractor papers QUERY` finds papers by meaning.",
        *_table(["room", "papers", "tried", "claims that hold"], rows),
    )


def _room(room: str) -> str:
    papers = _papers_of(room)
    tried = [[_link(p) + _small(p.gist), status(p.slug)] for p in papers if claims(p.slug)]
    others = [f"- {_link(p)}: {plain(p.gist)}" for p in papers if not claims(p.slug)]
    parts = [f"{plain(ROOMS[room][0].upper() + ROOMS[room][1:])}."]
    if tried:
        parts += ["## Tried", *_table(["paper", "claims"], tried)]
    if others:
        parts += ["## Not tried yet", "\n".join(others)]
    return _page(room, *parts)


def _paper(paper: Paper) -> str:
    about = [
        plain(", ".join(paper.authors)),
        str(paper.year or ""),
        f"[arXiv:{paper.arxiv}]({paper.link})" if paper.arxiv else "",
        f"{paper.kind} in [{plain(paper.room)}](index.md)",
        f"`{paper.slug}`",
    ]
    headline = [f"In figures: {plain(paper.headline)}."] if paper.headline else []
    return _page(
        paper.title,
        " · ".join(filter(None, about)),
        plain(paper.gist),
        "## What it claims",
        plain(paper.claim),
        *headline,
        "## What was measured",
        *_measured(paper.slug),
        *_usage(paper),
        "## Cite it",
        f"```bibtex\n{bibtex(paper)}\n```",
    )


def _measured(slug: str) -> list[str]:
    found = claims(slug)
    if not found:
        return ["No claim of it has been tried yet. [A paper](../../add-a-paper.md) is one file."]
    rows = [
        [
            plain(c["statement"])
            + _small(". ".join(c["notes"]))
            + _small(_cases(c["cases"]))
            + _small(_broken(c["broken"])),
            outcome(c),
            measured(c).replace(" [", "<br>["),
            needed(c).replace(" (", "<br>("),
        ]
        for c in found
    ]
    return [
        f"{status(slug)}. `attractor check {slug}` runs them on your machine.",
        *_table(["claim", "outcome", "measured", "needed"], rows),
        f"<small>Measured on {plain(found[0]['where'])}.</small>",
    ]


def _broken(variants: list[dict]) -> str:
    def one(variant: dict) -> str:
        value = "" if variant["value"] is None else f" at {variant['value']:.3g}"
        return f"{variant['name']}, {variant['became']}{value}"

    return f"Broken on purpose: {'; '.join(map(one, variants))}"


def _cases(cases: dict[str, list]) -> str:
    return "; ".join(f"{name}: {'–' if value[0] is None else f'{value[0]:.3g}'}" for name, value in cases.items())


def _usage(paper: Paper) -> list[str]:
    file = path_of(module_of(paper.slug))
    if not file.is_file():
        return ["## What is to be built", "\n".join(f"- {plain(part)}" for part in paper.parts)]
    docstring = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""
    parts = ", ".join(map(_part, paper.parts))
    return ["## How to use it", docstring, f"Parts: {parts}."]


def _part(part: str) -> str:
    """A link to what a room exports; a name that a module of the room has too is not on the room's page."""
    inner, module = part.count(".") > 1, path_of(f"attractor.{part}").is_file()
    return f"`attractor.{part}`" if inner or module else f"[`attractor.{part}`][attractor.{part}]"


def _papers_of(room: str) -> list[Paper]:
    return [p for p in catalogue().values() if p.room == room]


def _link(paper: Paper) -> str:
    return f"[{plain(paper.title)}]({paper.slug}.md)" + (f", {paper.year}" if paper.year else "")


def _small(text: str) -> str:
    return f"<small>{plain(text)}</small>" if text else ""


def _table(head: list[str], rows: list[list[str]]) -> list[str]:
    return ['<div class="record" markdown>', table(head, rows), "</div>"]


def _page(title: str, *parts: str) -> str:
    # JSON's strings are YAML's too; in the front matter, the title needs no escapes that a browser's tab would show.
    head = f"---\ntitle: {json.dumps(title, ensure_ascii=False)}\n---"
    return "\n\n".join([head, f"# {plain(title)}", *parts]) + "\n"
