"""Subscribing: nothing without the owner's link, nothing revealed, nothing forged; and when a digest is due."""

import base64
import json
import stat
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from outgoing import NOW, library

from attractor import store
from attractor.feed import subscribers
from attractor.feed.subscribers import (
    Subscriber,
    address,
    confirm,
    sign,
    subscribe,
    unsubscribe,
    unsubscribe_token,
    verify,
)

__all__ = ["library"]
HOUR = timedelta(hours=1)


def test_from_asking_to_leaving(library):
    token = subscribe(
        library, " Ada@Example.ORG ", ["sharp", "federated"], "weekly", zone="Europe/Zurich", hour=6, now=NOW
    )
    assert subscribers.subscribers(library) == []  # asking is nothing
    ada = confirm(library, token, now=NOW + HOUR)
    assert (ada.email, ada.follows, ada.every, ada.zone, ada.hour) == (
        "ada@example.org", ("sharp", "federated"), "weekly", "Europe/Zurich", 6,
    )  # fmt: skip
    assert confirm(library, token, now=NOW + 2 * HOUR) == ada  # a second press of the button
    assert subscribers.subscribers(library) == [ada]
    leave = unsubscribe_token(ada)
    for _ in range(2):
        unsubscribe(library, leave, now=NOW + 3 * HOUR)
        assert subscribers.subscribers(library) == []
    row = library.connection.execute("SELECT email FROM subscribers").fetchone()
    assert "ada" not in row["email"]  # the address is forgotten
    with pytest.raises(ValueError, match="older than"):
        confirm(library, token, now=NOW + 4 * HOUR)  # an old mail does not bring them back
    again = confirm(library, subscribe(library, "ada@example.org", ["sharp"], now=NOW + 5 * HOUR), now=NOW + 6 * HOUR)
    assert (again.id, again.follows, again.every) == (ada.id, ("sharp",), "daily")
    assert again.since == (NOW + 6 * HOUR).isoformat()
    unsubscribe(library, leave)  # tokens to leave do not expire
    assert subscribers.subscribers(library) == []


def test_settings_change_by_a_newer_link_only_and_what_was_told_stays_told(library):
    first = subscribe(library, "a@example.org", ["sharp"], now=NOW)
    second = subscribe(library, "a@example.org", ["federated"], "weekly", now=NOW + HOUR)
    since = confirm(library, first, now=NOW + HOUR).since
    changed = confirm(library, second, now=NOW + 2 * HOUR)
    assert (changed.follows, changed.every, changed.since) == (("federated",), "weekly", since)
    with pytest.raises(ValueError, match="older than"):
        confirm(library, first, now=NOW + 3 * HOUR)


def test_asking_says_the_same_to_everybody(library):
    known = subscribe(library, "known@example.org", ["sharp"], now=NOW)
    confirm(library, known, now=NOW)
    before = library.connection.total_changes
    again, other = (subscribe(library, f"{n}@example.org", ["sharp"], now=NOW) for n in ("known", "other"))
    assert library.connection.total_changes == before
    assert again == known  # no trace of the known one's state
    assert len(other) == len(again)


def test_links_expire_and_serve_one_purpose(library):
    token = subscribe(library, "a@example.org", ["sharp"], now=NOW)
    with pytest.raises(ValueError, match="valid for 48 hours"):
        confirm(library, token, now=NOW + timedelta(hours=48, seconds=1))
    with pytest.raises(ValueError, match="not whole"):
        unsubscribe(library, token)
    ada = confirm(library, token, now=NOW + timedelta(hours=48))
    with pytest.raises(ValueError, match="not whole"):
        confirm(library, unsubscribe_token(ada))


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_a_token_with_anything_changed_is_refused(tmp_path_factory, data):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ATTRACTOR_SECRET", "x" * 32)
        token = sign("leave", 7)
        assert verify("leave", token) == 7
        at = data.draw(st.integers(0, len(token) - 1))
        other = data.draw(st.one_of(st.characters(), st.just("")).filter(lambda c: c != token[at]))
        for bad in (token[:at] + other + token[at + 1 :], data.draw(st.text()), token[:at]):
            if bad != token:
                with pytest.raises(ValueError, match="not whole"):
                    verify("leave", bad)
        patch.setenv("ATTRACTOR_SECRET", "y" * 32)
        with pytest.raises(ValueError, match="not whole"):
            verify("leave", token)


def test_what_is_signed_cannot_be_rewritten(library):
    token = subscribe(library, "a@example.org", ["sharp"], now=NOW)
    text, seal = token.split(".")
    said = json.loads(base64.urlsafe_b64decode(text + "=="))
    said["email"] = "b@example.org"
    forged = base64.urlsafe_b64encode(json.dumps(said).encode()).rstrip(b"=").decode()
    with pytest.raises(ValueError, match="not whole"):
        confirm(library, f"{forged}.{seal}", now=NOW)


def test_the_secret_is_made_once_and_for_nobody_else(tmp_path, monkeypatch):
    monkeypatch.delenv("ATTRACTOR_SECRET", raising=False)
    made = subscribers.secret()
    path = tmp_path / "home" / "secret"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert (len(made), subscribers.secret(), list(path.parent.glob(".secret*"))) == (64, made, [])
    path.chmod(0o640)
    with pytest.raises(ValueError, match=r"others can read it .mode 640"):
        subscribers.secret()
    monkeypatch.setenv("ATTRACTOR_SECRET", "short")
    with pytest.raises(ValueError, match="at least 32 characters"):
        subscribers.secret()
    assert store.home() == str(path.parent)


@pytest.mark.parametrize(
    "text",
    ["", "a", "a@", "@example.org", "a@localhost", "a@b@example.org", "a b@example.org", "a@exa mple.org", "a@-x.org",
     "a@example.org\nBcc: b@example.org", "a@[127.0.0.1]", "a@127.0.0.1", '"a"@example.org', ".a@example.org",
     "a..b@example.org",
     "é@example.org", "a@example..org", "a" * 65 + "@example.org", f"a@{'b.' * 130}org", "a@example.org,b@example.org",
     "<a@example.org>"],
)  # fmt: skip
def test_what_is_no_address_is_refused(text):
    with pytest.raises(ValueError, match="email: expected an address"):
        address(text)


def test_addresses_have_one_form():
    assert address(" First.Last+papers@Exämple.ORG ") == "first.last+papers@xn--exmple-cua.org"
    assert address("o'neil@a-b.example") == "o'neil@a-b.example"


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"every": "hourly"}, "every: expected daily or weekly"),
        ({"hour": 24}, "hour: expected 0 to 23"),
        ({"zone": "Europe/Zürich"}, "did you mean 'Europe/Zurich'"),
        ({"zone": "../etc/passwd"}, "unknown time zone"),
        ({"follows": []}, "follows: expected 1 to 50"),
        ({"follows": ["sharpe"]}, "did you mean 'sharp'"),
        ({"email": "x"}, "email: expected"),
    ],
)
def test_what_cannot_be_is_refused_by_name(library, change, named):
    said = {"email": "a@example.org", "follows": ["sharp"]} | change
    with pytest.raises(ValueError, match=named):
        subscribe(library, **said)


def test_a_link_does_not_get_longer_than_mail_programs_take(library):
    from attractor.feed import follows

    names = [f"{'sharpness ' * 9}{i:02d}" for i in range(30)]
    for name in names:
        follows.add(library, follows.Follow(name, "keywords", "sharpness"))
    assert len(subscribe(library, "a@example.org", names[:12])) <= 1800
    with pytest.raises(ValueError, match="too long for one link"):
        subscribe(library, "a@example.org", names)


def reader(every="daily", zone="UTC", hour=7, confirmed="2020-01-01T00:00:00+00:00"):
    return Subscriber(1, "a@example.org", ("sharp",), every, zone, hour, True, confirmed, confirmed)


@pytest.mark.parametrize(
    ("who", "now", "period", "at"),
    [
        (reader(), "2026-01-07T06:59:59", "2026-01-06", "2026-01-06T07:00"),
        (reader(), "2026-01-07T07:00:00", "2026-01-07", "2026-01-07T07:00"),
        (reader(zone="Asia/Tokyo"), "2026-01-06T22:30", "2026-01-07", "2026-01-06T22:00"),
        (reader(zone="America/Los_Angeles", hour=23), "2026-01-07T07:30", "2026-01-06", "2026-01-07T07:00"),
        (reader(zone="Asia/Kathmandu", hour=0), "2026-01-06T18:15", "2026-01-07", "2026-01-06T18:15"),
        (reader("weekly"), "2026-01-07T12:00", "2026-W02", "2026-01-05T07:00"),
        (reader("weekly"), "2026-01-05T06:00", "2026-W01", "2025-12-29T07:00"),
        (reader("weekly", zone="Pacific/Auckland"), "2026-01-04T18:00", "2026-W02", "2026-01-04T18:00"),
        # the hour that the change to summer time leaves out, and the one that comes twice
        (reader(zone="Europe/Zurich", hour=2), "2026-03-29T12:00", "2026-03-29", "2026-03-29T01:00"),
        (reader(zone="Europe/Zurich", hour=2), "2026-10-25T12:00", "2026-10-25", "2026-10-25T00:00"),
    ],
)
def test_a_digest_is_due_at_the_readers_own_hour(who, now, period, at):
    assert who.due(datetime.fromisoformat(now).replace(tzinfo=UTC)) == (
        period,
        datetime.fromisoformat(at).replace(tzinfo=UTC),
    )


def test_the_first_digest_is_of_the_next_day():
    who = reader(confirmed="2026-01-07T08:00:00+00:00")
    assert who.due(datetime(2026, 1, 8, 6, tzinfo=UTC)) is None
    assert who.due(datetime(2026, 1, 8, 7, tzinfo=UTC)) is not None


@settings(max_examples=200, deadline=None)
@given(
    st.datetimes(datetime(2024, 1, 1), datetime(2030, 1, 1)),
    st.sampled_from(
        ["UTC", "Europe/Zurich", "Australia/Lord_Howe", "America/St_Johns", "Pacific/Apia", "Africa/Casablanca"]
    ),
    st.integers(0, 23),
    st.sampled_from(["daily", "weekly"]),
)
def test_every_period_is_due_once_and_in_turn(start, zone, hour, every):
    who, step = reader(every, zone, hour), timedelta(hours=6 if every == "daily" else 40)
    seen = [who.due(start.replace(tzinfo=UTC) + i * step) for i in range(30)]
    names = [name for i, (name, _) in enumerate(seen) if i == 0 or seen[i - 1][0] != name]
    assert len(names) == len(set(names))
    assert names == sorted(names)
    assert all(at <= start.replace(tzinfo=UTC) + i * step for i, (_, at) in enumerate(seen))
