"""The command ``import``."""

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from attractor.cli.common import AsJson, app, err, out, print_json


@app.command("import", epilog="Example: attractor import library.bib saved_page.txt · pbpaste | attractor import -")
def import_(
    files: Annotated[list[str], typer.Argument(help="Files, or - for standard input.", metavar="FILE...")],
    format: Annotated[
        str | None, typer.Option(help="bibtex, ris, csl, arxiv or page; default: found out from each file.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Take papers in: BibTeX, RIS, CSL-JSON, arXiv numbers, or the text of a daily-papers page.

    It says what it took, what it merged with papers that were known, and what it could not read.
    """
    from attractor.feed.importing import import_texts
    from attractor.feed.library import Library

    texts = {}
    for name in files:
        try:
            texts[name] = (sys.stdin.buffer.read() if name == "-" else Path(name).read_bytes()).decode()
        except UnicodeDecodeError as error:
            raise ValueError(f"{name}: expected text in UTF-8, got byte {error.object[error.start]:#x}") from error
        except IsADirectoryError as error:
            raise ValueError(f"{name}: expected a file, got a folder") from error
    with Library() as library:
        outcome = import_texts(library, texts, format)
    if as_json:
        return print_json(vars(outcome))
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("title", "in the catalogue"):
        table.add_column(column, overflow="fold")
    for row in outcome.papers:
        table.add_row(Text(row["title"]), Text(row["slug"] or "", style="dim"))
    out.print(table)
    for line in outcome.unread:
        err.print(f"not read: {line}", markup=False, highlight=False, soft_wrap=True)
    merged = f", {len(outcome.merged)} told of before" if outcome.merged else ""
    unread = f", {len(outcome.unread)} not read" if outcome.unread else ""
    out.print(f"[dim]{len(outcome.papers)} papers{merged}{unread}[/]")
    return None
