"""Commands that read the catalogue and the record: ``papers``, ``show`` and ``cite``."""

from dataclasses import replace
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from attractor.cli.common import COLORS, AsJson, app, known_rooms, out, print_json
from attractor.cli.common import err as errors
from attractor.papers import Verdict, find, record, rows, written
from attractor.papers.citation import bibtex
from attractor.papers.record import STATUSES


@app.command(epilog='Example: attractor papers "vector field that is not a gradient" --room generative')
def papers(
    query: Annotated[str | None, typer.Argument(help="Words or a sentence; papers are found by meaning.")] = None,
    room: Annotated[str | None, typer.Option(help="Only this room of the house.")] = None,
    status: Annotated[str | None, typer.Option(help=f"{', '.join(STATUSES[:-1])} or {STATUSES[-1]}.")] = None,
    limit: Annotated[int | None, typer.Option(help="At most so many; default: 20 of a query, else all.", min=1)] = None,
    feed: Annotated[bool, typer.Option("--feed", help="Among the papers that came in, not in the catalogue.")] = False,
    as_json: AsJson = False,
) -> None:
    """Find papers, by meaning and by word."""
    known_rooms([room] if room else [])
    if feed:
        return _papers_that_came_in(query, room, status, limit or 20, as_json)
    if status is not None and status not in STATUSES:
        raise ValueError(f"--status: expected one of {', '.join(STATUSES)}, got {status!r}")
    found = rows.papers(query, room, status, limit or 20)[:limit]
    if as_json:
        return print_json(found)
    if not found:
        errors.print("no paper matches; `attractor papers` lists all")
        return None
    narrow = out.width < 100  # then room and status stand below the name
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("slug, room, status", "gist") if narrow else ("slug", "room", "status", "gist"):
        longest = max(28, min(max(len(row["slug"]) for row in found), out.width - 38))
        width = longest if narrow and column != "gist" else None  # else long sentences would break names
        table.add_column(column, no_wrap=column in ("room", "status"), overflow="fold", width=width)
    for row in found:
        state, counts = row["status"], row["claims"]
        counted = state not in ("missing", "stale", "error")
        told = Text(f"{counts['holds']} of {sum(counts.values())} hold" if counted else state, style=COLORS[state])
        name, place, gist = Text(row["slug"]), Text(row["room"]), Text(find(row["slug"]).gist)
        table.add_row(*(Text.assemble(name, "\n", place, " · ", told), gist) if narrow else (name, place, told, gist))
    out.print(table)
    return None


def _papers_that_came_in(query: str | None, room: str | None, status: str | None, limit: int, as_json: bool) -> None:
    from attractor.cli.follow import print_papers
    from attractor.feed import Library, meaning, placement

    if query is None or status is not None:
        raise ValueError("--feed: expected a query, and no --status: claims are tried of the catalogue's papers")
    with Library() as library:
        found = meaning.search(library, query, limit if room is None else meaning.CANDIDATES)
    rows = []
    for stored, score in found:
        placed = placement.place(stored.entry)
        if room in (None, placed.room):
            more = {"score": round(score, 4), "room": placed.room, "runs": list(placed.parts)}
            rows.append(stored.asdict() | more)
    print_papers(rows[:limit], as_json, "no paper that came in matches")


@app.command(epilog="Example: attractor show adahessian")
def show(slug: Annotated[str, typer.Argument(help="The paper's slug.")], as_json: AsJson = False) -> None:
    """What a paper claims, what was measured, and how to use it."""
    if as_json:
        return print_json(rows.details(slug))
    paper, snippet, known = find(slug), rows.snippet(slug), record.with_local(slug)
    state = record.status(slug)
    told = f"{paper.slug} · {paper.room} · {paper.kind} · {state}" + (f" · {record.summary(known)}" if known else "")
    out.print(f"[bold]{paper.title}[/]\n[dim]{told}[/]")
    out.print(f"[dim]{paper.link}[/]\n" if paper.link else "", highlight=False)
    out.print(f"{paper.gist}\n\n[bold]It claims[/] {paper.claim}")
    if paper.headline:
        out.print(f"[bold]In figures[/] {paper.headline}")
    if written(slug):
        out.print(f"[bold]Parts[/] {', '.join(f'attractor.{part}' for part in paper.parts)}", highlight=False)
    if known is None:
        out.print("\nNo claim of it has run yet.")
        return None
    out.print("\n[bold]Measured[/]")
    for name, verdict in known.quick.items():
        print_verdict(replace(verdict, note=known.note(name)), known.outcome(name), known.replicated(name))
    for verdict, _ in known.full.values():
        print_verdict(verdict, f"{verdict.verdict}")
    if snippet:
        from rich.syntax import Syntax

        out.print("\n[bold]Use it[/]")
        out.print(Syntax("", "python", background_color="default").highlight(snippet.rstrip()), soft_wrap=True)
    return None


SOURCES = {"paper": "the paper's", "scaled": "scaled from the paper", "ours": "ours"}


def print_verdict(v: Verdict, outcome: str | None = None, replicated: tuple[int, int] | None = None) -> None:
    """A verdict in a few lines."""
    outcome = outcome or v.verdict
    value = "not a finite number" if v.value is None else f"{v.value:.4g}"
    bounds = "" if v.value is None or v.low == v.high else f" [{_bound(v.low, '-∞')}, {_bound(v.high, '∞')}]"
    if v.threshold is None:
        threshold = ""
    elif isinstance(v.threshold, list):
        threshold = f", to be within {v.threshold[0]:g} … {v.threshold[1]:g}"
    else:
        threshold = f", to be {v.direction} {v.threshold:g}"
    threshold += f" ({SOURCES[v.source]})" if threshold and v.source in SOURCES else ""
    again = f" · replicated {replicated[0]} of {replicated[1]}" if replicated else ""
    kind = " · in full" if v.scale == "full" else " · deterministic" if v.deterministic else ""
    more = f" · {v.more_seeds} times the seeds" if v.more_seeds > 1 else ""
    broken = "; ".join(_damage(b) for b in v.broken)
    unmet = ", ".join(name for name, met in v.given.items() if not met)
    cases = ", ".join(f"{name}: {'–' if case[0] is None else f'{case[0]:.3g}'}" for name, case in v.cases.items())
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(width=12, justify="right")
    grid.add_column(overflow="fold")
    grid.add_row(Text(outcome, style=COLORS[outcome]), Text(v.statement))
    details = [
        f"{value}{bounds}{threshold} · {v.seconds:.1f} s{kind}{more}{again}",
        f"not met: {unmet}" if unmet else "",
        f"cases: {cases}" if cases else "",
        f"broken variants: {broken}",
        v.note,
    ]
    for line in filter(None, details):
        grid.add_row("", Text(line, style="dim"))
    out.print(grid)


def _bound(value: float | None, infinite: str) -> str:
    return infinite if value is None else f"{value:.4g}"


def _damage(row: dict) -> str:
    """What became of a broken variant."""
    at = "" if row["value"] is None else f" at {row['value']:.3g}"
    if row["verdict"] in ("holds", "error"):
        return f"{row['name']}: {'NOT CAUGHT' if row['verdict'] == 'holds' else 'ERROR'}{at}"
    return f"{row['name']}: {'caught' if row['informative'] else 'not informative'}{at}"


@app.command(epilog="Example: attractor cite adahessian muon-mla-moe >> references.bib")
def cite(slugs: Annotated[list[str], typer.Argument(help="Papers.")]) -> None:
    """Papers as BibTeX."""
    print("\n\n".join(map(bibtex, map(find, slugs))))
