"""Commands of the reader: ``follow``, ``keep``, ``dismiss`` and ``similar``."""

import difflib
from typing import Annotated, Any

import typer
from rich.table import Table
from typer.core import TyperGroup

from attractor.cli.common import AsJson, app, known_day, out, print_json, print_rows
from attractor.cli.common import err as errors


class _ShortForms(TyperGroup):
    """``attractor follow "a question"`` adds it, and ``attractor follow`` lists all."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if not args or args == ["--json"]:
            args = ["list", *args]
        # A word that is nearly a command's name is left to be refused.
        elif not args[0].startswith("-") and not difflib.get_close_matches(args[0], self.commands, cutoff=0.7):
            args = ["add", *args]
        return super().parse_args(ctx, args)


follow = typer.Typer(
    cls=_ShortForms,
    help="Follow a question in words, an author, a room, a paper (more like it) or a rule of keywords.",
    epilog='Examples: attractor follow "why does sharpness stop to grow" · '
    "attractor follow add 'title:muon OR (newton NOT category:cs.CV)' --kind keywords --name muon · "
    "attractor follow add 2006.00719 --kind paper · attractor follow show muon",
)
app.add_typer(follow, name="follow")

Name = Annotated[str, typer.Argument(help="What it is called.")]
Given = Annotated[str, typer.Argument(help="Its number here, arXiv number, DOI, title or slug.")]
Since = Annotated[str | None, typer.Option(help="Only what came in on this day, ISO 8601, or later.")]
Limit = Annotated[int, typer.Option(help="At most so many.", min=1)]


@follow.command(epilog='Example: attractor follow add "Yao, Zhewei" --kind author')
def add(
    query: Annotated[str, typer.Argument(help="The question, name, room, paper or rule.")],
    kind: Annotated[str, typer.Option(help="question, author, room, paper or keywords.")] = "question",
    name: Annotated[str | None, typer.Option(help="What to call it; default: the query.")] = None,
    as_json: AsJson = False,
) -> None:
    """Follow something from now on."""
    from attractor.feed import Library, follows

    with Library() as library:
        stored = follows.add(library, follows.Follow(name or query[:100], kind, query))
        found = follows.matches(library, stored)
    if as_json:
        return print_json({**stored.asdict(), "matches": len(found)})
    named = "" if stored.name == stored.query else f" as {stored.name!r}"
    out.print(f"following {stored.kind} {stored.query!r}{named}; {len(found)} already here", markup=False)
    return None


@follow.command("list", epilog="Example: attractor follow list --json")
def list_(as_json: AsJson = False) -> None:
    """What is followed."""
    from attractor.feed import Library, follows

    with Library() as library:
        rows = [f.asdict() for f in follows.every(library)]
    if rows or as_json:
        print_rows(rows if as_json else [row | {"since": row["since"][:10]} for row in rows], as_json)
    else:
        errors.print('nothing is followed yet; try: attractor follow "adaptive step sizes"')


@follow.command(epilog="Example: attractor follow remove muon")
def remove(name: Name) -> None:
    """Follow something no longer."""
    from attractor.feed import Library, follows

    with Library() as library:
        follows.remove(library, name)


@follow.command(epilog="Example: attractor follow show muon --since 2026-11-01")
def show(name: Name, since: Since = None, limit: Limit = 20, as_json: AsJson = False) -> None:
    """What came in about something that is followed, and what runs here near it."""
    from attractor.feed import Library, follows

    known_day("--since", since)
    with Library() as library:
        found = follows.matches(library, follows.find(library, name), since, limit)
    print_papers([m.asdict() | _runs(m.stored.entry) for m in found], as_json, "nothing about it came in yet")


@app.command(epilog="Example: attractor keep 2006.00719")
def keep(paper: Given, undo: Annotated[bool, typer.Option(help="Neither kept nor dismissed.")] = False) -> None:
    """Keep a paper that came in: more like it is ranked higher."""
    _opine(paper, 0 if undo else 1)


@app.command(epilog="Example: attractor dismiss 17")
def dismiss(paper: Given, undo: Annotated[bool, typer.Option(help="Neither kept nor dismissed.")] = False) -> None:
    """Dismiss a paper that came in: more like it is ranked lower."""
    _opine(paper, 0 if undo else -1)


def _opine(paper: str, opinion: int) -> None:
    from attractor.feed import Library, follows

    with Library() as library:
        stored = follows.stored_of(library, paper)
        follows.opine(library, stored.id, opinion)
    words = {1: "kept", -1: "dismissed", 0: "neither kept nor dismissed"}
    out.print(f"{words[opinion]}: {stored.entry.title}", markup=False)


@app.command(epilog="Example: attractor similar adahessian --by recency")
def similar(
    paper: Annotated[str, typer.Argument(help="A slug of the catalogue, or what a paper that came in is known by.")],
    by: Annotated[str, typer.Option(help="meaning: the nearest first; recency: the newest of them first.")] = "meaning",
    limit: Limit = 10,
    as_json: AsJson = False,
) -> None:
    """Papers near another one: of the catalogue, and of those that came in."""
    from attractor.feed import Library, follows, meaning, placement

    if by not in ("meaning", "recency"):
        raise ValueError(f"--by: expected meaning or recency, got {by!r}")
    with Library() as library:
        about = follows.subject(library, paper)
        found = follows.similar(library, about, by, limit)
    vector = meaning.embed([meaning.text_of(about.entry)])[0]
    near = [pair for pair in placement.nearest(vector, limit + 1) if pair[0] != about.slug]
    if as_json:
        rows = [s.asdict() | {"score": round(likeness, 4)} for s, likeness in found]
        papers = [{"slug": slug, "score": round(likeness, 4)} for slug, likeness in near[:limit]]
        return print_json({"title": about.entry.title, "catalogue": papers, "feed": rows})
    out.print(f"[bold]{about.entry.title}[/]\n\n[bold]In the catalogue[/]")
    table = Table.grid(padding=(0, 2, 0, 0))
    for slug, likeness in near[:limit]:
        table.add_row(f"{likeness:.2f}", slug)
    out.print(table)
    out.print("\n[bold]Came in[/]")
    print_papers([s.asdict() | {"score": likeness} for s, likeness in found], False, "nothing near it came in yet")
    return None


def _runs(entry: Any) -> dict[str, Any]:
    from attractor.feed import placement

    placed = placement.place(entry)
    return {"room": placed.room, "runs": list(placed.parts)}


def print_papers(rows: list[dict[str, Any]], as_json: bool, nothing: str) -> None:
    """Papers that came in, as JSON or a few lines each."""
    if as_json:
        return print_json(rows)
    if not rows:
        errors.print(nothing, markup=False)
        return None
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(justify="right", style="dim")
    table.add_column(no_wrap=True, style="dim")
    table.add_column(overflow="fold")
    for row in rows:
        told = [row.get("reason", ""), f"runs here: {', '.join(row['runs'])}" if row.get("runs") else "", row["link"]]
        lines = "\n".join(filter(None, told))
        table.add_row(str(row["id"]), row["published"] or row["added"][:10], _lines(row["title"], lines))
    out.print(table, highlight=False)
    return None


def _lines(title: str, dim: str) -> Any:
    from rich.text import Text

    return Text.assemble((title, "bold"), "\n", (dim, "dim"))
