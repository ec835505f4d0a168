"""Who gets the digest: asked for, confirmed by a signed link, left by another, and when the next one is due.

Asking stores nothing: what is asked for travels in the link's token, so that nobody but the address's owner can change
a subscription, and the answer to asking is the same whether the address is known or not.
"""

import base64
import hashlib
import hmac
import json
import os
import re
import secrets
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Any, Literal
from zoneinfo import ZoneInfo, available_timezones

from attractor import store
from attractor.feed.database import transaction
from attractor.feed.library import Library
from attractor.names import unknown

Every = Literal["daily", "weekly"]
EVERY: tuple[Every, ...] = ("daily", "weekly")
VALID = timedelta(hours=48)  # a link to confirm
LOCAL = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(?:\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*")
LABEL = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
FOLLOWS = 50  # at most, a subscriber
LONGEST = 1_800  # characters of a token: some mail programs cut links at 2,048


@dataclass(frozen=True)
class Subscriber:
    """Somebody who confirmed.

    Attributes:
        id: Their number.
        email: Their address, lower case.
        follows: The names of what they follow.
        every: ``"daily"``, or ``"weekly"``: on Mondays.
        zone: Their time zone, an IANA name.
        hour: At which hour there, 0 to 23.
        quiet: Whether they get no mail where nothing is new.
        confirmed: When they confirmed last, UTC, ISO 8601.
        since: What came in before was told.
    """

    id: int
    email: str
    follows: tuple[str, ...]
    every: Every
    zone: str
    hour: int
    quiet: bool
    confirmed: str
    since: str

    def period(self, now: datetime) -> tuple[str, datetime]:
        """The newest period that has begun where they live, and when its digest is due.

        Arguments:
            now: Any instant with a time zone.
        """
        zone = ZoneInfo(self.zone)
        day = now.astimezone(zone).date()
        if self.every == "weekly":
            day -= timedelta(days=day.weekday())
        return _name(self.every, day), datetime.combine(day, time(self.hour), zone).astimezone(UTC)

    def due(self, now: datetime) -> tuple[str, datetime] | None:
        """The newest period whose digest should have gone by ``now``, and since when; `None` before the first."""
        name, at = self.period(now)
        if at > now:
            step = timedelta(days=7 if self.every == "weekly" else 1)
            day = at.astimezone(ZoneInfo(self.zone)).date() - step
            name = _name(self.every, day)
            at = datetime.combine(day, time(self.hour), ZoneInfo(self.zone)).astimezone(UTC)
        return (name, at) if at > datetime.fromisoformat(self.confirmed) else None


def _name(every: Every, day: date) -> str:
    year, week, _ = day.isocalendar()
    return day.isoformat() if every == "daily" else f"{year}-W{week:02d}"


def subscribe(
    library: Library,
    email: str,
    follows: Sequence[str],
    every: str = "daily",
    *,
    zone: str = "UTC",
    hour: int = 7,
    quiet: bool = True,
    now: datetime | None = None,
) -> str:
    """The token that confirms a subscription, to be mailed to the address and shown to nobody else.

    Nothing is stored. Confirmed again, with other settings, those replace the earlier ones.

    Arguments:
        library: Where follows are looked up.
        email: An address.
        follows: Names of follows, 1 to 50.
        every: ``"daily"`` or ``"weekly"``.
        zone: An IANA time zone, such as ``"Europe/Zurich"``.
        hour: At which hour there, 0 to 23.
        quiet: Send nothing where nothing is new.
        now: Default: this instant. The token is valid for 48 hours.

    Raises:
        ValueError: for what is no address, an unknown follow, rhythm, zone or hour, or more names than a link holds.
    """
    email = address(email)
    if every not in EVERY:
        raise ValueError(f"every: expected daily or weekly, got {every!r}")
    if not (isinstance(hour, int) and 0 <= hour <= 23):
        raise ValueError(f"hour: expected 0 to 23, got {hour!r}")
    if zone not in available_timezones():
        raise unknown("time zone", zone, available_timezones(), "expected a name such as Europe/Zurich")
    follows = list(dict.fromkeys(follows))
    if not 1 <= len(follows) <= FOLLOWS:
        raise ValueError(f"follows: expected 1 to {FOLLOWS} names, got {len(follows)}; `attractor follow` lists them")
    known = follow_names(library)
    for name in follows:
        if name not in known:
            raise unknown("follow", name, known, f"there are {', '.join(known) or 'none yet'}; see `attractor follow`")
    now = now or datetime.now(UTC)
    said = {"email": email, "follows": follows, "every": every, "zone": zone, "hour": hour, "quiet": quiet}
    token = sign("confirm", {**said, "asked": now.timestamp()})
    if len(token) > LONGEST:
        raise ValueError(f"follows: the names of {len(follows)} are too long for one link; choose fewer")
    return token


def confirm(library: Library, token: str, *, now: datetime | None = None) -> Subscriber:
    """Begin, or change, the subscription that a token from `subscribe` asks for; again changes nothing.

    Raises:
        ValueError: if the token is none of ours, has expired, or is older than what its owner did since.
    """
    now = now or datetime.now(UTC)
    said = verify("confirm", token)
    if now.timestamp() - said["asked"] > VALID.total_seconds():
        raise ValueError(f"token: links are valid for {VALID.total_seconds() / 3600:.0f} hours; subscribe again")
    at, email, mark = now.isoformat(timespec="seconds"), said["email"], mark_of(said["email"])
    db = library.connection
    with transaction(db):
        row = db.execute("SELECT * FROM subscribers WHERE email IN (?, ?)", (email, mark)).fetchone()
        if row is not None and max(row["asked"], row["gone"] or 0.0) > said["asked"]:
            raise ValueError("token: this link is older than what was last asked for; subscribe again")
        how = (said["every"], said["zone"], said["hour"], int(said["quiet"]), said["asked"])
        if row is None:
            values = (email, *how, at, at)
            done = db.execute(
                "INSERT INTO subscribers (email, every, zone, hour, quiet, asked, confirmed, since) "
                "VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                values,
            )
            number = int(done.lastrowid or 0)
        else:
            number = row["id"]
            begins = row["gone"] is not None  # who comes back begins anew; who changes something goes on
            if begins or row["asked"] != said["asked"]:
                db.execute(
                    "UPDATE subscribers SET email = ?, every = ?, zone = ?, hour = ?, quiet = ?, asked = ?, "
                    "gone = NULL, confirmed = ?, since = ? WHERE id = ?",
                    (email, *how, at, at if begins else row["since"], number),
                )
        db.execute("DELETE FROM subscriptions WHERE subscriber = ?", (number,))
        db.executemany(
            "INSERT INTO subscriptions VALUES (?, ?, ?)", [(number, i, f) for i, f in enumerate(said["follows"])]
        )
    return get(library, email)


def unsubscribe_token(subscriber: Subscriber) -> str:
    """What ends a subscription; it does not expire."""
    return sign("leave", subscriber.id)


def unsubscribe(library: Library, token: str, *, now: datetime | None = None) -> None:
    """End a subscription and forget the address; again changes nothing.

    Raises:
        ValueError: if the token is none of ours.
    """
    number = verify("leave", token)
    db = library.connection
    with transaction(db):
        row = db.execute("SELECT email FROM subscribers WHERE id = ? AND gone IS NULL", (number,)).fetchone()
        if row is None:
            return
        gone = (now or datetime.now(UTC)).timestamp()
        db.execute("UPDATE subscribers SET email = ?, gone = ? WHERE id = ?", (mark_of(row["email"]), gone, number))
        db.execute("DELETE FROM subscriptions WHERE subscriber = ?", (number,))


def subscribers(library: Library) -> list[Subscriber]:
    """Everybody who confirmed and has not left."""
    rows = library.connection.execute("SELECT * FROM subscribers WHERE gone IS NULL ORDER BY id").fetchall()
    taken: dict[int, list[str]] = {}
    for s in library.connection.execute("SELECT subscriber, follow FROM subscriptions ORDER BY subscriber, position"):
        taken.setdefault(s["subscriber"], []).append(s["follow"])
    names = ("id", "email", "every", "zone", "hour", "confirmed", "since")
    return [
        Subscriber(**{n: row[n] for n in names}, quiet=bool(row["quiet"]), follows=tuple(taken.get(row["id"], ())))
        for row in rows
    ]


def get(library: Library, email: str) -> Subscriber:
    """The subscriber with this address.

    Raises:
        ValueError: if there is none.
    """
    email = address(email)
    found = [s for s in subscribers(library) if s.email == email]
    if not found:
        raise ValueError(f"email: {email} has not confirmed a subscription; see `attractor subscribers`")
    return found[0]


def follow_names(library: Library) -> list[str]:
    """The names of all follows."""
    from attractor.feed import follows

    return [follow.name for follow in follows.every(library)]


def address(text: str) -> str:
    """An e-mail address in the one form it is kept in: lower case, the domain in ASCII.

    Raises:
        ValueError: for what is none; what a mail server need not take (quotes, comments, bare IP numbers) is not taken.
    """
    local, at, domain = text.strip().rpartition("@")
    try:
        domain = domain.encode("idna").decode("ascii").lower()
    except UnicodeError:
        domain = ""
    labels = domain.split(".")
    plain = bool(at) and LOCAL.fullmatch(local) and len(labels) > 1 and all(map(LABEL.fullmatch, labels))
    if not plain or labels[-1].isdigit() or len(local) > 64 or len(local) + len(domain) > 253:
        raise ValueError(f"email: expected an address such as name@example.org, got {text[:80]!r}")
    return f"{local}@{domain}".lower()


def mark_of(email: str) -> str:
    """What stays of an address that is to be forgotten."""
    return f"sha256:{hashlib.sha256(email.encode()).hexdigest()}"


def sign(purpose: str, said: Any) -> str:
    """A token that says something and cannot be forged: base64 of JSON, a dot, and its HMAC-SHA256."""
    text = _base64(json.dumps(said, separators=(",", ":"), ensure_ascii=False).encode())
    return f"{text}.{_base64(_seal(purpose, text))}"


def verify(purpose: str, token: str) -> Any:
    """What a token of `sign` for this purpose says.

    Raises:
        ValueError: if it is none.
    """
    text, _, seal = token.partition(".")
    if not (token.isascii() and hmac.compare_digest(seal, _base64(_seal(purpose, text)))):
        raise ValueError("token: this link is not whole, or not from here; copy all of it, or subscribe again")
    return json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))


def _seal(purpose: str, text: str) -> bytes:
    return hmac.digest(secret(), f"attractor {purpose} {text}".encode(), "sha256")


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def secret() -> bytes:
    """The key of all signatures: ``$ATTRACTOR_SECRET``, else the file ``secret`` of the home, made on first use.

    Raises:
        ValueError: if the variable has fewer than 32 characters, or others can read the file.
    """
    given = os.environ.get("ATTRACTOR_SECRET")
    if given is not None:
        if len(given) < 32:
            raise ValueError("ATTRACTOR_SECRET: expected at least 32 characters, such as `openssl rand -hex 32` prints")
        return given.encode()
    path = Path(store.home()) / "secret"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh = path.with_name(f".secret.{os.getpid()}.{secrets.token_hex(4)}")
        with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(secrets.token_hex(32))
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(fresh, path)  # whole from the first instant; of two processes, one is first
        except FileExistsError:
            return secret()
        finally:
            fresh.unlink()
    return private(path).strip().encode()


def private(path: Path) -> str:
    """The text of a file that nobody else may read.

    Raises:
        ValueError: if others can read or write it.
    """
    with path.open(encoding="utf-8") as file:
        mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
        if mode & 0o077:
            raise ValueError(f"{path}: others can read it (mode {mode:o}); make a new secret, or: chmod 600 {path}")
        return file.read()
