"""The text of a daily-papers page, saved or copied: titles, abstracts, sometimes authors and dates, in a loose order.

Paragraphs are told apart by what they look like. What belongs to the page itself (its header, menus, counts) is left
out, also where it has run into the title after it; what fits nothing is handed back, and nothing is made up.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime

from attractor.feed.entry import Entry, normal_title

MONTHS = "Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec"
DATE = rf"(?:Published on |Submitted on )?(?P<month>{MONTHS})[a-z]* (?P<day>\d{{1,2}})(?:, (?P<year>\d{{4}})|(?![\d,]))"
COUNT = r"\+?\d+ (?:more )?authors?|\d+ comments?|\d+|[•·|]"
HEADER = (
    r"Get trending papers in your email inbox(?: once a day)?!|Subscribe|Daily Papers|Trending Papers|"
    r"by\s*AK and the research community"
)
# At the start of a line, with what follows run into it; "new" and a date without a year only where no word goes on.
RUN_IN = re.compile(
    rf"\s*(?:{HEADER}|new(?=[A-Z])|\+?\d+ (?:more )?authors?|\d+ comments?|[•·|]|{DATE}(?(year)|(?=\s*(?:[A-Z]|$))))\s*"
)
MENU = re.compile(
    "new|Upvote|Previous|Next|Papers|Models|Datasets|Spaces|Docs|Pricing|Log In|Sign Up|Community|Hugging Face|"
    r"View arXiv page|View PDF|PDF|arXiv(?:\.org)?|Abstract|#* ?page \w{1,3}"
)
SUBMITTED = re.compile(r"Submitted by( \S+)?")
ALONE = re.compile(rf"{HEADER}|{COUNT}|{MENU.pattern}")
PARTICLES = {"al", "bin", "da", "de", "del", "den", "der", "di", "dos", "du", "el", "la", "le", "van", "von", "y"}
# A sentence's end and the next title, run together; not a number such as 2.0.
GLUED = re.compile(r"(?:(?<=[\w)\]}%$\"”'/][.!?])(?=[^\W\d_])|(?<=[^\W\d_][.!?])(?=\d))(?![a-z](?!-))")
GLUED_TO_LINK = re.compile(r"://\S*[\w/](?=[A-Z][a-z])")
SENTENCE = re.compile(r"[a-z0-9)%][.!?][\"”')]* +[A-Z(]")
LONG = 200  # characters that titles hardly have
LONGEST = 250  # characters of a title
BROKEN = 160  # characters that no line has in a text whose paragraphs are broken into lines


@dataclass(frozen=True)
class Reading:
    """What a page says.

    Attributes:
        entries: Its papers, in order.
        dates: Of each, the date as it stands on the page, ``""`` where it has none; only one with a year is a date of
            the entry.
        unread: Paragraphs that fit nothing.
    """

    entries: tuple[Entry, ...]
    dates: tuple[str, ...]
    unread: tuple[str, ...]


@dataclass
class _Paper:
    title: str
    abstract: list[str] = field(default_factory=list)
    authors: tuple[str, ...] = ()
    date: str = ""


def read_page(text: str) -> Reading:
    """Take a page's text apart.

    Arguments:
        text: As saved or copied, with or without blank lines between paragraphs, with lines broken or not.
    """
    papers: list[_Paper] = []
    unread: list[str] = []
    pieces = list(_pieces(text))
    abstracts = sum(kind == "abstract" for kind, _ in pieces)
    # Some titles look like names: a page lists authors if it does so for many papers, or says so.
    lists = sum(len(_authors(piece)) > 1 for kind, piece in pieces if kind == "title")
    listed = 0 < abstracts <= 2 * lists
    for i, (kind, piece) in enumerate(pieces):
        paper = papers[-1] if papers else None
        following = next((k for k, _ in pieces[i + 1 :] if k != "date"), "")
        names = _authors(piece) if listed or re.match("Authors?:", piece) else ()
        if kind == "date":
            if paper is not None and paper.abstract and not paper.date:
                paper.date = piece
        elif kind == "abstract":
            if paper is None or paper.date:
                unread.append(piece)
            else:
                paper.abstract.append(piece)
        elif paper is not None and names and not paper.authors and (not paper.abstract or following != "abstract"):
            paper.authors = names
        else:
            papers.append(_Paper(piece))
    entries, dates = [], []
    for paper in papers:
        if not paper.abstract and len(paper.title.split()) < 3:
            unread.append(paper.title)
            continue
        published = _day(paper.date)
        entries.append(Entry(paper.title, " ".join(paper.abstract), paper.authors, published))
        dates.append(published or paper.date)
    return Reading(tuple(entries), tuple(dates), tuple(unread))


def _pieces(text: str) -> Iterator[tuple[str, str]]:
    """The paragraphs that say something, each with what it is: "date", "abstract" or "title"."""
    paragraphs = list(_paragraphs(text))
    for i, paragraph in enumerate(paragraphs):
        line, date = _bare(paragraph)
        if date:
            yield "date", date
        if not normal_title(line):  # rules and ornaments
            continue
        if not _is_abstract(line):
            yield "title", line
            continue
        following = next((bare for p in paragraphs[i + 1 :] if (bare := _bare(p)[0])), "")
        glued = _glued(line) if _is_abstract(following) else None
        yield "abstract", line[:glued]
        if glued is not None:
            yield "title", line[glued:]


def _glued(line: str) -> int | None:
    """Where the next title begins that has run into an abstract's end; `None` if there is none."""
    if line.endswith("."):
        return None
    cuts = [m.start() for m in GLUED.finditer(line)] or [m.end() for m in GLUED_TO_LINK.finditer(line)]
    return next((cut for cut in reversed(cuts) if len(line) - cut <= LONGEST), None)


def _paragraphs(text: str) -> Iterator[str]:
    """Lines, where each is a paragraph; else what blank lines separate, its lines joined."""
    lines = [" ".join(line.split()) for line in text.splitlines()]
    submitted = [bool(SUBMITTED.fullmatch(line)) for line in lines]
    for i in (i for i, found in enumerate(submitted) if found):
        named = next((j for j in range(i + 1, len(lines)) if lines[j]), i)
        if lines[i] == "Submitted by" and len(lines[named].split()) == 1:
            lines[named] = ""
        lines[i] = ""
    if max(map(len, lines), default=0) > BROKEN:
        yield from filter(None, lines)
        return
    block = ""
    for line in [*lines, ""]:
        alone = not line or re.fullmatch(rf"{COUNT}|{DATE}", line) or (not block and ALONE.fullmatch(line))
        if block and alone:
            yield block
            block = ""
        if line and alone:
            yield line
        elif line:
            block += line if not block or re.search(r"\w-$", block) else f" {line}"


def _bare(paragraph: str) -> tuple[str, str]:
    """A paragraph without what belongs to the page, and the date that stood there."""
    line, date = re.sub(r"^#+ (?!page )|^[-*] +", "", paragraph), ""
    while line and not ALONE.fullmatch(line):
        found = RUN_IN.match(line)
        if found is None or found.end() == 0:
            return line.strip(), date
        if found["month"]:
            date = found.group().strip()
        line = line[found.end() :]
    return "", date


def _is_abstract(line: str) -> bool:
    ends, sentences = line.rstrip("\"”')").endswith((".", "!", "?", "…")), SENTENCE.search(line) is not None
    return (len(line) > LONG and (ends or sentences)) or (len(line) > 80 and ends and sentences)


def _authors(line: str) -> tuple[str, ...]:
    """Names, if it is a list of them and of nothing else."""
    listed = re.sub(r"^(?:Authors?:|by) +", "", line)
    names = [name.strip() for name in re.split(r",| and | & ", listed) if name.strip()]
    return tuple(names) if all(map(_is_name, names)) else ()


def _is_name(text: str) -> bool:
    words = text.split()
    capital = all(word[0].isupper() or word in PARTICLES for word in words)
    return 2 <= len(words) <= 5 and capital and re.fullmatch(r"[^\d_,:;()?!]+", text) is not None


def _day(date: str) -> str | None:
    found = re.search(DATE, date)
    if found is None or not found["year"]:
        return None
    try:
        return datetime.strptime(f"{found['month']} {found['day']} {found['year']}", "%b %d %Y").date().isoformat()
    except ValueError:  # Feb 31
        return None
