"""Reference managers' files, BibTeX, RIS and CSL-JSON, and lists of arXiv numbers."""

import json
import logging
import re
from collections.abc import Iterable, Mapping
from typing import Any

from attractor.extras import needs
from attractor.feed.entry import ARXIV, Entry
from attractor.papers.catalogue import catalogue

# An entry, or `None`; its date as it stands; what to show of it if it cannot be read, and why it cannot.
Read = tuple[Entry | None, str, str]
ARXIV_IN_TEXT = re.compile(r"arxiv(?:\.org/\w+/|[:/ ]\s*)(\d{4}\.\d{4,5}(?:v\d+)?|[a-z-]+(?:\.[a-z]{2})?/\d{7})", re.I)
MONTHS = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"]


def read_bibtex(text: str) -> list[Read]:
    """The entries of a BibTeX file; LaTeX's accents become letters, names go given name first."""
    with needs("feed"):
        from bibtexparser import middlewares
        from bibtexparser.entrypoint import parse_string
    logging.getLogger("bibtexparser").setLevel(logging.ERROR)  # what it cannot parse is told here
    decode = [middlewares.LatexDecodingMiddleware(), middlewares.SeparateCoAuthors(), middlewares.SplitNameParts()]
    library = parse_string(text, append_middleware=decode)
    read = []
    for block in library.entries:
        row = {field.key.lower(): field.value for field in block.fields}
        authors = [" ".join([*n.first, *n.von, *n.last, *n.jr]) for n in row.get("author", ())]
        month = str(row.get("month", ""))[:3].lower()
        day = [row.get("year"), MONTHS.index(month) + 1 if month in MONTHS else month or None, row.get("day")]
        where = f"@{block.entry_type}{{{block.key}"
        numbers = [row.get(name, "") for name in ("eprint", "arxiv", "url", "journal", "note")]
        fields = {"title": row.get("title", ""), "abstract": row.get("abstract", ""), "doi": row.get("doi")}
        read.append(_entry({**fields, "link": row.get("url", "")}, authors, numbers, row.get("date") or day, where))
    failed = (" ".join(str(block.raw).split())[:80] for block in library.failed_blocks)
    return [*read, *((None, "", f"{block}: no BibTeX that can be parsed") for block in failed)]


def read_ris(text: str) -> list[Read]:
    """The entries of a RIS file, as EndNote, Zotero and publishers write it."""
    with needs("feed"):
        import rispy
    read = []
    for row in rispy.loads(text):
        title = row.get("title") or row.get("primary_title") or ""
        link = next(iter(row.get("urls") or row.get("url") or [""]))
        numbers = [*row.get("urls", ()), row.get("accession_number", ""), *row.get("notes", ())]
        fields = {"title": title, "abstract": row.get("abstract") or row.get("notes_abstract", "")}
        authors = [_given_first(name) for name in row.get("authors") or row.get("first_authors") or ()]
        day = (row.get("date") or row.get("year") or row.get("publication_year") or "").replace("/", "-").strip("-")
        read.append(_entry({**fields, "doi": row.get("doi"), "link": link}, authors, numbers, day, title or "an entry"))
    return read


def read_csl(text: str) -> list[Read]:
    """The items of a CSL-JSON file, as Zotero and pandoc write it.

    Raises:
        ValueError: if it is JSON of another shape.
    """
    items = json.loads(text)
    items = items.get("items", [items]) if isinstance(items, dict) else items
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        raise ValueError("expected CSL-JSON: a list of objects, each with a title")
    read = []
    for item in items:
        people = [a for a in item.get("author") or () if isinstance(a, dict)]
        given = ("given", "non-dropping-particle", "family", "suffix")
        authors = [a.get("literal") or " ".join(filter(None, map(a.get, given))) for a in people]
        day = next(iter((item.get("issued") or {}).get("date-parts") or [[]]))
        numbers = [str(item.get(name, "")) for name in ("number", "archive_location", "URL", "note")]
        fields = {"title": str(item.get("title", "")), "abstract": _plain(str(item.get("abstract", "")))}
        fields |= {"doi": item.get("DOI"), "link": item.get("URL", "")}
        read.append(_entry(fields, authors, numbers, day, str(item.get("title") or item.get("id") or "an item")))
    return read


def read_numbers(text: str) -> list[Read]:
    """arXiv numbers or addresses, one a line: papers of the catalogue are known without asking arXiv."""
    known = {paper.arxiv: paper for paper in catalogue().values() if paper.arxiv}
    read: list[Read] = []
    for line in filter(None, map(str.strip, text.splitlines())):
        found = ARXIV.fullmatch(line)
        paper = known.get(found["id"]) if found else None
        if paper is None:
            read.append((None, "", f"{line}: not in the catalogue; `attractor feed sync` asks arXiv for others"))
        else:
            read.append((Entry(paper.title, authors=paper.authors, arxiv=line), str(paper.year or ""), ""))
    return read


def _entry(fields: Mapping[str, Any], authors: Iterable[str], numbers: list[str], day: Any, where: str) -> Read:
    """An entry of what a file says; its date counts as one if it has year, month and day."""
    parts = [str(p) for p in (re.split(r"[-/]", day) if isinstance(day, str) else day) if p not in (None, "")]
    told = "-".join(p.zfill(2) for p in parts[:3]) if parts and re.fullmatch(r"\d{4}", parts[0]) else ""
    link = fields["link"] if re.match("https?://", fields["link"] or "") else ""
    arxiv = next(
        (found[1] for n in numbers if (found := ARXIV_IN_TEXT.search(n))), next(filter(ARXIV.fullmatch, numbers), None)
    )
    known = {"authors": tuple(authors), "published": told if re.fullmatch(r"\d{4}-\d{2}-\d{2}", told) else None}
    try:
        entry = Entry(
            _plain(fields["title"]), fields["abstract"], **known, arxiv=arxiv, doi=fields["doi"] or None, link=link
        )
    except ValueError as error:
        return None, "", f"{where}: {error}"
    return entry, told, ""


def _given_first(name: str) -> str:
    family, _, given = name.partition(",")
    return f"{given.strip()} {family.strip()}"


def _plain(text: str) -> str:
    return re.sub(r"</?[a-zA-Z][^>]*>", "", text).replace("{", "").replace("}", "")
