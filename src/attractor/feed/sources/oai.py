"""OAI-PMH (oaipmh.arxiv.org/oai): everything that was added or changed since a day, for history and completeness."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any, ClassVar
from urllib.parse import urlencode

from attractor.extras import needs
from attractor.feed import plain
from attractor.feed.entry import Entry
from attractor.feed.fetch import Fetcher
from attractor.feed.sources.base import Page, Source, Told, expect, read_each
from attractor.feed.sources.document import Unreadable, decoded, tidied, whole_items

OAI, ARXIV = "{http://www.openarchives.org/OAI/2.0/}", "{http://arxiv.org/OAI/arXiv/}"


@dataclass(frozen=True)
class Oai(Source):
    """Records of an OAI-PMH server in arXiv's own format.

    Attributes:
        set: A part of the archive, such as ``cs`` or ``cs:cs:LG``; ``""`` for all.
        since: The day from which the first run harvests, ISO 8601; ``""`` for a week ago.
        limit: Requests a run at most (about 1,300 papers each); the next goes on.
    """

    kind: ClassVar[str] = "oai"
    url: str = "https://oaipmh.arxiv.org/oai"
    set: str = "cs"
    since: str = ""
    limit: int = 500

    def __post_init__(self):
        super().__post_init__()
        if self.since:
            try:
                date.fromisoformat(self.since)
            except ValueError as error:
                raise ValueError(f"since: expected a day such as 2026-01-31, got {self.since!r}") from error
        expect("limit", self.limit, "a number from 1 to 10000", 1 <= self.limit <= 10000)

    def pages(self, ask: Fetcher, state: dict[str, Any], now: datetime) -> Iterator[Page]:
        state = dict(state)
        since = state.get("from") or self.since or (now.date() - timedelta(days=7)).isoformat()
        token, seen, again = state.get("token"), {state.get("token")}, False
        for request in range(1, self.limit + 1):
            first = {"metadataPrefix": "arXiv", "from": since} | ({"set": self.set} if self.set else {})
            query = {"verb": "ListRecords"} | ({"resumptionToken": token} if token else first)
            answer = ask.get(f"{self.url}?{urlencode(query)}")
            told, following, error, at = read(decoded(answer.body, answer.charset), now)
            if error == "badResumptionToken" and token and not again:
                token, again = None, True  # it is too old: the harvest starts again, from the same day
                continue
            if error not in ("", "noRecordsMatch"):
                raise Unreadable(f"the server says: {error}")
            if not token:
                state = {"from": since, "begun": at or now.date().isoformat()}
            if following and following in seen:
                yield Page(told, state, short="the server's list goes round in circles")
                return
            seen.add(following)
            token = following
            if token:
                short = f"{request} requests a run, the next goes on" if request == self.limit else ""
                yield Page(told, state | {"token": token}, short=short)
                continue
            # Nothing at all is no reason to go on to a later day: the server may be behind.
            came = bool(told.entries or told.gone) or request > 1
            begun = date.fromisoformat(state["begun"]) - timedelta(days=1)
            yield Page(told, {"from": max(since, begun.isoformat()) if came else since})
            return


def read(text: str, now: datetime) -> tuple[Told, str, str, str]:
    """The papers of an answer, the token that leads to the next, an error's code, and the server's day.

    Raises:
        Unreadable: if it is not well-formed, or no answer of an OAI-PMH server.
    """
    with needs("feed"):
        from defusedxml import ElementTree

    text, broken, _ = whole_items(tidied(text))
    if broken:  # the token comes last, and without it there is no going on
        raise Unreadable(broken)
    try:
        root = ElementTree.fromstring(text)
    except ElementTree.ParseError as error:  # names without their namespace, which the first look lets pass
        raise Unreadable(str(error)) from error
    if root.tag != f"{OAI}OAI-PMH":
        raise Unreadable(f"expected an answer of an OAI-PMH server, got <{root.tag[:60]}>")
    problem = root.find(f"{OAI}error")
    records = root.findall(f"{OAI}ListRecords/{OAI}record")
    gone = [r for r in records if r.find(f"{OAI}header[@status='deleted']") is not None]
    if problem is None and root.find(f"{OAI}ListRecords") is None:
        raise Unreadable("an answer without records, and without an error")
    code = "" if problem is None else problem.get("code") or "an error without a code"
    entries, unread = read_each((r for r in records if r not in gone), lambda record: _entry(record, now))
    token = (root.findtext(f"{OAI}ListRecords/{OAI}resumptionToken") or "").strip()
    at = plain.day(root.findtext(f"{OAI}responseDate") or "", now) or ""
    return Told(tuple(entries), unread=unread, gone=len(gone)), token, code, at


def _entry(record: Any, now: datetime) -> Entry:
    about = record.find(f"{OAI}metadata/{ARXIV}arXiv")
    if about is None:
        raise ValueError("a record without arXiv's metadata")
    number = plain.arxiv_number(about.findtext(f"{ARXIV}id"))
    if number is None:
        raise ValueError(f"no arXiv number: {plain.plain(about.findtext(f'{ARXIV}title'), 80)}")
    parts = ("forenames", "keyname", "suffix")
    authors = about.findall(f"{ARXIV}authors/{ARXIV}author")
    return plain.entry(
        about.findtext(f"{ARXIV}title"),
        now,
        abstract=about.findtext(f"{ARXIV}abstract"),
        authors=[" ".join(filter(None, (a.findtext(f"{ARXIV}{part}") for part in parts))) for a in authors],
        published=about.findtext(f"{ARXIV}created"),
        arxiv=number,
        digital=(about.findtext(f"{ARXIV}doi") or "").split(" ")[0],
        categories=(about.findtext(f"{ARXIV}categories") or "").split(),
    )
