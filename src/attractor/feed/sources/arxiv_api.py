"""arXiv's search (export.arxiv.org/api/query): everything that a query finds, from a day on, in slices.

A run asks for the window from the newest paper that it knows, minus a few days (papers held back by moderators appear
late), until now. A window with more than the 30,000 papers that arXiv gives to one query is halved.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar
from urllib.parse import urlencode

from attractor.feed import plain
from attractor.feed.entry import Entry
from attractor.feed.fetch import Fetcher
from attractor.feed.sources import document
from attractor.feed.sources.base import Page, Source, Told, expect, read_items, subjects

SLICE, MOST = 2_000, 30_000  # papers a request and a query, by arXiv's rules
EMPTY = 3  # times that a slice is asked for which comes back empty, as arXiv's sometimes do
LATE = timedelta(days=4)
MINUTE = timedelta(minutes=1)


@dataclass(frozen=True)
class ArxivApi(Source):
    """All papers on arXiv that fit.

    Attributes:
        categories: Subject classes, of which a paper has one; or none, and then ``query`` decides alone.
        query: A query in arXiv's language, such as ``abs:"neural collapse"``.
        days: How far back the first run goes.
        slice: Papers a request.
        limit: Papers a run at most; the next goes on.
    """

    kind: ClassVar[str] = "arxiv-api"
    url: str = "https://export.arxiv.org/api/query"
    categories: tuple[str, ...] = ()
    query: str = ""
    days: int = 7
    slice: int = 500
    limit: int = MOST

    def __post_init__(self):
        super().__post_init__()
        wanted = bool(self.categories or self.query.strip())
        expect("query", self.query, "a query, or categories", wanted)
        subjects(self.categories)
        expect("days", self.days, "a number from 1 to 36500", 1 <= self.days <= 36500)
        expect("slice", self.slice, f"a number from 1 to {SLICE}", 1 <= self.slice <= SLICE)
        expect("limit", self.limit, f"a number from 1 to {MOST}", 1 <= self.limit <= MOST)

    def pages(self, ask: Fetcher, state: dict[str, Any], now: datetime) -> Iterator[Page]:
        state = dict(state)
        end = now.astimezone(UTC).replace(second=0, microsecond=0)
        taken = 0
        while True:
            since, until, start = self._window(state, end)
            told, total = self._ask(ask, since, until, start, now)
            if total > MOST and start == 0 and until - since > MINUTE:
                state |= {"since": _text(since), "until": _text(since + _half(until - since)), "start": 0}
                continue
            count = len(told.entries) + len(told.unread)
            taken += count
            newest = max(filter(None, (e.published for e in told.entries)), default="")
            state["newest"] = max(state.get("newest", ""), newest)
            last = min(total, MOST)
            if start + count < last and count:
                state |= {"since": _text(since), "until": _text(until), "start": start + count}
                short = f"{self.limit:,} papers a run, the next goes on" if taken >= self.limit else ""
                yield Page(told, dict(state), short=short, total=total)
                if short:
                    return
                continue
            if start + count < last or (start and not total):
                yield Page(told, dict(state), short=f"{start:,} of {total:,} papers, then nothing")
                return
            # The window is done. What comes next begins at the newest paper there was, not at the window's end: where
            # arXiv was behind, or answered with nothing, nothing is passed over.
            done = {"newest": state["newest"]} if state["newest"] else {}
            goes_on = until < end
            more = {"since": _text(until), "until": _text(end), "start": 0} if goes_on else {}
            short = f"only {MOST:,} of {total:,} papers of one minute" if total > MOST else ""
            if goes_on and taken >= self.limit and not short:
                short = f"{self.limit:,} papers a run, the next goes on"
            state = done | more
            yield Page(told, dict(state), short=short, total=total)
            if not goes_on or short:
                return

    def _window(self, state: dict[str, Any], end: datetime) -> tuple[datetime, datetime, int]:
        """What is to be asked for: where a run was cut off, its window goes on."""
        if "since" in state:
            return _instant(state["since"]), min(_instant(state["until"]), end), int(state.get("start", 0))
        if "newest" in state:
            return datetime.fromisoformat(state["newest"]).replace(tzinfo=UTC) - LATE, end, 0
        return end - timedelta(days=self.days), end, 0

    def _ask(self, ask: Fetcher, since: datetime, until: datetime, start: int, now: datetime) -> tuple[Told, int]:
        wanted = [" OR ".join(f"cat:{c}" for c in self.categories), self.query]
        parts = [f"({part})" for part in wanted if part] + [f"submittedDate:[{_text(since)} TO {_text(until)}]"]
        number = min(self.slice, MOST - start)
        query = {"search_query": " AND ".join(parts), "start": start, "max_results": number}
        url = f"{self.url}?{urlencode(query | {'sortBy': 'submittedDate', 'sortOrder': 'ascending'})}"
        told, total = Told(), 0
        for _ in range(EMPTY):
            answer = ask.get(url)
            found = document.feed(document.decoded(answer.body, answer.charset))
            if found.broken:  # the rest is a request away: a slice counts whole or not at all
                raise document.Unreadable(found.broken)
            told, total = read(found, now)
            if told.entries or told.unread or (start >= total and not start):
                break
        return told, total


def read(found: document.Feed, now: datetime) -> tuple[Told, int]:
    """The papers of an answer, and how many the query has in all.

    Raises:
        Unreadable: if arXiv says that the query is faulty, or does not say how many there are.
    """
    for item in found.items:
        if "/api/errors" in str(item.get("id", "")):
            raise document.Unreadable(f"arXiv says: {plain.plain(item.get('summary'), 200)}")
    total = str(found.channel.get("opensearch_totalresults", ""))
    if not total.isascii() or not total.isdigit() or len(total) > 9:
        raise document.Unreadable("an answer without the number of papers in all (opensearch:totalResults)")
    return read_items(found, lambda item: _entry(item, now)), int(total)


def _entry(item: Any, now: datetime) -> Entry:
    number = plain.arxiv_number(item.get("id"))
    if number is None:
        raise ValueError(f"no arXiv number: {plain.plain(item.get('title'), 80)}")
    first = (item.get("arxiv_primary_category") or {}).get("term")
    others = [tag.get("term") for tag in item.get("tags", [])]
    return plain.entry(
        item.get("title"),
        now,
        abstract=item.get("summary"),
        authors=[author.get("name") for author in item.get("authors", [])],
        published=item.get("published"),
        arxiv=number,
        digital=item.get("arxiv_doi"),
        categories=list(dict.fromkeys([first, *others] if first else others)),
    )


def _text(instant: datetime) -> str:
    return instant.strftime("%Y%m%d%H%M")


def _instant(text: str) -> datetime:
    return datetime.strptime(text, "%Y%m%d%H%M").replace(tzinfo=UTC)


def _half(span: timedelta) -> timedelta:
    return max(MINUTE, timedelta(minutes=span // MINUTE // 2))
