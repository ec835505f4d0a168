"""A folder of saved files: feeds, answers of arXiv and of Hugging Face, each read once and again when it changes."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, ClassVar

from attractor.feed.fetch import Fetcher
from attractor.feed.sources import arxiv_api, arxiv_rss, feeds, huggingface, oai
from attractor.feed.sources.document import Unreadable, decoded, feed
from attractor.feed.sources.page import Page, Source, Told, expect

SUFFIXES = (".xml", ".rss", ".atom", ".json")
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
    if start.startswith("["):
        return huggingface.read(text, now)
    if start.startswith("{"):
        return feeds.read(text, now)
    if "<OAI-PMH" in start[:2000]:
        told, _, error, _ = oai.read(text, now)
        if error not in ("", "noRecordsMatch"):
            raise Unreadable(f"the server said: {error}")
        return told
    found = feed(text)
    if any("arxiv_announce_type" in item for item in found.items):
        return arxiv_rss.read(found, now)
    if "opensearch_totalresults" in found.channel:
        return arxiv_api.read(found, now)[0]
    return feeds.of_feed(found, now)


def _content(path: Path, size: int) -> str:
    if size > LARGEST:
        raise Unreadable(f"of {size:,} bytes, more than {LARGEST:,}")
    try:
        return decoded(path.read_bytes())
    except OSError as error:
        raise Unreadable(str(error)) from error
