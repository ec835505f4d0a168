"""Mail: handed to a server over TLS, tried again where that may help, and every digest on record before and after."""

import json
import logging
import os
import smtplib
import ssl
import time
import tomllib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime, timedelta
from email.message import EmailMessage
from email.policy import EmailPolicy
from email.utils import parseaddr
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from attractor import store
from attractor.feed.database import transaction
from attractor.feed.library import Library
from attractor.feed.subscribers import Subscriber, address, private, subscribers

WAITS = (5.0, 60.0, 300.0)  # seconds between tries: a greylist lets one in after a few minutes
GRACE = timedelta(hours=3)  # a digest that is later than this is overdue
SECURITIES = {"starttls": 587, "tls": 465, "none": 25}
LOOPBACK = ("localhost", "127.0.0.1", "::1")
LOGIN = (530, 534, 535, 538)  # answers that ask for a login, or another one
INTERRUPTED = "interrupted while it was handed over: it may have arrived"
ENVIRONMENT = "ATTRACTOR_MAIL_"

log = logging.getLogger(__name__)
State = Literal["sending", "sent", "nothing", "deferred", "refused", "unknown"]


class RefusedError(Exception):
    """The server will never take this message for this address."""


class DeferredError(Exception):
    """The server let us in, and each time said "later" to this message, or hung up."""


class StoppedError(BaseException):
    """Asked to end while waiting; the message was not taken."""


class UnreachableError(Exception):
    """No mail can go at all: no server, no trust in it, or no login."""


@dataclass(frozen=True)
class Settings:
    """Where mail goes out, and what it says of us.

    Attributes:
        host: The mail server.
        sender: From whom, such as ``"Papers <papers@example.org>"``.
        url: Where the page is reached from outside, for links; ``https`` for unsubscribing by one click.
        security: ``"starttls"``, ``"tls"``, or ``"none"``, which only a server on this machine may have.
        port: Default: 587, 465 or 25.
        user: To log in as; empty: without.
        password: Of that user.
        ca: A file with certificates to trust besides the system's own.
        timeout: Seconds to wait for an answer.

    Raises:
        ValueError: for what does not fit, by name.
    """

    host: str
    sender: str
    url: str = "http://127.0.0.1:8000"
    security: str = "starttls"
    port: int = 0
    user: str = ""
    password: str = field(default="", repr=False)
    ca: str = ""
    timeout: float = 30.0

    def __post_init__(self):
        for name in ("host", "sender"):
            if not getattr(self, name):
                variable = f"{ENVIRONMENT}{name.upper()}"
                raise ValueError(
                    f"mail: {name} is not set: write it to {path()} (docs/feed.md says how), or set {variable}"
                )
        if self.security not in SECURITIES:
            raise ValueError(f"mail: security: expected one of {', '.join(SECURITIES)}, got {self.security!r}")
        if self.security == "none" and (self.host not in LOOPBACK or self.user):
            raise ValueError("mail: security: none is for a server on this machine, without login; use starttls or tls")
        if not 0 <= self.port <= 65535 or not self.timeout > 0:
            raise ValueError(f"mail: expected a port to 65535 and a timeout > 0, got {self.port} and {self.timeout}")
        address(parseaddr(self.sender)[1])
        if urlsplit(self.url).scheme not in ("http", "https") or not urlsplit(self.url).hostname:
            raise ValueError(f"mail: url: expected one such as https://papers.example.org, got {self.url!r}")
        object.__setattr__(self, "port", self.port or SECURITIES[self.security])

    @classmethod
    def load(cls) -> "Settings":
        """From `path`, a TOML file that only its owner may read, and from the environment, which comes first.

        Raises:
            ValueError: if others can read the file, a name is unknown, or something is missing.
        """
        known = [f.name for f in fields(cls)]
        found: dict[str, Any] = {"host": "", "sender": ""}
        if path().exists():
            try:
                found |= tomllib.loads(private(path()))
            except tomllib.TOMLDecodeError as error:
                raise ValueError(f"{path()}: {error}") from error
            if other := sorted(found.keys() - set(known)):
                raise ValueError(f"{path()}: unknown {', '.join(other)}; expected {', '.join(known)}")
        given = {name: os.environ.get(f"{ENVIRONMENT}{name.upper()}") for name in known}
        found |= {name: value for name, value in given.items() if value is not None}
        for name, kind in (("port", int), ("timeout", float)):
            try:
                found |= {name: kind(found[name])} if name in found else {}
            except ValueError as error:
                raise ValueError(f"mail: {name}: expected a number, got {found[name]!r}") from error
        return cls(**found)

    @property
    def domain(self) -> str:
        """Of the sender's address."""
        return parseaddr(self.sender)[1].rpartition("@")[2].lower()


def path() -> Path:
    """``mail.toml`` under the home."""
    return Path(store.home()) / "mail.toml"


class _Policy(EmailPolicy):
    """Headers that hold links are not folded: the standard library would encode a long one, which nobody reads."""

    def fold(self, name: str, value: str) -> str:
        if name.lower() in ("list-unsubscribe", "message-id"):
            return f"{name}: {value}{self.linesep}"
        return super().fold(name, value)

    def fold_binary(self, name: str, value: str) -> bytes:
        return self.fold(name, value).encode("ascii")


POLICY = _Policy(linesep="\r\n")


@dataclass
class Mailer:
    """Hands messages to the server.

    Arguments:
        settings: Which server; default: as configured.
        sleep: How to wait, seconds.
        waits: Seconds before the second try, the third, and so on.
    """

    settings: Settings = field(default_factory=Settings.load)
    sleep: Callable[[float], object] = time.sleep
    waits: tuple[float, ...] = WAITS

    def send(self, message: EmailMessage, to: str) -> str:
        """Hand over a message, tried again after 4xx answers and broken connections; what the server said.

        Raises:
            RefusedError: after a 5xx answer about this message or address.
            DeferredError: if the server said "later" to the last try, too, or hung up in it.
            UnreachableError: if no server could be reached or trusted, or it does not let us in.
        """
        for wait in (*self.waits, None):
            at_door = True  # what fails there fails for everybody
            try:
                with self._connected() as server:
                    at_door = False
                    server.sendmail(parseaddr(self.settings.sender)[1], [to], message.as_bytes(policy=POLICY))
                return "accepted"
            except (smtplib.SMTPNotSupportedError, ssl.SSLCertVerificationError) as error:
                raise UnreachableError(f"{self.settings.host} cannot be trusted: {error}") from error
            except (smtplib.SMTPException, OSError) as error:
                code, text = _answer(error)
                if code >= 500:
                    raise (UnreachableError if at_door or code in LOGIN else RefusedError)(text) from error
                if wait is None:
                    raise (UnreachableError if at_door else DeferredError)(text) from error
                log.info("%s: %s; again in %g s", self.settings.host, text, wait)
                self.sleep(wait)
        raise AssertionError("the last try returns or raises")

    @contextmanager
    def _connected(self) -> Iterator[smtplib.SMTP]:
        s = self.settings
        context = ssl.create_default_context()
        if s.ca:
            context.load_verify_locations(s.ca)
        if s.security == "tls":
            server = smtplib.SMTP_SSL(s.host, s.port, timeout=s.timeout, context=context)
        else:
            server = smtplib.SMTP(s.host, s.port, timeout=s.timeout)
        try:
            if s.security == "starttls":
                server.starttls(context=context)
            if s.user:
                server.login(s.user, s.password)
            yield server
            with suppress(smtplib.SMTPException, OSError):  # it has taken the message: how it says goodbye is no matter
                server.quit()
        finally:
            server.close()


def _answer(error: Exception) -> tuple[int, str]:
    """The code of an SMTP answer and what it said; 0 where there was none."""
    if isinstance(error, smtplib.SMTPRecipientsRefused):
        ((code, said),) = error.recipients.values()
    elif isinstance(error, smtplib.SMTPResponseException):
        code, said = error.smtp_code, error.smtp_error
    else:
        return 0, f"{type(error).__name__}: {error}"
    text = said.decode("utf-8", "replace") if isinstance(said, bytes) else str(said)
    return (code if code > 0 else 0), f"{code} {' '.join(text.split())}"[:500]


def closed(library: Library, subscriber: Subscriber, period: str) -> bool:
    """Whether nothing more is to be done about a period's digest."""
    key = (subscriber.id, period)
    row = library.connection.execute("SELECT state FROM sends WHERE subscriber = ? AND period = ?", key).fetchone()
    return row is not None and row["state"] in ("sent", "nothing", "refused", "unknown")


def begin(
    library: Library, subscriber: Subscriber, period: str, message_id: str, papers: list[str], now: datetime
) -> bool:
    """Write down that a digest is about to be handed over; whether it may be: never a second time in a period.

    To be called by one process at a time. What stands as ``sending`` is then of a process that was killed: whether its
    message went nobody knows, so that it is not sent again, and its papers stay new for the next digest.
    """
    db, at = library.connection, now.astimezone(UTC).isoformat(timespec="seconds")
    key = (subscriber.id, period)
    with transaction(db):
        row = db.execute("SELECT state FROM sends WHERE subscriber = ? AND period = ?", key).fetchone()
        if row is None:
            values = (*key, message_id, json.dumps(papers), at)
            db.execute(
                "INSERT INTO sends (subscriber, period, state, message_id, papers, begun) "
                "VALUES (?, ?, 'sending', ?, ?, ?)",
                values,
            )
            return True
        if row["state"] == "deferred":
            db.execute(
                "UPDATE sends SET state = 'sending', tries = tries + 1, papers = ?, begun = ? "
                "WHERE subscriber = ? AND period = ?",
                (json.dumps(papers), at, *key),
            )
            return True
        if row["state"] == "sending":
            end(library, subscriber, period, "unknown", INTERRUPTED, now)
        return False


def end(library: Library, subscriber: Subscriber, period: str, state: State, answer: str, now: datetime) -> None:
    """Write down what became of it; what was sent, or had nothing to tell, moves the subscriber's ``since``."""
    db, at = library.connection, now.astimezone(UTC).isoformat(timespec="seconds")
    with transaction(db):
        db.execute(
            "UPDATE sends SET state = ?, ended = ?, answer = ? WHERE subscriber = ? AND period = ?",
            (state, at, answer, subscriber.id, period),
        )
        if state in ("sent", "nothing"):
            db.execute("UPDATE subscribers SET since = begun FROM sends WHERE id = subscriber AND subscriber = ? "
                       "AND period = ?", (subscriber.id, period))  # fmt: skip


def told(library: Library, subscriber: Subscriber) -> frozenset[str]:
    """The uids that digests have told them of."""
    rows = library.connection.execute(
        "SELECT papers FROM sends WHERE subscriber = ? AND state = 'sent'", (subscriber.id,)
    )
    return frozenset(uid for row in rows for uid in json.loads(row["papers"]))


@dataclass(frozen=True)
class Overdue:
    """A digest that should have gone and did not.

    Attributes:
        email: To whom.
        period: Which.
        due: Since when, UTC, ISO 8601.
        state: ``missing`` (nobody tried), ``deferred``, ``refused`` or ``unknown``.
        why: In words.
    """

    email: str
    period: str
    due: str
    state: str
    why: str


def overdue(library: Library, now: datetime) -> list[Overdue]:
    """The digests that should have gone by ``now`` and did not: refused, in doubt, or three hours late."""
    rows = {(r["subscriber"], r["period"]): r for r in library.connection.execute("SELECT * FROM sends")}
    found = []
    for subscriber in subscribers(library):
        due = subscriber.due(now)
        if due is None:
            continue
        period, at = due
        row = rows.get((subscriber.id, period))
        state = row["state"] if row is not None else "missing"
        late = now - at > GRACE
        if state in ("refused", "unknown") or (late and state in ("missing", "deferred", "sending")):
            state = "unknown" if state == "sending" else state
            why = row["answer"] if row is not None else "nobody tried: is `attractor daemon`, or cron, running?"
            found.append(Overdue(subscriber.email, period, at.isoformat(timespec="seconds"), state, why))
    return found
