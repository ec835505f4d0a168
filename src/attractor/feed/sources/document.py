"""Bytes that came in, as a feed or as JSON; what is not well-formed is read as far as it is, and no further."""

import io
import json
import re
from dataclasses import dataclass
from html.entities import html5
from typing import Any
from xml.parsers import expat

from attractor.extras import needs

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
        damaged: How many items are left out since they are not one item (see `whole_items`).
    """

    channel: Any
    items: list[Any]
    broken: str
    skip_days: tuple[str, ...] = ()
    damaged: int = 0


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
    text, broken, damaged = whole_items(tidied(text))
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
    return Feed(told.feed, list(told.entries), broken, tuple(days), damaged)


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


@dataclass
class _Open:
    """An item whose end is still to come.

    Attributes:
        begins: Where its own begins, or goes on after an item inside it.
        depth: How many elements are around it.
        inside: The names of what is in it.
        damaged: Whether it is seen already that it is not one item.
    """

    begins: int
    depth: int
    inside: list[str]
    damaged: bool = False


def whole_items(text: str) -> tuple[str, str, int]:
    """XML up to the end of the last item before its first fault, closed properly; what the fault is, or ``""``.

    Items are left out that have two titles or two ids, or an element within one of the same name; of an item that holds
    others, only those stay. How many are left out comes last.

    Raises:
        Unreadable: if it declares entities, nests too deeply, or is an item and no feed.
    """
    parser = expat.ParserCreate("utf-8")
    stack: list[str] = []
    begun: list[_Open] = []
    ends: list[tuple[int, list[str]]] = []  # of items: where, and what is open around all items there
    cuts: list[tuple[int, int]] = []
    left_out: list[int] = []  # where those items end
    data = text.encode()

    def start(name: str, attributes: object) -> None:
        at = parser.CurrentByteIndex
        if begun:
            around = begun[-1]
            if len(stack) == around.depth + 1:
                around.inside.append(name)
            elif name == stack[around.depth + 1] and not name.endswith("div"):  # HTML's may be
                around.damaged = True
        if name in ITEMS:
            if not stack:
                raise Unreadable("neither RSS nor Atom")
            if begun:
                cuts.append((begun[-1].begins, at))
                begun[-1].damaged = True
            begun.append(_Open(at, len(stack), []))
        stack.append(name)
        if len(stack) > DEEPEST:
            raise Unreadable(f"elements nest more than {DEEPEST} deep")

    def end(name: str) -> None:
        stack.pop()
        at = parser.CurrentByteIndex
        closed = data[at : at + 2] == b"</"  # else the element is empty, and this is where it begins
        if closed:
            at = data.index(b">", at) + 1
        if name in ITEMS:
            item = begun.pop()
            if item.damaged or any(item.inside.count(only) > 1 for only in ONCE):
                cuts.append((item.begins, at))
                left_out.append(at)
            if begun:
                begun[-1].begins = at
        if closed and (name in ITEMS or not stack):
            ends.append((at, stack[: begun[0].depth] if begun else stack[:]))

    def declared(*_: object) -> int:
        raise Unreadable("it declares entities of its own, which is refused")

    parser.StartElementHandler, parser.EndElementHandler = start, end
    parser.EntityDeclHandler = parser.UnparsedEntityDeclHandler = parser.ExternalEntityRefHandler = declared
    fault, at = "", len(data)
    try:
        parser.Parse(data, True)
    except expat.ExpatError as error:
        fault = f"not well-formed in line {error.lineno}: {expat.errors.messages[error.code]}"
        if not ends:
            raise Unreadable(fault) from error
        at, names = ends[-1]
        data = data[:at] + "".join(f"</{name}>" for name in reversed(names)).encode()
    for begins, ends_at in reversed(cuts):
        if ends_at <= at:
            data = data[:begins] + data[ends_at:]
    return data.decode(), fault, sum(ends_at <= at for ends_at in left_out)


def json_value(text: str) -> Any:
    """Read JSON.

    Raises:
        Unreadable: if it is none, or nests too deeply.
    """
    try:
        return json.loads(text.lstrip("\ufeff"))
    except (ValueError, RecursionError) as error:
        raise Unreadable(f"no JSON: {str(error)[:100]}") from error
