"""A paper as some source tells of it, by what two tellings are one paper, and what both know together."""

import re
import unicodedata
from dataclasses import dataclass, replace
from datetime import date
from functools import partial
from typing import Any

ARXIV = re.compile(
    r"(?:(?:arxiv:|(?:https?://)?(?:www\.|export\.)?arxiv\.org/(?:abs|pdf|html)/|oai:arxiv\.org:)\s*)?"
    r"(?P<id>\d{4}\.\d{4,5}|[a-z-]+(?:\.[a-z]{2})?/\d{7})(?:v(?P<version>\d{1,4}))?(?:\.pdf)?",
    re.IGNORECASE,
)
DOI = re.compile(r"(?:doi:\s*|https?://(?:dx\.)?doi\.org/)?(?P<doi>10\.\d{4,9}/\S+)", re.IGNORECASE)
ARXIV_DOI = "10.48550/arxiv."  # arXiv's own DOIs say what its numbers say


@dataclass(frozen=True)
class Entry:
    """A paper that came in.

    Attributes:
        title: In plain text, on one line.
        abstract: In plain text; ``""`` where unknown.
        authors: Their names in order, given name first; empty where unknown.
        published: The day of its first version, ISO 8601; `None` where unknown.
        arxiv: Its arXiv number without version, such as ``"2006.00719"``; `None` where it has none.
        version: The arXiv version that this tells of; `None` where unknown.
        doi: Lower case, without ``https://doi.org/``; `None` where it has none.
        link: Where to read about it; for papers on arXiv, the abstract's page.
        categories: arXiv's subject classes, the primary one first.

    Raises:
        ValueError: for a title without a letter, a number that is none of arXiv's, or a date that is none.
    """

    title: str
    abstract: str = ""
    authors: tuple[str, ...] = ()
    published: str | None = None
    arxiv: str | None = None
    version: int | None = None
    doi: str | None = None
    link: str = ""
    categories: tuple[str, ...] = ()

    def __post_init__(self):
        put = partial(object.__setattr__, self)  # the dataclass is frozen
        put("title", " ".join(self.title.split()))
        put("abstract", " ".join(self.abstract.split()))
        put("authors", tuple(name for name in (" ".join(a.split()) for a in self.authors) if name))
        if not normal_title(self.title):
            raise ValueError(f"title: expected words, got {self.title!r}")
        doi = (self.doi or "").strip()
        if self.doi is not None:
            found = DOI.fullmatch(doi)
            if found is None:
                raise ValueError(f"doi: expected one such as 10.1000/182, got {self.doi!r}")
            doi = found["doi"].lower()
            if doi.startswith(ARXIV_DOI):
                put("arxiv", self.arxiv or doi.removeprefix(ARXIV_DOI))
                put("doi", None)
        if self.arxiv is not None:
            found = ARXIV.fullmatch(self.arxiv.strip())
            if found is None:
                raise ValueError(f"arxiv: expected a number such as 2006.00719, got {self.arxiv!r}")
            put("arxiv", re.sub(r"\.[a-z]{2}/", "/", found["id"].lower()))
            put("version", self.version or (int(found["version"]) if found["version"] else None))
            put("link", self.link or f"https://arxiv.org/abs/{self.arxiv}")
        if self.doi is not None:
            put("doi", doi)
            put("link", self.link or f"https://doi.org/{self.doi}")
        if self.published is not None:
            put("published", date.fromisoformat(self.published[:10]).isoformat())

    @property
    def uid(self) -> str:
        """What it is known by: its arXiv number, else its DOI, else its title's words."""
        if self.arxiv:
            return f"arxiv:{self.arxiv}"
        return f"doi:{self.doi}" if self.doi else f"title:{normal_title(self.title).replace(' ', '-')}"

    def asdict(self) -> dict[str, Any]:
        """Its fields, as JSON takes them."""
        return {**vars(self), "authors": list(self.authors), "categories": list(self.categories)}


def normal_title(title: str) -> str:
    """A title's letters and digits, lower case, without accents and markup: what two spellings share."""
    text = unicodedata.normalize("NFKD", re.sub(r"\\[a-zA-Z]+|<[^>]*>|[${}]", " ", title).casefold())
    return " ".join(re.findall(r"\w+", "".join(c for c in text if not unicodedata.combining(c))))


def compatible(a: Entry, b: Entry) -> bool:
    """Whether two entries with the same title may be one paper: where both have a number, it is the same."""
    return all(x == y or x is None or y is None for x, y in ((a.arxiv, b.arxiv), (a.doi, b.doi)))


def merged(a: Entry, b: Entry) -> Entry:
    """What two tellings of one paper know together; the same in either order.

    The newer arXiv version's words win, then the longer ones; of dates, the earlier.
    """
    first, second = sorted((a, b), key=_rank, reverse=True)
    days = sorted(filter(None, (a.published, b.published)))
    number = first.arxiv or second.arxiv
    return replace(
        first,
        abstract=first.abstract or second.abstract,
        authors=first.authors or second.authors,
        categories=first.categories or second.categories,
        published=days[0] if days else None,
        arxiv=number,
        doi=first.doi or second.doi,
        link=f"https://arxiv.org/abs/{number}"
        if (number := first.arxiv or second.arxiv)
        else first.link or second.link,
    )


def _rank(entry: Entry) -> tuple:
    size = (len(entry.abstract), len(entry.authors), len(entry.categories))
    return (entry.version or 0, *size, entry.title, entry.abstract, entry.authors, entry.link, entry.doi or "")
