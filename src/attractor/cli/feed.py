"""Commands for papers that come in: ``feed init``, ``feed sync``, ``feed status`` and ``feed list``."""

from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from attractor.cli.common import AsJson, app, err, known_day, out, print_json
from attractor.names import unknown

feed = typer.Typer(no_args_is_help=True, help="Papers that come in from arXiv, daily papers, feeds and folders.")
app.add_typer(feed, name="feed")
COLORS = {"ok": "green", "partial": "yellow", "empty": "blue", "failed": "red", "new": "dim"}


@feed.command(epilog="Example: attractor feed init && attractor feed sync")
def init() -> None:
    """Write a first feed.toml, which says where papers are read from."""
    from attractor.feed import config

    out.print(f"wrote {config.init()}; `attractor feed sync` reads from what it names", highlight=False, soft_wrap=True)


@feed.command(epilog="Examples: attractor feed sync   ·   attractor feed sync arxiv daily-papers --json")
def sync(
    names: Annotated[list[str] | None, typer.Argument(help="Only these sources.")] = None, as_json: AsJson = False
) -> None:
    """Fetch what is new. Exit code 1 if a source failed or told less than it should."""
    from attractor.feed import Library, config
    from attractor.feed.sync import sync as fetch
    from attractor.progress import task

    settings = config.read()
    number = len(names or settings.sources)
    with Library() as library, task("asking sources", 100.0 * number, "%") as advance:
        at: dict[str, float] = {}

        def progress(name: str, papers: int, total: int | None) -> None:
            share = 100.0 * papers / total if total else 50.0
            advance(max(0.0, min(share, 100.0) - at.get(name, 0.0)))
            at[name] = max(at.get(name, 0.0), min(share, 100.0))

        outcomes = fetch(library, names or (), config=settings, progress=progress)
    if as_json:
        print_json([vars(outcome) for outcome in outcomes])
    else:
        for outcome in outcomes:
            counts = f"{outcome.new} new, {outcome.changed} changed, {outcome.known} known"
            said = Text.assemble((outcome.name, "bold"), "  ", (outcome.status, COLORS[outcome.status]), f"  {counts}")
            out.print(said + Text(f"  {outcome.message}" if outcome.message else "", style="dim"), soft_wrap=True)
        if not outcomes:
            err.print("no source is configured; `attractor feed init` writes a first feed.toml")
    raise typer.Exit(int(any(outcome.status in ("failed", "partial") for outcome in outcomes)))


@feed.command(epilog="Example: attractor feed status --json")
def status(as_json: AsJson = False) -> None:
    """How sources fare. Exit code 1 when something is wrong."""
    from attractor.feed import Library
    from attractor.feed.sync import status as told

    with Library() as library:
        found = told(library)
    if as_json:
        print_json(found)
    else:
        table = Table(box=None, pad_edge=False, header_style="bold")
        for column in ("source", "kind", "status", "papers", "last paper", "message"):
            table.add_column(column, overflow="fold", no_wrap=column == "source")
        for row in found["sources"]:
            state = Text(row["status"], style=COLORS[row["status"]])
            message = Text(row["message"])
            table.add_row(row["name"], row["kind"], state, str(row["papers"]), row["succeeded"] or "never", message)
        out.print(table)
        out.print(f"{found['papers']} papers", highlight=False)
        for problem in found["problems"]:
            err.print(f"wrong: {problem}", markup=False, highlight=False, soft_wrap=True)
    raise typer.Exit(0 if found["ok"] else 1)


@feed.command(name="list", epilog="Example: attractor feed list --source daily-papers --limit 10")
def list_command(
    source: Annotated[str | None, typer.Option(help="Only what this source told of.")] = None,
    day: Annotated[str | None, typer.Option(help="Only what was told of on this day (2026-01-31).")] = None,
    limit: Annotated[int, typer.Option(help="At most so many.", min=1)] = 30,
    as_json: AsJson = False,
) -> None:
    """Papers that came in, newest first."""
    from attractor.feed import Library
    from attractor.papers import written

    known_day("--day", day)
    with Library() as library:
        known = [row[0] for row in library.connection.execute("SELECT DISTINCT source FROM sightings ORDER BY 1")]
        if source is not None and source not in known:
            raise unknown("source", source, known, f"papers came from: {', '.join(known) or 'nowhere yet'}")
        rows = [library.row(stored) for stored in library.newest(source, day, limit)]
    if as_json:
        return print_json(rows)
    for row in rows:
        votes = f" · {row['votes']} votes" if row["votes"] is not None else ""
        tried = " · runs here" if row["slug"] and written(row["slug"]) else ""
        here = f"{tried} · attractor show {row['slug']}" if row["slug"] else ""
        out.print(Text(row["title"], style="bold"), soft_wrap=True)
        about = f"{row['published'] or ''} {row['link']}{votes}{here} · {', '.join(row['sources'])}"
        out.print(Text(about.strip(), style="dim"), soft_wrap=True)
    if not rows:
        err.print("no paper came in yet; `attractor feed sync` fetches")
    return None
