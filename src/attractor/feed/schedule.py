"""The daemon: fetches what is new and sends what is due, one at a time, until it is asked to end."""

import signal
import threading
import traceback
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import FrameType
from typing import Any

from attractor.extras import needs
from attractor.feed.database import alone
from attractor.feed.library import Library
from attractor.feed.mail import Mailer, StoppedError

SYNC = timedelta(hours=6)  # arXiv announces once a day, other sources when they like
DIGESTS = timedelta(minutes=15)  # every time zone's offset is a multiple of it


def run(
    mailer: Mailer | None,
    *,
    path: Path | None = None,
    say: Callable[[str], object] = print,
    sync_every: timedelta = SYNC,
    send_every: timedelta = DIGESTS,
) -> None:
    """Sync at once and every six hours, send at once and every quarter of an hour; ends at SIGTERM or Ctrl-C.

    What is under way then ends at its next page, or at the next wait for a mail server; a message that is being handed
    over is handed over first. To be called in the main thread.

    Arguments:
        mailer: Who sends; `None`: nobody is to get mail.
        path: The feed's file; default: under the home.
        say: Gets a line for each thing that was done.
        sync_every: Between two syncs.
        send_every: Between two looks at what is due.

    Raises:
        ValueError: if a daemon runs for this feed already.
        ImportError: without APScheduler.
    """
    with needs("feed"):
        from apscheduler.executors.pool import ThreadPoolExecutor
        from apscheduler.schedulers.background import BackgroundScheduler
        from apscheduler.triggers.interval import IntervalTrigger
    stop = threading.Event()

    def wait(seconds: float) -> None:
        if stop.wait(seconds):
            raise StoppedError

    def job(work: Callable[[Library, Callable[[float], None]], list[str]]) -> None:
        """Whatever goes wrong is said and tried again at the next turn: a daemon that ends over it helps nobody."""
        if stop.is_set():
            return
        try:
            with Library(path) as library:
                for line in work(library, wait):
                    say(line)
        except StoppedError:
            say("stopped in between; the next run goes on from there")
        except Exception as error:
            say(f"failed: {type(error).__name__}: {error}")
            traceback.print_exc()

    works = [(sync_work, sync_every)]
    if mailer is not None:
        works.append((lambda library, wait: send_work(library, wait, mailer), send_every))
    with Library(path) as library, alone(library.connection, "daemon"):
        scheduler = BackgroundScheduler(timezone=UTC, executors={"default": ThreadPoolExecutor(1)})
        options = {"coalesce": True, "max_instances": 1, "misfire_grace_time": None}
        for work, every in works:
            trigger = IntervalTrigger(seconds=max(1, round(every.total_seconds())), timezone=UTC)
            scheduler.add_job(job, trigger, [work], next_run_time=datetime.now(UTC), **options)

        def end(number: int, frame: FrameType | None) -> None:
            stop.set()

        before = {number: signal.signal(number, end) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            scheduler.start()
            stop.wait()
        finally:
            stop.set()
            scheduler.shutdown(wait=True)
            for number, handler in before.items():
                signal.signal(number, handler)


def sync_work(library: Library, wait: Callable[[float], None]) -> list[str]:
    """Fetch what is new, unless asked to end; what came of each source."""
    from attractor.feed.sync import sync

    def progress(*_: Any) -> None:
        wait(0)

    return [f"{o.name}: {o.status}, {o.new} new" for o in sync(library, progress=progress)]


def send_work(library: Library, wait: Callable[[float], None], mailer: Mailer) -> list[str]:
    """Send what is due, unless asked to end; what became of each digest."""
    from attractor.feed.digest import send_due

    sent = send_due(library, replace(mailer, sleep=wait), datetime.now(UTC))
    return [f"{s.email}: {s.state}, {s.papers} papers{f' ({s.answer})' if s.answer else ''}" for s in sent]
