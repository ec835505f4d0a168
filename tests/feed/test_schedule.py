"""The daemon: one at a time, whatever fails it goes on, and SIGTERM ends it cleanly."""

import os
import signal
import threading
from datetime import timedelta

import pytest
from outgoing import Box, library, mail_server, mailer

from attractor.feed import Library, config, schedule
from attractor.feed.mail import StoppedError
from attractor.feed.subscribers import confirm, subscribe

__all__ = ["library"]


def ended_after(lines, say=lambda line: None):
    """Hears lines, and asks this process to end after so many, as systemd does."""
    heard = []

    def hear(line):
        heard.append(line)
        say(line)
        if len(heard) == lines:
            os.kill(os.getpid(), signal.SIGTERM)

    return heard, hear


def configured(tmp_path):
    """One source: a folder with nothing in it."""
    (tmp_path / "papers").mkdir()
    config.path().parent.mkdir(exist_ok=True)
    config.path().write_text(f'[[source]]\nname = "folder"\nkind = "folder"\npath = "{tmp_path / "papers"}"\n')


def test_it_syncs_and_sends_until_asked_to_end(library, tmp_path):
    configured(tmp_path)
    token = subscribe(library, "ada@example.org", ["sharp"])
    confirm(library, token)
    library.connection.execute("UPDATE subscribers SET confirmed = '2026-01-01T00:00:00+00:00', since = confirmed")
    heard, hear = ended_after(2)
    before = signal.getsignal(signal.SIGTERM)
    with mail_server(Box(), tmp_path) as settings:
        schedule.run(mailer(settings), say=hear)
    assert heard[0].startswith("folder: ")
    assert heard[1].startswith("ada@example.org: ")
    assert signal.getsignal(signal.SIGTERM) is before
    assert not [t for t in threading.enumerate() if "ThreadPoolExecutor" in t.name]


def test_what_fails_is_said_and_tried_again(library, tmp_path, capsys):
    heard, hear = ended_after(2)  # nothing is configured
    schedule.run(None, say=hear, sync_every=timedelta(seconds=1))
    assert [line.split(":")[0] for line in heard] == ["failed", "failed"]
    assert "feed.toml" in heard[0]
    assert "Traceback" in capsys.readouterr().err


def test_a_second_one_is_refused(library, tmp_path):
    configured(tmp_path)
    refused = []

    def second(line):
        with pytest.raises(ValueError, match=f"daemon: process {os.getpid()} is at it"):
            schedule.run(None)
        refused.append(line)

    schedule.run(None, say=ended_after(1, second)[1])
    assert len(refused) == 1
    schedule.run(None, say=ended_after(1)[1])  # the lock went with the first


def test_asked_to_end_a_sync_ends_at_its_next_page(library, tmp_path):
    configured(tmp_path)
    (tmp_path / "papers" / "a.bib").write_text("@misc{a, title={Sharp}, author={A}, year={2020}}\n")

    def stopped(seconds):
        raise StoppedError

    with Library(tmp_path / "other" / "feed.sqlite") as other, pytest.raises(StoppedError):
        schedule.sync_work(other, stopped)
