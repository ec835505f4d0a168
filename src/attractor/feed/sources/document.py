"""Bytes that came in, as a feed or as JSON; what is not well-formed is read as far as it is, and no further."""

import io
import json
import re
from dataclasses import dataclass
from html.entities import html5
from typing import Any
from xml.parsers import expat

ITEMS = ("item", "entry")  # of RSS and of Atom
DEEPEST = 100  # elements inside each other
ENCODINGS = ("utf-8", "utf-16", "us-ascii", "iso-8859-1", "iso-8859-15", "windows-1252", "big5", "euc-jp", "euc-kr",
             "gb18030", "gb2312", "gbk", "koi8-r", "shift_jis", "windows-1251")  # fmt: skip
_DECLARED = re.compile(r"""\s*<\?xml[^>]*?encoding\s*=\s*["']([\w.:-]+)["']""")
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
    """

    channel: Any
    items: list[Any]
    broken: str


def decoded(body: bytes, charset: str | None = None) -> str:
    """A document's text: by its byte order mark, as UTF-8 where that fits, else as it or its header declares.

    What no declared encoding fits is read as Windows-1252, as browsers do.
    """
    for mark, encoding in ((b"\xef\xbb\xbf", "utf-8"), (b"\xff\xfe", "utf-16-le"), (b"\xfe\xff", "utf-16-be")):
        if body.startswith(mark):
            return body[len(mark) :].decode(encoding, "replace")
    if b"\0" in body[:4]:
        return body.decode("utf-16-le" if body[1:2] == b"\0" else "utf-16-be", "replace")
    named = _DECLARED.match(body[:400].decode("latin-1"))
    for encoding in ("utf-8", charset, named[1] if named else None):
        if encoding and encoding.lower() in ENCODINGS and encoding.lower() != "utf-16":
            try:
                return body.decode(encoding)
            except (UnicodeDecodeError, LookupError):
                continue
    return body.decode("windows-1252", "replace")


def feed(text: str) -> Feed:
    """Read RSS (any version) or Atom.

    A document that breaks off, or breaks in the middle, gives the items that came whole before that.

    Raises:
        Unreadable: if it is no feed, declares entities, or nests too deeply.
        ModuleNotFoundError: if feedparser is not installed.
    """
    try:
        import feedparser
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("feeds need feedparser, an optional extra: pip install 'attractor[feed]'") from error
    text, broken = whole_items(tidied(text))
    # A stream, since of a string feedparser asks whether it names a file. Markup is taken out later, from whatever
    # field it is in; feedparser would take the `<` of mathematics for it.
    told = feedparser.parse(io.BytesIO(text.encode()), sanitize_html=False, resolve_relative_uris=False)
    if not told.version and not told.entries:
        raise Unreadable("neither RSS nor Atom")
    return Feed(told.feed, list(told.entries), broken)


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


def whole_items(text: str) -> tuple[str, str]:
    """XML up to the end of the last item before its first fault, closed properly; and what the fault is, or ``""``.

    Raises:
        Unreadable: if it declares entities or nests too deeply.
    """
    parser = expat.ParserCreate("utf-8")
    stack: list[str] = []
    ends: list[tuple[int, list[str]]] = []

    def start(name: str, attributes: object) -> None:
        stack.append(name)
        if len(stack) > DEEPEST:
            raise Unreadable(f"elements nest more than {DEEPEST} deep")

    def end(name: str) -> None:
        stack.pop()
        if not stack or name.rpartition(":")[2] in ITEMS:
            ends.append((parser.CurrentByteIndex, [name, *reversed(stack)]))

    def declared(*_: object) -> int:
        raise Unreadable("it declares entities of its own, which is refused")

    parser.StartElementHandler, parser.EndElementHandler = start, end
    parser.EntityDeclHandler = parser.UnparsedEntityDeclHandler = parser.ExternalEntityRefHandler = declared
    data = text.encode()
    try:
        parser.Parse(data, True)
    except expat.ExpatError as error:
        fault = f"not well-formed in line {error.lineno}: {expat.errors.messages[error.code]}"
        if not ends:
            raise Unreadable(fault) from error
        at, names = ends[-1]
        if data[at : at + 2] != b"</":  # an element without content: the fault comes after it, and it is left out
            names = names[1:]
        return data[:at].decode() + "".join(f"</{name}>" for name in names), fault
    return text, ""


def json_value(text: str) -> Any:
    """Read JSON.

    Raises:
        Unreadable: if it is none, or nests too deeply.
    """
    try:
        return json.loads(text.lstrip("\ufeff"))
    except (ValueError, RecursionError) as error:
        raise Unreadable(f"no JSON: {str(error)[:100]}") from error
