"""Where papers are told of: one module a kind, each a `Source` with its settings and its `pages`."""

from attractor.feed.sources.arxiv_api import ArxivApi
from attractor.feed.sources.arxiv_rss import ArxivRss
from attractor.feed.sources.base import Page, Source, Told
from attractor.feed.sources.document import Unreadable
from attractor.feed.sources.feeds import AnyFeed
from attractor.feed.sources.folder import Folder
from attractor.feed.sources.huggingface import HuggingFace
from attractor.feed.sources.oai import Oai

KINDS: dict[str, type[Source]] = {kind.kind: kind for kind in (ArxivRss, ArxivApi, Oai, HuggingFace, AnyFeed, Folder)}

__all__ = [
    "KINDS", "AnyFeed", "ArxivApi", "ArxivRss", "Folder", "HuggingFace", "Oai", "Page", "Source", "Told", "Unreadable",
]  # fmt: skip
