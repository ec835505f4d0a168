"""Files of others, taken in: what was taken, what was merged with what is known, what could not be read."""

import json
import re
from dataclasses import dataclass, field
from typing import Any

from attractor.feed.bibliographies import Read, read_bibtex, read_csl, read_numbers, read_ris
from attractor.feed.database import transaction
from attractor.feed.entry import ARXIV
from attractor.feed.library import Library
from attractor.feed.pasted import read_page
from attractor.names import unknown

FORMATS = {
    "bibtex": "BibTeX", "ris": "RIS", "csl": "CSL-JSON", "arxiv": "arXiv numbers or addresses, one a line",
    "page": "the saved or copied text of a daily-papers page",
}  # fmt: skip


@dataclass
class Imported:
    """What became of files.

    Attributes:
        papers: A row for each paper, the first time it is told of: title, abstract, authors, date (as told: a day, or
            what stands in the file), arxiv, slug (of the catalogue, or null).
        merged: Titles that were told of again, or were known before.
        unread: What could not be read, with the file and the reason.
    """

    papers: list[dict[str, Any]] = field(default_factory=list)
    merged: list[str] = field(default_factory=list)
    unread: list[str] = field(default_factory=list)


def import_texts(library: Library, texts: dict[str, str], format: str | None = None) -> Imported:
    """Take papers in from texts: all of them, or nothing if one is no such text.

    Arguments:
        texts: By name, such as the file's.
        format: A key of `FORMATS`; default: found out from each text.

    Raises:
        ValueError: for an unknown format, or a text that is none of them; nothing is stored then.
    """
    if format is not None and format not in FORMATS:
        raise unknown("format", format, FORMATS, f"formats: {', '.join(FORMATS)}")
    read = {}
    for name, text in texts.items():
        try:
            read[name] = read_text(text, format or format_of(text))
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from error
    outcome, seen = Imported(), set()
    with transaction(library.connection):
        for name, entry, date, why in ((name, *one) for name, found in read.items() for one in found):
            if entry is None:
                outcome.unread.append(f"{name}: {why}")
                continue
            added = library.add([entry], f"import:{name}")
            (number,) = added.new + added.changed + added.known
            if not added.new:
                outcome.merged.append(entry.title)
            if number not in seen:
                stored = library.get(number)
                row = {"title": entry.title, "abstract": entry.abstract, "authors": list(entry.authors)}
                row |= {"date": entry.published or date or None, "arxiv": stored.entry.arxiv, "slug": stored.slug}
                outcome.papers.append(row)
            seen.add(number)
    return outcome


def format_of(text: str) -> str:
    """What a text is, a key of `FORMATS`.

    Raises:
        ValueError: if it is empty, a web page's source, or no text.
    """
    start = text.lstrip("\ufeff \t\r\n")
    if not start:
        raise ValueError("expected papers, got nothing")
    if "\0" in text:
        raise ValueError(f"expected text ({'; '.join(FORMATS.values())}), got a binary file")
    if re.match(r"<(!doctype|html|\?xml)", start, re.I):
        raise ValueError("expected text, got a web page's source: save the page as text, or copy it")
    if start[0] in "[{":
        json.loads(start)
        return "csl"
    if re.search(r"^\s*@\w+\s*[{(]", start, re.M):
        return "bibtex"
    if re.match(r"TY {2}- ", start):
        return "ris"
    lines = [line.strip() for line in start.splitlines() if line.strip()]
    return "arxiv" if all(ARXIV.fullmatch(line) for line in lines) else "page"


def read_text(text: str, format: str) -> list[Read]:
    """The papers of a text: each with the day as told, or `None` with why it could not be read.

    Arguments:
        text: In one of the formats.
        format: A key of `FORMATS`.

    Raises:
        ValueError: if it is no such text.
    """
    text = text.removeprefix("\ufeff")
    if format == "page":
        page = read_page(text)
        found: list[Read] = [(e, date, "") for e, date in zip(page.entries, page.dates, strict=True)]
        return [*found, *((None, "", f"{said[:80]!r}: neither title nor abstract") for said in page.unread)]
    return {"bibtex": read_bibtex, "ris": read_ris, "csl": read_csl, "arxiv": read_numbers}[format](text)
