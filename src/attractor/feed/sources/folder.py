"""A folder of saved files: feeds, answers of arXiv and of Hugging Face, and what `attractor import` takes.

Each is read once, and again when it changes.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, ClassVar

from attractor.feed.fetch import Fetcher
from attractor.feed.importing import format_of, read_text
from attractor.feed.sources import arxiv_api, feeds, huggingface, oai
from attractor.feed.sources.base import Page, Source, Told, expect, fields
from attractor.feed.sources.document import Unreadable, decoded, feed, json_value

SUFFIXES = (".xml", ".rss", ".atom", ".json", ".bib", ".ris", ".txt")
LARGEST = 32 * 2**20  # bytes of a file


@dataclass(frozen=True)
class Folder(Source):
    """Saved files of a folder on this machine, without the folders in it.

    Attributes:
        path: The folder; ``~`` is the user's own.
    """

    kind: ClassVar[str] = "folder"
    path: str = ""

    def __post_init__(self):
        super().__post_init__()
        expect("path", self.path, "a folder", bool(self.path))

    def pages(self, ask: Fetcher, state: dict[str, Any], now: datetime) -> Iterator[Page]:
        folder = Path(self.path).expanduser()
        if not folder.is_dir():
            raise Unreadable(f"{folder} is no folder")
        files = sorted(p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES and p.is_file())
        known = {name: mark for name, mark in state.get("files", {}).items() if (folder / name).exists()}
        read_now = False
        for path in files:
            found = path.stat()
            mark = f"{found.st_mtime_ns}-{found.st_size}"
            if known.get(path.name) == mark:
                continue
            read_now = True
            try:
                told = read(_content(path, found.st_size), now)
                broken = f"{path.name}: {told.broken}" if told.broken else ""
            except Unreadable as error:
                told, broken = Told(), f"{path.name}: {error}"
            if not broken:
                known[path.name] = mark
            yield Page(told, {"files": dict(known)}, short=broken, day=told.day)
        if not read_now:
            yield Page(Told(), {"files": known}, quiet=bool(files))


def read(text: str, now: datetime) -> Told:
    """The papers of a saved file, of whichever kind it is.

    Raises:
        Unreadable: if it is of none.
    """
    start = text.lstrip("\ufeff \t\r\n")
    if start.startswith(("[", "{")):
        found = json_value(text)
        if isinstance(found, dict):
            return feeds.read(text, now)
        if any("paper" in fields(item) for item in found):
            return huggingface.read(text, now)
    if not start.startswith("<"):
        return _imported(text)
    if "<OAI-PMH" in start[:2000]:
        told, _, error, _ = oai.read(text, now)
        if error not in ("", "noRecordsMatch"):
            raise Unreadable(f"the server said: {error}")
        return told
    found = feed(text)
    if "opensearch_totalresults" in found.channel:
        return arxiv_api.read(found, now)[0]
    return feeds.of_feed(found, now)


def _imported(text: str) -> Told:
    """A bibliography, or the text of a page."""
    try:
        found = read_text(text, format_of(text))
    except ValueError as error:
        raise Unreadable(str(error)) from error
    unread = tuple(why for entry, _, why in found if entry is None)
    return Told(tuple(entry for entry, *_ in found if entry is not None), unread=unread)


def _content(path: Path, size: int) -> str:
    if size > LARGEST:
        raise Unreadable(f"of {size:,} bytes, more than {LARGEST:,}")
    try:
        return decoded(path.read_bytes())
    except OSError as error:
        raise Unreadable(str(error)) from error
