"""What comes from outside, made harmless: plain text, links to pages only, days that exist, numbers in range."""

import html
import re
import unicodedata
from collections.abc import Iterable
from datetime import date, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

from attractor.extras import needs
from attractor.feed.entry import ARXIV, DOI, Entry

TITLE, ABSTRACT, NAME, LINK = 1_000, 50_000, 200, 2_000  # characters that are taken at most
AUTHORS, CATEGORIES = 5_000, 50
DAMAGED = "\ufffd"  # what stands where a letter could not be decoded
JOINERS = "\u200c\u200d"  # of Cf, the letters of some languages need these; the others hide words or turn text around

# What a browser would take for markup. Mathematics in abstracts has `<`, too ("if a<b and c>d"): a name of one letter
# counts only with attributes that are such, and what is no element of HTML is text.
_ATTRIBUTES = r"""(?:\s+[\w:-]+\s*=\s*(?:"[^"<>]*"|'[^'<>]*'|[^\s"'<>=]+))*"""
_SHORT = "a|b|i|p|q|s|u|br|em|dd|dl|dt|hr|h[1-6]|li|ol|ul|tt|td|th|tr"
_LONG = (
    "abbr|article|aside|audio|base|big|blockquote|body|button|canvas|center|cite|code|del|details|div|embed|font|footer|"
    "form|frame|frameset|head|header|html|iframe|img|input|ins|jats:[a-z]+|kbd|label|link|main|mark|math|meta|nav|"
    "noscript|object|option|param|picture|pre|samp|script|section|select|small|source|span|strike|strong|style|sub|sup|"
    "svg|table|tbody|template|textarea|tfoot|thead|title|track|video"
)
MARKUP = re.compile(rf"<(?:/?(?:{_SHORT}){_ATTRIBUTES}\s*/?|/?(?:{_LONG})(?:[\s/][^<>]*)?)>|<!--", re.IGNORECASE)
_NO_MARKUP = re.compile(rf"<(?!{MARKUP.pattern[1:].replace('|<!--', '|!--')})", re.IGNORECASE)


def plain(text: Any, limit: int = ABSTRACT) -> str:
    """Text on one line, without markup, entities and control characters; ``""`` for what is no text.

    Applied again, it changes nothing.

    Arguments:
        text: Anything that a feed may hold in a text's place.
        limit: Characters that are kept.
    """
    if not isinstance(text, str):
        return ""
    if len(text) > 8 * limit:
        text = text[: 8 * limit]
        text = text[: text.rfind("<")] if text.rfind("<") > text.rfind(">") else text  # not half of an element
    for _ in range(8):  # escaped twice is common, and each turn makes it shorter
        before, text = text, _decoded(text)
        if text == before:
            break
    else:
        text = " ".join(re.sub("[<&]", " ", text).split())
    return text[:limit].strip()


def _decoded(text: str) -> str:
    with needs("feed"):
        import nh3
    if MARKUP.search(text):
        text = MARKUP.sub(_spaced, _NO_MARKUP.sub("&lt;", re.sub(r"&(?!#?\w+;)", "&amp;", text)))
        text = html.unescape(nh3.clean(text, tags=set()))
    else:
        text = re.sub(r"&#?\w+;", lambda found: html.unescape(found[0]), text)
    kept = (" " if c.isspace() else c for c in text if c.isspace() or _visible(c))
    return " ".join(unicodedata.normalize("NFC", "".join(kept)).split())


def _spaced(found: re.Match[str]) -> str:
    """Blocks are set apart: the words of two paragraphs are not one word."""
    return f" {found[0]} " if re.match(r"</?(?:br|p|div|li|h\d|td|tr)\b", found[0], re.IGNORECASE) else found[0]


def _visible(character: str) -> bool:
    return character in JOINERS or unicodedata.category(character) not in ("Cc", "Cf", "Cs", "Cn", "Co")


def link(text: Any) -> str:
    """A web address, or ``""`` for what is none: other schemes, other parts than a page's, too long."""
    if not isinstance(text, str):
        return ""
    text = html.unescape(text).strip()
    if len(text) > LINK or re.search(r"[\s\"'<>\\^`{|}\x00-\x20\x7f-\x9f]", text) or plain(text, LINK) != text:
        return ""
    try:
        parts = urlsplit(text)
        _ = parts.port
    except ValueError:
        return ""
    fit = parts.scheme.lower() in ("http", "https") and parts.hostname and "@" not in parts.netloc
    return text if fit else ""


def day(text: Any, now: datetime) -> str | None:
    """The day that an ISO date or instant names; `None` if there is no such day, or no paper can be of it."""
    if not isinstance(text, str):
        return None
    try:
        found = date.fromisoformat(text.strip()[:10])
    except ValueError:
        return None
    return found.isoformat() if date(1900, 1, 1) < found <= now.date() + timedelta(days=2) else None


def first_day(text: Any, number: str | None, now: datetime) -> str | None:
    """The day of a first version, `None` where it is none, or none that fits the month in the paper's arXiv number."""
    found = day(text, now)
    month = re.match(r"(?:[a-z.-]+/)?(\d\d)(\d\d)", number or "", re.IGNORECASE)
    if found is None or month is None:
        return found
    year, past = int(month[1]) + (1900 if int(month[1]) > 90 else 2000), int(month[2]) - 1
    if not 0 <= past < 12:
        return None
    begins = date(year, past + 1, 1)  # submitted up to some weeks before, announced up to two weeks after
    return found if begins - timedelta(days=60) <= date.fromisoformat(found) <= begins + timedelta(days=45) else None


def votes(number: Any) -> int | None:
    """A count of votes, or `None` for what is none."""
    return number if isinstance(number, int) and not isinstance(number, bool) and 0 <= number < 10**9 else None


def arxiv_number(text: Any) -> str | None:
    """The arXiv number, with its version if it is there, that a text *is* (not merely holds); else `None`."""
    found = ARXIV.fullmatch(text.strip().split("?")[0].split("#")[0]) if isinstance(text, str) else None
    return (found["id"] + (f"v{found['version']}" if found["version"] else "")) if found else None


def doi(text: Any) -> str | None:
    """The DOI that a text is, or `None`."""
    found = DOI.fullmatch(text.strip()) if isinstance(text, str) and len(text) < 300 else None
    return found["doi"] if found and plain(found["doi"], 300) == found["doi"] else None


def entry(
    title: Any,
    now: datetime,
    *,
    abstract: Any = "",
    authors: Iterable[Any] = (),
    published: Any = None,
    arxiv: Any = None,
    address: Any = "",
    digital: Any = None,
    categories: Iterable[Any] = (),
) -> Entry:
    """A paper from a source's own words, which may be anything.

    Arguments:
        title: Its title.
        now: This instant: a day later than tomorrow is none.
        abstract: Its abstract.
        authors: Their names.
        published: The day of its first version.
        arxiv: Its arXiv number, or an address on arXiv.
        address: Where to read about it.
        digital: Its DOI.
        categories: arXiv's subject classes.

    Raises:
        ValueError: if there is no title, one that is too long for a title, or one with letters that are damaged.
    """
    words = plain(title, TITLE + 1)
    if len(words) > TITLE or (isinstance(title, str) and len(title) > 8 * TITLE):
        raise ValueError(f"title: expected at most {TITLE} characters, got {len(title)}")
    if DAMAGED in words:
        raise ValueError(f"title: expected readable letters, got {words[:80]!r}")
    number, text = arxiv_number(arxiv), plain(abstract)
    names = [plain(name, NAME) for name in list(authors)[:AUTHORS]]
    return Entry(
        words,
        "" if DAMAGED in text else text,  # for a source that knows it better
        () if any(DAMAGED in name for name in names) else tuple(name for name in names if name and "@" not in name),
        first_day(published, number, now),
        number,
        doi=doi(digital),
        link="" if number else link(address),
        categories=tuple(filter(None, (plain(c, 50) for c in list(categories)[:CATEGORIES]))),
    )
