"""The digest: what is new for somebody's follows, why it is there and what runs here, as a mail that says it well."""

import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from email.message import EmailMessage
from email.utils import format_datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from attractor.extras import needs
from attractor.feed import addresses, mail
from attractor.feed.database import alone, transaction
from attractor.feed.library import Library, Stored
from attractor.feed.mail import POLICY, Mailer, Settings
from attractor.feed.runnable import Runs, runs_here
from attractor.feed.subscribers import Subscriber, address, get, mark_of, subscribers, unsubscribe_token, verify
from attractor.feed.syndication import clean, shortened
from attractor.papers import catalogue

if TYPE_CHECKING:
    from attractor.feed.follows import Follow

TEMPLATES = Path(__file__).with_name("templates")
SHOWN = 20  # papers in a digest at most: Gmail cuts a mail off at 102 kB
TEXT = 320  # characters of an abstract
OVERLAP = timedelta(hours=1)  # a sync may end after the digest that began later: what was told is known by its uid
ASKS = 3  # confirmations a day to one address
LOOKS = {"holds": ("●", "holds"), "fails": ("▲", "fails"), "not replicated": ("▲", "fails"), "error": ("▲", "fails")}


@dataclass(frozen=True)
class DigestEntry:
    """A paper in a digest.

    Attributes:
        stored: The paper.
        follow: The name of the follow it stands under.
        reason: Why it is there, in words, with the other follows that it is there for.
        runs: What runs here.
        link: Where to read it.
    """

    stored: Stored
    follow: str
    reason: str
    runs: tuple[Runs, ...]
    link: str

    @property
    def about(self) -> str:
        """Authors, day, subject: one line."""
        paper = self.stored.entry
        names = ", ".join(paper.authors[:3]) + (f" and {len(paper.authors) - 3} more" if len(paper.authors) > 3 else "")
        return " · ".join(filter(None, (names, paper.published, ", ".join(paper.categories[:2]))))

    @property
    def text(self) -> str:
        """What it does in our own words where the catalogue has it, else how its abstract begins."""
        slug = self.stored.slug
        return catalogue()[slug].gist if slug else shortened(clean(self.stored.entry.abstract), TEXT)


@dataclass(frozen=True)
class Digest:
    """A digest, ready to be looked at or sent.

    Attributes:
        subject: Of the mail.
        html: A whole page, its styles inline.
        text: The same for readers without HTML.
        entries: What it shows.
        papers: The uids of all that is new, also of what did not fit.
    """

    subject: str
    html: str
    text: str
    entries: tuple[DigestEntry, ...]
    papers: tuple[str, ...]


def compose(
    library: Library,
    follows: "Sequence[Follow]",
    since: str,
    base_url: str,
    *,
    told: frozenset[str] = frozenset(),
    unsubscribe: str = "",
    limit: int = SHOWN,
    zone: str = "UTC",
) -> Digest:
    """What came in for these follows since then.

    A paper that fits several of them stands once, under the one that it fits best; follows come in the given order.

    Arguments:
        library: The feed.
        follows: What is followed.
        since: An instant, UTC, ISO 8601.
        base_url: Of the page, for links.
        told: Uids that are no news.
        unsubscribe: The link that ends it; ``""``: none is shown.
        limit: Papers shown at most; the rest is counted.
        zone: The reader's time zone, in which days are named.
    """
    from attractor.feed.follows import matches

    found: dict[str, list[tuple[Follow, Any]]] = {}
    for follow in follows:
        for match in matches(library, follow, since=since):
            if match.stored.added >= since and match.stored.uid not in told:
                found.setdefault(match.stored.uid, []).append((follow, match))
    entries = []
    for hits in found.values():
        follow, match = max(hits, key=lambda hit: hit[1].score)
        others = [f.name for f, _ in hits if f is not follow]
        why = match.reason.rstrip(".")
        reason = ". ".join(filter(None, (why[:1].upper() + why[1:], f"Also for {_listed(others)}" if others else "")))
        link = match.stored.entry.link
        link = link if link.startswith(("http://", "https://")) else base_url
        entries.append((match.score, match.stored, follow, reason, link))
    place = {follow.name: i for i, follow in enumerate(follows)}
    best = sorted(entries, key=lambda e: (-e[0], e[1].uid))[:limit]
    best.sort(key=lambda e: (place[e[2].name], -e[0], e[1].uid))
    shown = tuple(DigestEntry(stored, f.name, reason, runs_here(stored), link) for _, stored, f, reason, link in best)
    more = len(entries) - len(shown)
    running = sum(any(run.same for run in e.runs) for e in shown)
    headline = _counted(len(entries), "new paper") if entries else "Nothing new"
    if running:
        headline += f", {running} of them run{'s' * (running == 1)} here" if len(entries) > 1 else ", and it runs here"
    subject = shortened(clean(_lead(shown)), 70) if shown else headline
    subject += f" and {_counted(len(entries) - 1, 'more new paper')}" if len(entries) > 1 else ""
    sections: dict[str, list[DigestEntry]] = {}
    titles = {follow.name: _said(follow) for follow in follows}
    for entry in shown:
        sections.setdefault(titles[entry.follow], []).append(entry)
    known = {
        "subject": subject,
        "headline": headline,
        "preview": " · ".join(shortened(e.stored.entry.title, 60) for e in shown[:3]),
        "span": f"Since {_day(since, zone)}",
        "sections": list(sections.items()),
        "more": more,
        "names": _listed([follow.name for follow in follows]) or "nothing any more",
        "unsubscribe": unsubscribe,
        "base_url": base_url,
        "page": lambda slug: addresses.paper(base_url, slug),
    }
    return Digest(subject, _html("digest.html", known), _text("digest.txt", known), shown, tuple(found))


def _lead(entries: Sequence[DigestEntry]) -> str:
    """The title that makes one open it: of the first that runs here, else of the first."""
    return next((e for e in entries if any(run.same for run in e.runs)), entries[0]).stored.entry.title


def _said(follow: "Follow") -> str:
    kinds = {"author": "By", "room": "Room", "paper": "More like", "keywords": "Keywords"}
    query = (
        follow.query if follow.kind != "paper" or follow.query not in catalogue() else catalogue()[follow.query].title
    )
    return f"{kinds[follow.kind]}: {query}" if follow.kind in kinds else query


def _counted(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _listed(names: Sequence[str]) -> str:
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1] if names else "")))


def _day(instant: str, zone: str) -> str:
    day = datetime.fromisoformat(instant).astimezone(ZoneInfo(zone))
    return f"{day:%A}, {day.day} {day:%B %Y}"


@cache
def _templates() -> Any:
    with needs("feed"):
        import jinja2
    found = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=jinja2.select_autoescape(["html"], default=False),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    found.globals |= {
        "short": shortened,
        "look": lambda outcome: LOOKS.get(outcome, ("○", "open")),
        "wrap": lambda text: "\n".join(textwrap.wrap(text, 76, break_long_words=False, break_on_hyphens=False)),
        "parts": lambda run: ", ".join(f"attractor.{part}" for part in run.parts[:2]),
        "name": lambda run: shortened(run.title.split(": ")[0], 60),
    }
    return found


def _html(name: str, known: dict[str, Any]) -> str:
    with needs("feed"):
        import css_inline
    inliner = css_inline.CSSInliner(keep_at_rules=True, load_remote_stylesheets=False)
    return inliner.inline(_templates().get_template(name).render(known))


def _text(name: str, known: dict[str, Any]) -> str:
    return _templates().get_template(name).render(known)


def message(subscriber: Subscriber, digest: Digest, settings: Settings, period: str, now: datetime) -> EmailMessage:
    """A digest as a mail to a subscriber, that they can end by one click (RFC 8058)."""
    link = addresses.unsubscribe(settings.url, unsubscribe_token(subscriber))
    found = _mail(settings, subscriber.email, digest.subject, digest.text, digest.html, now)
    found["Message-ID"] = message_id(subscriber, period, settings)
    found["List-Id"] = f"attractor digest <digest.{settings.domain}>"
    found["List-Unsubscribe"] = f"<{link}>"
    if link.startswith("https://"):
        found["List-Unsubscribe-Post"] = "List-Unsubscribe=One-Click"
    return found


def message_id(subscriber: Subscriber, period: str, settings: Settings) -> str:
    """The same however often a digest is tried, so that a mailbox recognizes it."""
    return f"<digest.{period}.{subscriber.id}.{mark_of(subscriber.email)[7:23]}@{settings.domain}>"


def _mail(settings: Settings, to: str, subject: str, text: str, html: str, now: datetime) -> EmailMessage:
    found = EmailMessage(policy=POLICY)
    found["From"], found["To"], found["Subject"] = settings.sender, to, " ".join(subject.split())
    found["Date"] = format_datetime(now.astimezone(UTC))
    found["Auto-Submitted"] = "auto-generated"
    found.set_content(text, cte="quoted-printable")
    found.add_alternative(html, subtype="html", cte="quoted-printable")
    return found


def ask(library: Library, mailer: Mailer, token: str, *, now: datetime | None = None) -> None:
    """Mail the link that confirms what a token of `subscribe` asks for; at most three a day to one address.

    What it returns and raises does not depend on whether the address is known, nor on whether the limit is reached.

    Raises:
        attractor.feed.mail.RefusedError, DeferredError, UnreachableError: if the mail could not go.
    """
    now, said = now or datetime.now(UTC), verify("confirm", token)
    mark, db = mark_of(said["email"]), library.connection
    with transaction(db):
        db.execute("DELETE FROM asked WHERE at < ?", (now.timestamp() - 86400,))
        if db.execute("SELECT count(*) FROM asked WHERE mark = ?", (mark,)).fetchone()[0] >= ASKS:
            return
        db.execute("INSERT INTO asked VALUES (?, ?)", (mark, now.timestamp()))
    subject = "Confirm: new papers by mail"
    known = {"subject": subject, "every": said["every"], "names": _listed(said["follows"])}
    known["link"] = addresses.confirm(mailer.settings.url, token)
    text, html = _text("confirm.txt", known), _html("confirm.html", known)
    mailer = replace(mailer, waits=mailer.waits[:1])  # somebody waits for the answer
    mailer.send(_mail(mailer.settings, said["email"], subject, text, html, now), said["email"])


@dataclass(frozen=True)
class Sent:
    """What became of one digest: ``sent``, ``nothing``, ``deferred``, ``refused`` or ``unknown``, and why."""

    email: str
    period: str
    state: str
    papers: int
    answer: str


def send_due(library: Library, mailer: Mailer, now: datetime, only: str | None = None) -> list[Sent]:
    """Send every digest that is due and has not gone: once a subscriber and period, whatever is killed in between.

    What a server put off is tried again by the next call; where no server is reached, the rest waits for that, too.

    Arguments:
        library: The feed.
        mailer: Who hands over.
        now: This instant.
        only: Only this subscriber's, of today (or this week) already before its hour.

    Raises:
        ValueError: if ``only`` is no subscriber, or another process is sending.
    """
    chosen = subscribers(library) if only is None else [get(library, address(only))]
    with alone(library.connection, "digests"):
        return list(_send(library, mailer, now, chosen, early=only is not None))


def _send(library: Library, mailer: Mailer, now: datetime, chosen: list[Subscriber], early: bool) -> Iterator[Sent]:
    from attractor.feed.follows import every

    for subscriber in chosen:
        due = subscriber.period(now) if early else subscriber.due(now)
        if due is None or mail.closed(library, subscriber, due[0]):
            continue
        period = due[0]
        taken = {follow.name: follow for follow in every(library)}
        digest = compose(
            library,
            [taken[name] for name in subscriber.follows if name in taken],
            (datetime.fromisoformat(subscriber.since) - OVERLAP).isoformat(timespec="seconds"),
            mailer.settings.url,
            told=mail.told(library, subscriber),
            zone=subscriber.zone,
            unsubscribe=addresses.unsubscribe(mailer.settings.url, unsubscribe_token(subscriber)),
        )
        name = message_id(subscriber, period, mailer.settings)
        if not mail.begin(library, subscriber, period, name, list(digest.papers), now):
            yield Sent(subscriber.email, period, "unknown", len(digest.papers), mail.INTERRUPTED)
            continue
        reached, state, answer = True, "sent", ""
        if digest.papers or not subscriber.quiet:
            try:
                answer = mailer.send(message(subscriber, digest, mailer.settings, period, now), subscriber.email)
            except mail.RefusedError as error:
                state, answer = "refused", str(error)
            except (mail.DeferredError, mail.UnreachableError) as error:
                state, answer, reached = "deferred", str(error), not isinstance(error, mail.UnreachableError)
            except mail.StoppedError:
                mail.end(library, subscriber, period, "deferred", "asked to end between two tries", now)
                raise
        else:
            state = "nothing"
        mail.end(library, subscriber, period, state, answer, now)
        yield Sent(subscriber.email, period, state, len(digest.papers), answer)
        if not reached:
            return
