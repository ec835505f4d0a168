"""Mail that arrives: over TLS that is checked, tried again where that helps, one a reader and period, killed or not."""

import json
import os
import signal
import smtplib
import socket
import subprocess
import sys
import textwrap
import threading
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta

import pytest
from outgoing import ADDED, NOW, PAPERS, Box, library, mail_server, mailer

from attractor.feed import Entry, Library, mail
from attractor.feed.digest import ask, send_due
from attractor.feed.mail import DeferredError, Mailer, RefusedError, Settings, UnreachableError, overdue
from attractor.feed.subscribers import confirm, subscribe, subscribers, unsubscribe

__all__ = ["library"]
DAY = timedelta(days=1)


@pytest.fixture
def box():
    return Box()


def joined(library, *names, every="daily", at=NOW - 3 * DAY, **how):
    for name in names:
        confirm(
            library, subscribe(library, f"{name}@example.org", ["sharp", "federated"], every, now=at, **how), now=at
        )


def states(library):
    return [
        (r["state"], r["tries"]) for r in library.connection.execute("SELECT * FROM sends ORDER BY subscriber, period")
    ]


@pytest.mark.parametrize("security", ["starttls", "tls"])
def test_a_digest_goes_over_tls_with_login(library, box, tmp_path, security):
    joined(library, "ada")
    with mail_server(box, tmp_path, security) as settings:
        (sent,) = send_due(library, mailer(settings), NOW)
        assert (sent.email, sent.period, sent.state, sent.papers) == ("ada@example.org", "2026-01-07", "sent", 4)
        assert send_due(library, mailer(settings), NOW) == []  # not twice
    (got,) = box.mails
    assert (got["From"], got["To"]) == ("Papers <papers@example.org>", "ada@example.org")
    assert got["Date"] == "Wed, 07 Jan 2026 12:00:00 +0000"
    assert got["Message-ID"].startswith("<digest.2026-01-07.1.")
    assert got["List-Id"] == "attractor digest <digest.example.org>"
    assert got["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
    assert [part.get_content_type() for part in got.walk()] == ["multipart/alternative", "text/plain", "text/html"]
    (line,) = [line for line in box.raw.split(b"\r\n") if line.lower().startswith(b"list-unsubscribe:")]
    link = line.decode("ascii").split(": ", 1)[1]  # on one line and not encoded, as mail programs want it
    assert link.startswith("<https://papers.example.org/unsubscribe?token=")
    assert max(map(len, box.raw.split(b"\r\n"))) <= 998
    unsubscribe(library, link[1:-1].split("token=")[1])
    assert subscribers(library) == []


@pytest.mark.parametrize("security", ["starttls", "tls"])
@pytest.mark.parametrize("how", [{"trusted": False}, {"hosts": ("elsewhere.example",)}])
def test_a_server_that_cannot_show_who_it_is_gets_nothing(library, box, tmp_path, security, how):
    joined(library, "ada")
    waited = []
    with mail_server(box, tmp_path, security, **how) as settings:
        (sent,) = send_due(library, mailer(settings, waited), NOW)
    assert (sent.state, waited, box.seen) == ("deferred", [], [])
    assert "cannot be trusted" in sent.answer


def test_without_starttls_nothing_goes_in_the_clear(box, tmp_path):
    with mail_server(box, tmp_path, "none", login=None) as settings:
        careful = replace(settings, security="starttls")
        with pytest.raises(UnreachableError, match="STARTTLS"):
            mailer(careful).send(letter(), "a@example.org")
    assert box.seen == []


def letter():
    from email.message import EmailMessage

    found = EmailMessage(policy=mail.POLICY)
    found["Subject"] = "x"
    found.set_content("Zoë")
    return found


def test_a_wrong_password_is_said_and_not_tried_again(box, tmp_path):
    waited = []
    with mail_server(box, tmp_path) as settings:
        wrong = replace(settings, password="wrong")
        with pytest.raises(UnreachableError, match="535"):
            mailer(wrong, waited).send(letter(), "a@example.org")
    assert (waited, box.seen) == ([], [])


@pytest.mark.parametrize("at", ["rcpt", "data"])
@pytest.mark.parametrize("answer", ["450 4.2.0 greylisted, come back", "451 busy", "hang up"])
def test_later_and_hanging_up_are_tried_again(box, tmp_path, at, answer):
    waited = []
    box.at, box.answers = at, [answer, answer]
    with mail_server(box, tmp_path) as settings:
        assert mailer(settings, waited).send(letter(), "a@example.org") == "accepted"
    assert (waited, len(box.seen), len(box.mails)) == ([5.0, 60.0], 3, 1)


@pytest.mark.parametrize("answer", ["450 later", "hang up"])
def test_waiting_has_an_end(box, tmp_path, answer):
    waited = []
    box.answers = [answer] * 9
    with mail_server(box, tmp_path) as settings, pytest.raises(DeferredError):
        mailer(settings, waited).send(letter(), "a@example.org")
    assert (waited, len(box.seen)) == ([5.0, 60.0, 300.0], 4)


@pytest.mark.parametrize("at", ["rcpt", "data"])
def test_no_is_no(box, tmp_path, at):
    waited = []
    box.at, box.answers = at, ["550 5.1.1 no such mailbox"]
    with mail_server(box, tmp_path) as settings, pytest.raises(RefusedError, match=r"550 5\.1\.1 no such mailbox"):
        mailer(settings, waited).send(letter(), "a@example.org")
    assert (waited, len(box.seen)) == ([], 1)


def test_where_nobody_listens_the_rest_waits(library):
    joined(library, "ada", "bob")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # taken, and nobody listens
        settings = Settings("127.0.0.1", "a@example.org", security="none", port=taken.getsockname()[1])
        (sent,) = send_due(library, mailer(settings), NOW)
    assert (sent.state, states(library)) == ("deferred", [("deferred", 1)])


@contextmanager
def line(*answers):
    """A server that says these lines to whoever connects, one connection each, and hangs up."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve():
            for answer in answers:
                with listening.accept()[0] as connection:
                    connection.sendall(answer)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield Settings("127.0.0.1", "a@example.org", security="none", port=listening.getsockname()[1], timeout=20)
        thread.join(20)


def test_a_server_that_is_busy_at_the_door_is_tried_again_and_one_that_shuts_it_is_not():
    waited = []
    busy = line(b"421 too many\r\n", b"", b"not smtp at all\r\n", b"421 too many\r\n")
    with busy as settings, pytest.raises(UnreachableError, match="421 too many"):
        mailer(settings, waited).send(letter(), "b@example.org")
    assert len(waited) == 3
    with line(b"554 go away\r\n") as settings, pytest.raises(UnreachableError, match="554 go away"):
        mailer(settings, waited).send(letter(), "b@example.org")
    assert len(waited) == 3


def test_one_reader_put_off_keeps_nobody_waiting_and_is_tried_again_later(library, box, tmp_path):
    joined(library, "ada", "bob", "eve")
    box.answers = ["450 later"] * 4 + ["550 no such mailbox"]
    with mail_server(box, tmp_path) as settings:
        assert [s.state for s in send_due(library, mailer(settings), NOW)] == ["deferred", "refused", "sent"]
        assert [s.email for s in send_due(library, mailer(settings), NOW + DAY / 100)] == ["ada@example.org"]
        assert states(library) == [("sent", 2), ("refused", 1), ("sent", 1)]
        assert [m["To"] for m in box.mails] == ["eve@example.org", "ada@example.org"]
        assert [s.since < NOW.isoformat() for s in subscribers(library)] == [False, True, False]
        (late,) = overdue(library, NOW)
        assert (late.email, late.state, late.why) == ("bob@example.org", "refused", "550 no such mailbox")
        assert [s.state for s in send_due(library, mailer(settings), NOW + DAY)] == ["nothing", "sent", "nothing"]
    assert subscribers(library)[1].since == (NOW + DAY).isoformat()
    assert "3 more new papers" in box.mails[-1]["Subject"]  # nothing is lost by a refusal


def test_only_what_is_new_and_nothing_is_no_mail_unless_asked(library, box, tmp_path):
    joined(library, "ada")
    joined(library, "bob", quiet=False)
    library.connection.execute("DELETE FROM entries WHERE id > 2")
    with mail_server(box, tmp_path) as settings:
        send_due(library, mailer(settings), NOW - DAY)
        library.add(PAPERS[2:], "test")
        library.connection.execute("UPDATE entries SET added = ? WHERE id > 2", (ADDED[2],))
        assert [s.papers for s in send_due(library, mailer(settings), NOW)] == [2, 2]
        assert [(s.state, s.papers) for s in send_due(library, mailer(settings), NOW + DAY)] == [
            ("nothing", 0),
            ("sent", 0),
        ]
    assert [len(m.get_body(("plain",)).get_content()) > 300 for m in box.mails[:4]] == [True] * 4
    assert (len(box.mails), box.mails[-1]["Subject"]) == (5, "Nothing new")
    told = [
        json.loads(r["papers"])
        for r in library.connection.execute("SELECT * FROM sends WHERE subscriber = 1 ORDER BY period")
    ]
    assert [len(papers) for papers in told] == [4 - 2, 2, 0]
    assert len({uid for papers in told for uid in papers}) == 4


def test_what_a_sync_stored_late_is_not_lost_nor_what_was_told_told_again(library, box, tmp_path):
    joined(library, "ada")
    with mail_server(box, tmp_path) as settings:
        library.connection.execute("UPDATE entries SET added = '2026-01-07T11:45:00+00:00' WHERE id = 4")
        send_due(library, mailer(settings), NOW)
        assert subscribers(library)[0].since == NOW.isoformat()
        library.add([Entry("Sharpness at last", arxiv="2601.00009")], "late")
        at = (NOW - timedelta(minutes=5)).isoformat()  # begun before the digest, ended after it
        library.connection.execute("UPDATE entries SET added = ? WHERE arxiv = '2601.00009'", (at,))
        (sent,) = send_due(library, mailer(settings), NOW + DAY)
    assert (sent.state, sent.papers, box.mails[-1]["Subject"]) == ("sent", 1, "Sharpness at last")


def test_a_week_is_told_on_monday(library, box, tmp_path):
    joined(library, "ada", every="weekly", at=NOW - 7 * DAY)
    with mail_server(box, tmp_path) as settings:
        (first,) = send_due(library, mailer(settings), NOW)
        assert (first.period, first.papers) == ("2026-W02", 4)
        assert send_due(library, mailer(settings), NOW + 4 * DAY) == []
        assert [s.period for s in send_due(library, mailer(settings), NOW + 5 * DAY)] == ["2026-W03"]


def test_one_reader_now_and_not_again_today(library, box, tmp_path):
    joined(library, "ada", "bob", at=NOW)
    with mail_server(box, tmp_path) as settings:
        library.connection.execute("UPDATE subscribers SET since = '2026-01-01T00:00:00+00:00'")
        assert [s.email for s in send_due(library, mailer(settings), NOW, only="BOB@example.org")] == [
            "bob@example.org"
        ]
        assert send_due(library, mailer(settings), NOW, only="bob@example.org") == []
        with pytest.raises(ValueError, match="has not confirmed"):
            send_due(library, mailer(settings), NOW, only="eve@example.org")


KILLED = """
import os, signal, smtplib, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from outgoing import NOW
from attractor.feed import Library
from attractor.feed.digest import send_due
from attractor.feed.mail import Mailer, Settings
library, after, port = Library(Path(sys.argv[2])), int(sys.argv[3]), int(sys.argv[4])
done = 0
def count(statement):
    global done
    writes = "sends" in statement.split()[:3] or "UPDATE subscribers" in statement
    done += writes or (done > 0 and statement == "COMMIT")
    if done == after:
        os.kill(os.getpid(), signal.SIGKILL)
if after:
    library.connection.set_trace_callback(count)
else:  # in the middle of the talk with the server
    smtplib.SMTP.rcpt = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
settings = Settings("127.0.0.1", "a@example.org", security="none", port=port)
print([s.state for s in send_due(library, Mailer(settings, sleep=lambda s: None), NOW)])
"""


def test_killed_at_any_statement_nobody_gets_a_digest_twice_and_no_paper_is_lost(library, box, tmp_path):
    """Each reader's digest is five statements: about to go (insert, commit), gone (two updates, commit)."""
    script = tmp_path / "script.py"
    script.write_text(textwrap.dedent(KILLED))
    tests = os.path.dirname(os.path.dirname(__file__))
    joined(library, "ada", "bob")
    with mail_server(box, tmp_path, "none", login=None) as settings:
        for after in (0, 1, 3, 5, 8):
            path = tmp_path / f"{after}" / "feed.sqlite"
            path.parent.mkdir()
            library.connection.execute("VACUUM INTO ?", (str(path),))
            box.seen.clear()
            box.mails.clear()
            command = [sys.executable, script, tests, path, str(after), str(settings.port)]
            killed = subprocess.run(command, check=False, capture_output=True, text=True)
            assert killed.returncode == -signal.SIGKILL, killed.stderr
            with Library(path) as again:
                send_due(again, mailer(settings), NOW)
                got = [m["To"] for m in box.mails]
                assert len(got) == len(set(got)) >= 1  # never twice in a period
                doubtful = {o.email for o in overdue(again, NOW) if o.state == "unknown"}
                assert set(got) | doubtful == {"ada@example.org", "bob@example.org"}  # and who got none is named
                send_due(again, mailer(settings), NOW + DAY)
                got = [m["To"] for m in box.mails]
                assert {"ada@example.org", "bob@example.org"} == set(got)  # and told the next day
                assert overdue(again, NOW + DAY) == []


def test_one_process_sends_at_a_time(library, box, tmp_path):
    joined(library, "ada")
    with mail_server(box, tmp_path) as settings, Library(tmp_path / "home" / "feed.sqlite") as other:
        at_work = mailer(settings)
        box.answers = ["450 later"]
        refused = []

        def meanwhile(seconds):
            with pytest.raises(ValueError, match="is at it"):
                send_due(other, mailer(settings), NOW)
            refused.append(seconds)

        at_work.sleep = meanwhile
        assert [s.state for s in send_due(library, at_work, NOW)] == ["sent"]
    assert (len(refused), len(box.mails)) == (1, 1)


def test_asked_to_end_while_waiting_the_digest_is_put_off(library, box, tmp_path):
    joined(library, "ada")

    def end(seconds):
        raise mail.StoppedError

    box.answers = ["450 later"]
    with mail_server(box, tmp_path) as settings:
        with pytest.raises(mail.StoppedError):
            send_due(library, Mailer(settings, sleep=end), NOW)
        assert states(library) == [("deferred", 1)]
        assert [s.state for s in send_due(library, mailer(settings), NOW)] == ["sent"]


def test_a_digest_that_did_not_go_is_overdue(library, box, tmp_path):
    joined(library, "ada", at=NOW)  # due on the 8th at 7
    library.connection.execute("UPDATE subscribers SET since = '2026-01-01T00:00:00+00:00'")
    due = NOW + timedelta(hours=19)
    assert overdue(library, due + timedelta(hours=3)) == []
    (late,) = overdue(library, due + timedelta(hours=3, seconds=1))
    assert (late.email, late.period, late.due, late.state) == (
        "ada@example.org", "2026-01-08", "2026-01-08T07:00:00+00:00", "missing",
    )  # fmt: skip
    assert "attractor daemon" in late.why
    with mail_server(box, tmp_path) as settings:
        box.answers = ["450 full"] * 4
        send_due(library, mailer(settings), due)
        assert overdue(library, due) == []
        assert [(o.state, o.why) for o in overdue(library, due + timedelta(hours=4))] == [("deferred", "450 full")]
        send_due(library, mailer(settings), due + timedelta(hours=4))
    assert overdue(library, due + timedelta(hours=4)) == []


def test_the_link_to_confirm_goes_to_the_address_three_times_a_day_at_most(library, box, tmp_path):
    with mail_server(box, tmp_path) as settings:
        for i in range(5):
            token = subscribe(library, "ada@example.org", ["sharp"], now=NOW + i * DAY / 100)
            ask(library, mailer(settings), token, now=NOW + i * DAY / 100)
        assert len(box.mails) == 3
        ask(
            library,
            mailer(settings),
            subscribe(library, "ada@example.org", ["sharp"], now=NOW + 2 * DAY),
            now=NOW + 2 * DAY,
        )
    assert len(box.mails) == 4
    text = box.mails[-1].get_body(("plain",)).get_content()
    link = next(line for line in text.splitlines() if line.startswith("https://papers.example.org/confirm?token="))
    assert confirm(library, link.split("token=")[1], now=NOW + 2 * DAY).follows == ("sharp",)
    assert link in box.mails[-1].get_body(("html",)).get_content()


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"security": "ssl"}, "security: expected one of starttls"), ({"security": "none"}, "on this machine"),
        ({"port": 70000}, "a port to 65535"), ({"sender": ""}, "sender is not set"),
        ({"sender": "me"}, "expected an address"), ({"url": "papers.example.org"}, "url: expected"),
        ({"host": ""}, "host is not set"),
    ],
)  # fmt: skip
def test_settings_that_cannot_be_are_refused(change, named):
    with pytest.raises(ValueError, match=named):
        Settings(**{"host": "mail.example.org", "sender": "a@example.org"} | change)


def test_settings_come_from_a_private_file_and_the_environment(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match=r"host is not set.*ATTRACTOR_MAIL_HOST"):
        Settings.load()
    path = mail.path()
    path.parent.mkdir()
    path.write_text('host = "mail.example.org"\nsender = "a@example.org"\npassword = "in the file"\nuser = "u"\n')
    path.chmod(0o644)
    with pytest.raises(ValueError, match="chmod 600"):
        Settings.load()
    path.chmod(0o600)
    monkeypatch.setenv("ATTRACTOR_MAIL_PORT", "2525")
    monkeypatch.setenv("ATTRACTOR_MAIL_PASSWORD", "from outside")
    found = Settings.load()
    assert (found.host, found.port, found.password, found.security) == (
        "mail.example.org",
        2525,
        "from outside",
        "starttls",
    )
    assert "outside" not in repr(found)
    monkeypatch.setenv("ATTRACTOR_MAIL_PORT", "smtp")
    with pytest.raises(ValueError, match="port: expected a number, got 'smtp'"):
        Settings.load()
    path.write_text('hots = "x"\n')
    with pytest.raises(ValueError, match="unknown hots; expected host"):
        Settings.load()


def test_every_error_of_smtplib_has_an_answer():
    assert mail._answer(smtplib.SMTPRecipientsRefused({"a": (550, b"no\r\nnever")})) == (550, "550 no never")
    assert mail._answer(smtplib.SMTPDataError(451, b"\xff")) == (451, "451 �")
    assert mail._answer(smtplib.SMTPServerDisconnected("gone")) == (0, "SMTPServerDisconnected: gone")
    assert mail._answer(smtplib.SMTPConnectError(-1, b"not smtp"))[0] == 0
