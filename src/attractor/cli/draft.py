"""The command ``draft``."""

from typing import Annotated

import typer

from attractor.cli.common import app, known_rooms, out
from attractor.papers import catalogue


@app.command(epilog="Example: attractor draft polycom · attractor draft 2411.03884 --room nn")
def draft(
    paper: Annotated[str, typer.Argument(help="A slug of the catalogue, or the arXiv number of a paper that came in.")],
    room: Annotated[
        str | None, typer.Option(help="Where its method belongs; default: that of the nearest paper.")
    ] = None,
) -> None:
    """Begin to make a paper executable: its row, claim file and test, which run at once, after the nearest papers.

    For a clone of the project; what is left to do is printed, in order.
    """
    from attractor.feed.entry import ARXIV
    from attractor.feed.library import Library
    from attractor.names import unknown
    from attractor.papers.catalogue import find
    from attractor.papers.drafting import checkout, draft, new_paper
    from attractor.papers.search import search

    root = checkout()
    known_rooms([room] if room else [])
    number = ARXIV.fullmatch(paper.strip())
    known = {p.arxiv: p for p in catalogue().values()}
    row, abstract = known.get(number["id"]) if number else find(paper), ""
    if row is None:
        with Library() as library:
            came_in = library.by_uid(f"arxiv:{number['id'] if number else ''}")
        if came_in is None:
            otherwise = "`attractor feed sync` or `attractor import` brings papers in"
            raise unknown("paper", paper, (), otherwise)
        entry, abstract = came_in.entry, came_in.entry.abstract
        nearest = search(f"{entry.title} {abstract}"[:1000], limit=1)
        year = int(entry.published[:4]) if entry.published else None
        row = new_paper(entry.title, room or nearest[0][0].room, year=year, arxiv=entry.arxiv, authors=entry.authors)
    done = draft(row, abstract, root)
    for path in done.written:
        out.print(f"wrote {path.relative_to(root)}", highlight=False)
    out.print("\n[bold]Next[/]")
    for i, step in enumerate(done.left, start=1):
        out.print(f"{i}. {step.replace(f'{root}/', '')}", highlight=False, markup=False, soft_wrap=True)
