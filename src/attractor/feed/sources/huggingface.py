"""Hugging Face's daily papers (huggingface.co/api/daily_papers): what people liked, with their votes."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any, ClassVar

from attractor.feed import plain
from attractor.feed.entry import Entry
from attractor.feed.fetch import Fetcher, FetchError
from attractor.feed.sources.base import Page, Source, Told, expect, fields, listed, read_each
from attractor.feed.sources.document import Unreadable, decoded, json_value

LIST, LISTS = 100, 10  # papers a request, requests a day
AGAIN = 2  # days before the last that are asked again: votes go on
FARTHEST = 31  # days back, however long nobody asked


@dataclass(frozen=True)
class HuggingFace(Source):
    """The daily papers, of every day since the last run.

    Attributes:
        days: How many days back the first run goes.
    """

    kind: ClassVar[str] = "huggingface"
    url: str = "https://huggingface.co/api/daily_papers"
    days: int = 3

    def __post_init__(self):
        super().__post_init__()
        expect("days", self.days, f"a number from 1 to {FARTHEST}", 1 <= self.days <= FARTHEST)

    def pages(self, ask: Fetcher, state: dict[str, Any], now: datetime) -> Iterator[Page]:
        today = now.astimezone(UTC).date()
        last = date.fromisoformat(state["day"]) if "day" in state else None
        first = last - timedelta(days=AGAIN) if last else today - timedelta(days=self.days)
        day = max(min(first, today), today - timedelta(days=FARTHEST))
        # The day from which the next run goes on is the last that had papers: an empty one may yet get its own.
        newest = state.get("day")
        while day <= today:
            try:
                told = self._day(ask, day.isoformat(), now)
            except FetchError as error:
                if day == today and error.status in (400, 404):  # not open yet
                    return
                raise
            newest = max(newest or "", day.isoformat()) if told.entries else newest
            quiet = not told.entries and (day == today or day.weekday() >= 5)
            kept = {"day": newest} if newest else {}
            yield Page(told, kept, day=day.isoformat(), quiet=quiet, whole=day < today)
            day += timedelta(days=1)

    def _day(self, ask: Fetcher, day: str, now: datetime) -> Told:
        entries: list[Entry] = []
        votes: list[int | None] = []
        unread: list[str] = []
        before: object = None
        for number in range(LISTS):
            answer = ask.get(f"{self.url}?date={day}&limit={LIST}" + (f"&p={number}" if number else ""))
            text = decoded(answer.body, answer.charset)
            told = read(text, now)
            if text == before:  # a server that does not know of further pages sends the first again
                break
            before = text
            entries += told.entries
            votes += told.votes
            unread += told.unread
            if len(told.entries) + len(told.unread) < LIST:
                break
        return Told(tuple(entries), tuple(votes), tuple(unread), day=day)


def read(text: str, now: datetime) -> Told:
    """The papers of a day.

    Raises:
        Unreadable: if it is no list of papers.
    """
    items = json_value(text)
    if not isinstance(items, list):
        raise Unreadable(f"expected a list of papers, got {str(items)[:80]}")
    found, unread = read_each(items, lambda item: _entry(item, now))
    return Told(tuple(entry for entry, _ in found), tuple(votes for _, votes in found), unread)


def _entry(item: Any, now: datetime) -> tuple[Entry, int | None]:
    paper = fields(fields(item).get("paper"))
    number = plain.arxiv_number(paper.get("id"))
    title = paper.get("title") or fields(item).get("title")
    if number is None:
        raise ValueError(f"no arXiv number: {plain.plain(title, 80)}")
    hidden = [a for a in listed(paper.get("authors")) if fields(a).get("hidden") is True]
    entry = plain.entry(
        title,
        now,
        abstract=paper.get("summary"),
        authors=[fields(a).get("name") for a in listed(paper.get("authors")) if a not in hidden],
        published=paper.get("publishedAt"),
        arxiv=number,
    )
    return entry, plain.votes(paper.get("upvotes"))
