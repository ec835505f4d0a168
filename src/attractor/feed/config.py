"""``feed.toml`` under the home: which sources are read, and how."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import fields as fields_of
from pathlib import Path
from typing import Any

from attractor.feed.database import default_path
from attractor.feed.sources import KINDS, Source
from attractor.names import unknown

OTHERS = ("mail", "digest", "daemon", "web")  # tables that other parts of the feed may have in the file

DEFAULT = """\
# Where `attractor feed sync` reads papers from: a [[source]] each. Kinds: arxiv-rss, arxiv-api, oai, huggingface,
# feed (RSS, Atom, JSON Feed), folder. Every source may also have: pace (seconds between two requests), hosts (further
# servers that it may redirect to), quiet_days (after so many days without a paper, `attractor feed status` complains).

# contact = "you@example.org"     # sent along with requests, for the servers' keepers
# allow_private = true            # also sources on this machine and in private networks

[[source]]                        # what arXiv announces, Monday to Friday
name = "arxiv"
kind = "arxiv-rss"
categories = ["cs.LG", "stat.ML", "math.OC", "cs.NE"]
announce = ["new", "cross", "replace"]

[[source]]                        # what people liked, with their votes
name = "daily-papers"
kind = "huggingface"

# [[source]]                      # everything on arXiv that a query finds
# name = "collapse"
# kind = "arxiv-api"
# query = 'abs:"neural collapse"'
# days = 365

# [[source]]                      # arXiv's history
# name = "history"
# kind = "oai"
# set = "cs:cs:LG"
# since = "2026-01-01"

# [[source]]                      # any RSS, Atom or JSON Feed
# name = "jmlr"
# kind = "feed"
# url = "https://www.jmlr.org/jmlr.xml"

# [[source]]                      # saved files
# name = "saved"
# kind = "folder"
# path = "~/papers"
"""


@dataclass(frozen=True)
class Config:
    """What is read.

    Attributes:
        sources: In the file's order.
        allow_private: Whether sources may be at addresses of this machine and of private networks.
        contact: An address sent along with requests; ``""`` for none.
    """

    sources: tuple[Source, ...] = ()
    allow_private: bool = False
    contact: str = ""

    def servers(self) -> dict[str, float]:
        """All servers that may be asked, each with the slowest pace that a source gives it."""
        found: dict[str, float] = {}
        for source in self.sources:
            for server, pace in source.servers().items():
                found[server] = max(pace, found.get(server, 0.0))
        return found


def path() -> Path:
    """``feed.toml`` beside the feed's database."""
    return default_path().with_name("feed.toml")


def init() -> Path:
    """Write a ``feed.toml`` with sensible sources; returns where.

    Raises:
        ValueError: if there is one, or it cannot be written.
    """
    where = path()
    try:
        where.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        said = f"ATTRACTOR_HOME: cannot write {where} ({error.strerror}); set it to a folder of your own"
        raise ValueError(said) from error
    try:
        with where.open("x", encoding="utf-8") as file:
            file.write(DEFAULT)
    except FileExistsError as error:
        raise ValueError(f"{where} is there already; edit it, or move it away first") from error
    return where


def read(where: Path | None = None) -> Config:
    """Read a configuration.

    Arguments:
        where: Default: `path`.

    Raises:
        ValueError: if there is none, or for the first setting that is wrong, by name and with what is accepted.
    """
    where = where or path()
    try:
        text = where.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise ValueError(f"no source is configured yet ({where}); `attractor feed init` writes a first file") from error
    try:
        return parse(tomllib.loads(text))
    except (tomllib.TOMLDecodeError, ValueError) as error:
        raise ValueError(f"{where}: {error}") from error


def parse(data: Mapping[str, Any]) -> Config:
    """A configuration from what is in the file.

    Raises:
        ValueError: for the first setting that is wrong.
    """
    known = ("source", "allow_private", "contact")
    for key in data:
        if key not in (*known, *OTHERS):
            raise unknown("setting", key, known, f"accepted: {', '.join((*known, *OTHERS))}")
    tables = data.get("source", [])
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise ValueError("source: expected tables, each under a line [[source]]")
    sources = tuple(_source(table, number) for number, table in enumerate(tables, start=1))
    names = [source.name for source in sources]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"source {name!r}: expected a name of its own, got it {names.count(name)} times")
    allow, contact = data.get("allow_private", False), data.get("contact", "")
    if not isinstance(allow, bool):
        raise ValueError(f"allow_private: expected true or false, got {allow!r}")
    if not isinstance(contact, str) or not contact.isascii() or not contact.isprintable():
        raise ValueError(f"contact: expected an address, got {contact!r}")
    return Config(sources, allow, contact)


def _source(table: dict[str, Any], number: int) -> Source:
    called = f"source {table['name']!r}" if isinstance(table.get("name"), str) else f"source {number}"
    if "kind" not in table or "name" not in table:
        raise ValueError(f"{called}: expected a name and a kind ({', '.join(KINDS)})")
    if table["kind"] not in KINDS:
        problem = unknown("kind", str(table["kind"]), KINDS, f"known: {', '.join(KINDS)}")
        raise ValueError(f"{called}: {problem}")
    kind = KINDS[table["kind"]]
    accepted = {field.name: field for field in fields_of(kind)}
    listed = f"accepted: {', '.join(accepted)}"
    settings: dict[str, Any] = {}
    for key, value in table.items():
        if key == "kind":
            continue
        if key not in accepted:
            raise ValueError(f"{called}: {unknown('setting', key, accepted, listed)}")
        settings[key] = _fitting(f"{called}: {key}", value, accepted[key].type)
    try:
        return kind(**settings)
    except ValueError as error:
        raise ValueError(f"{called}: {error}") from error


def _fitting(name: str, value: Any, expected: Any) -> Any:
    """A value of the field's type; whole numbers pass for seconds, lists for tuples."""
    if expected is float and isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if expected is int and isinstance(value, int) and not isinstance(value, bool):
        return value
    if expected is str and isinstance(value, str):
        return value
    if expected not in (float, int, str) and isinstance(value, list) and all(isinstance(part, str) for part in value):
        return tuple(value)
    said = {float: "a number", int: "a whole number", str: "a text in quotes"}.get(
        expected, 'a list such as ["a", "b"]'
    )
    raise ValueError(f"{name}: expected {said}, got {value!r}")
