"""Bytes that came in, as a feed or as JSON; what is not well-formed is read as far as it is, and no further."""

import io
import json
import re
from dataclasses import dataclass
from html.entities import html5
from typing import Any
from xml.parsers import expat

from attractor.feed.extras import needs

ITEMS = ("item", "entry")  # of RSS and of Atom
ONCE = ("title", "guid", "id")  # what an item has one of
DEEPEST = 100  # elements inside each other
ENCODINGS = ("iso-8859-1", "iso-8859-15", "windows-1252", "big5", "euc-jp", "euc-kr",
             "gb18030", "gb2312", "gbk", "koi8-r", "shift_jis", "windows-1251")  # fmt: skip
_DECLARED = re.compile(r"""\s*<\?xml[^>]*?encoding\s*=\s*["']([\w.:-]+)["']""")
_LETTER, _DAMAGE = re.compile("[^\x00-\x7f\ufffd]"), re.compile("\ufffd+")
_ILLEGAL = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
XML_ENTITIES = {"lt", "gt", "amp", "quot", "apos"}


class Unreadable(Exception):
    """A document that is not what its source should send, or one that it would be dangerous to read."""


@dataclass(frozen=True)
class Feed:
    """An RSS or Atom document.

    Attributes:
        channel: What it says of itself, as `feedparser` names it.
        items: Its items, likewise.
        broken: Why it could not be read to its end, or ``""``.
        skip_days: The weekdays on which there is nothing, as it says.
        doubled: How many items are left out that have two titles or two ids: two items that have run together.
    """

    channel: Any
    items: list[Any]
    broken: str
    skip_days: tuple[str, ...] = ()
    doubled: int = 0


def decoded(body: bytes, charset: str | None = None) -> str:
    """A document's text: by its byte order mark, as UTF-8 where that fits, else as it or its header declares.

    What no declared encoding fits is read as Windows-1252, as browsers do, unless some of it is UTF-8: then what is
    damaged is marked as such.
    """
    for mark, encoding in ((b"\xef\xbb\xbf", "utf-8"), (b"\xff\xfe", "utf-16-le"), (b"\xfe\xff", "utf-16-be")):
        if body.startswith(mark):
            return body[len(mark) :].decode(encoding, "replace")
    if b"\0" in body[:4]:
        return body.decode("utf-16-le" if body[1:2] == b"\0" else "utf-16-be", "replace")
    try:
        return body.decode()
    except UnicodeDecodeError:
        damaged = body.decode("utf-8", "replace")
    # Letters of several bytes that fit do not come about by accident: a few damaged ones among them do not make it
    # another encoding, in which every such letter would be two wrong ones.
    letters, damages = len(_LETTER.findall(damaged)), len(_DAMAGE.findall(damaged))
    named = _DECLARED.match(body[:400].decode("latin-1"))
    for encoding in (charset, named[1] if named else None):
        if encoding and encoding.lower() in ENCODINGS and letters < damages:
            try:
                return body.decode(encoding)
            except UnicodeDecodeError:
                continue
    return damaged if letters else body.decode("windows-1252", "replace")


def feed(text: str) -> Feed:
    """Read RSS (any version) or Atom.

    A document that breaks off, or breaks in the middle, gives the items that came whole before that.

    Raises:
        Unreadable: if it is no feed, declares entities, or nests too deeply.
        ImportError: if feedparser is not installed.
    """
    with needs("feed"):
        import feedparser
    text, broken, doubled = whole_items(tidied(text))
    # A stream, since of a string feedparser asks whether it names a file. Markup is taken out later, from whatever
    # field it is in; feedparser would take the `<` of mathematics for it.
    try:
        told = feedparser.parse(io.BytesIO(text.encode()), sanitize_html=False, resolve_relative_uris=False)
    except Exception as error:  # of its own making: it fails on some odd but well-formed documents
        raise Unreadable(f"feedparser cannot read it ({type(error).__name__}: {error})") from error
    if not told.version and not told.entries:
        raise Unreadable("neither RSS nor Atom")
    skipped = re.search(r"<skipDays>(.{0,1000}?)</skipDays>", text, re.DOTALL)  # of which feedparser keeps the last
    days = re.findall(r"<day>\s*(\w+)\s*</day>", skipped[1]) if skipped else []
    return Feed(told.feed, list(told.entries), broken, tuple(days), doubled)


def tidied(text: str) -> str:
    """XML with the commonest faults taken out: characters that are none, HTML's named entities, lone ampersands."""
    text = _ILLEGAL.sub("", text).lstrip("\ufeff \t\r\n")
    text = re.sub(r"^<\?xml[^>]*\?>", "", text)  # it is Unicode now, whatever it says

    def entity(found: re.Match[str]) -> str:
        name = found[1]
        if name in XML_ENTITIES or re.fullmatch(r"#(?:\d{1,7}|x[0-9a-fA-F]{1,6})", name):
            return found[0]
        return "".join(f"&#{ord(c)};" for c in html5.get(f"{name};", "")) or f"&amp;{name};"

    return re.sub(r"&(?!#?\w+;)", "&amp;", re.sub(r"&(#?\w+);", entity, text))


def whole_items(text: str) -> tuple[str, str, int]:
    """XML up to the end of the last item before its first fault, closed properly; what the fault is, or ``""``.

    Items that have two titles or two ids are left out; how many they are comes last.

    Raises:
        Unreadable: if it declares entities or nests too deeply.
    """
    parser = expat.ParserCreate("utf-8")
    stack: list[str] = []
    begun: list[tuple[int, int, list[str]]] = []  # items that are open: where they begin, how deep, what is in them
    ends: list[tuple[int, list[str]]] = []
    doubled: list[tuple[int, int]] = []
    data = text.encode()

    def start(name: str, attributes: object) -> None:
        if begun and len(stack) == begun[-1][1] + 1:
            begun[-1][2].append(name)
        if name in ITEMS:
            begun.append((parser.CurrentByteIndex, len(stack), []))
        stack.append(name)
        if len(stack) > DEEPEST:
            raise Unreadable(f"elements nest more than {DEEPEST} deep")

    def end(name: str) -> None:
        stack.pop()
        at = parser.CurrentByteIndex
        if data[at : at + 2] == b"</":  # else the element is empty, and this is where it begins
            at = data.index(b">", at) + 1
            if name in ITEMS or not stack:
                ends.append((at, stack[::-1]))
        if name in ITEMS:
            begins, _, inside = begun.pop()
            if any(inside.count(only) > 1 for only in ONCE):
                doubled.append((begins, at))

    def declared(*_: object) -> int:
        raise Unreadable("it declares entities of its own, which is refused")

    parser.StartElementHandler, parser.EndElementHandler = start, end
    parser.EntityDeclHandler = parser.UnparsedEntityDeclHandler = parser.ExternalEntityRefHandler = declared
    fault = ""
    try:
        parser.Parse(data, True)
    except expat.ExpatError as error:
        fault = f"not well-formed in line {error.lineno}: {expat.errors.messages[error.code]}"
        if not ends:
            raise Unreadable(fault) from error
        at, names = ends[-1]
        data = data[:at] + "".join(f"</{name}>" for name in names).encode()
    doubled = [span for span in doubled if span[1] <= len(data)]
    for begins, ends_at in reversed(doubled):
        data = data[:begins] + data[ends_at:]
    return data.decode(), fault, len(doubled)


def json_value(text: str) -> Any:
    """Read JSON.

    Raises:
        Unreadable: if it is none, or nests too deeply.
    """
    try:
        return json.loads(text.lstrip("\ufeff"))
    except (ValueError, RecursionError) as error:
        raise Unreadable(f"no JSON: {str(error)[:100]}") from error
