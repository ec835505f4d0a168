"""Work that a page starts: one job at a time, each in a process of its own, followed live, cancelled, and kept."""

import asyncio
import contextlib
import json
import os
import re
import secrets
import signal
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from attractor.places import write_atomically
from attractor.web.worker import REPORT

WAITING = 8  # jobs that may queue
LONGEST = 20 * 60.0  # seconds that a job may take
PATIENCE = 8.0  # seconds in which an interrupted job may keep what it has
KEPT = 200  # jobs on disk
SAID = 2_000  # characters of its last words
ID = re.compile(r"[0-9a-f]{16}")
WORKER = ("-m", "attractor.web.worker")
ACTIVE = ("queued", "running")


class Full(Exception):
    """As many jobs wait as may."""


@dataclass
class Job:
    """A piece of work.

    Attributes:
        id: 16 hexadecimal digits.
        order: What to do; ``kind`` is ``check``, ``compare`` or ``diagnose``.
        state: ``queued``, ``running``, ``done``, ``failed`` or ``cancelled``.
        made: When it was asked for, seconds since 1970.
        seconds: How long it has taken.
        progress: ``{label, done, total, unit}``, the last that was told.
        detail: The same of the step under way.
        verdicts: Of a check, as they came.
        result: Of a comparison or a diagnosis.
        message: Why it failed.
    """

    id: str
    order: dict[str, Any]
    state: str = "queued"
    made: float = 0.0
    seconds: float = 0.0
    progress: dict[str, Any] = field(default_factory=dict)
    detail: dict[str, Any] = field(default_factory=dict)
    verdicts: list[dict[str, Any]] = field(default_factory=list)
    result: dict[str, Any] = field(default_factory=dict)
    message: str = ""

    @property
    def title(self) -> str:
        """What it is about, in a few words."""
        kind, order = self.order["kind"], self.order
        if kind == "compare":
            return f"Comparison on {order['problem']}"
        return f"Checking {order['slug']}" if kind == "check" else f"Diagnosis of {order['title']}"

    @property
    def active(self) -> bool:
        """Whether it waits or runs."""
        return self.state in ACTIVE

    @property
    def share(self) -> float:
        """How much of it is done, in [0, 1]."""
        if not self.progress.get("total"):
            return 0.0
        inner = self.detail.get("done", 0) / (self.detail.get("total") or 1)
        # A comparison runs each method twice: to tune, and to measure.
        return min((self.progress["done"] + 0.5 * min(inner, 1.0)) / self.progress["total"], 1.0)

    def asdict(self) -> dict[str, Any]:
        """As JSON-ready data."""
        return asdict(self)


class Jobs:
    """All jobs of a server.

    Arguments:
        folder: Where they are kept, a folder each.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self.jobs: dict[str, Job] = {}
        self._changed = asyncio.Condition()
        self._queue: asyncio.Queue[Job] = asyncio.Queue()
        self._process: asyncio.subprocess.Process | None = None
        self._running: Job | None = None

    def load(self) -> None:
        """Read what earlier servers kept; what they left unfinished has failed."""
        for path in sorted(self.folder.glob("*/job.json"), key=lambda p: p.stat().st_mtime)[-KEPT:]:
            try:
                job = Job(**json.loads(path.read_text(encoding="utf-8")))
            except (ValueError, TypeError):  # another version's, or not ours: not shown, and left alone
                continue
            if job.active:
                job.state, job.message = "failed", "the server stopped before it was done"
            self.jobs[job.id] = job

    def path(self, job: Job) -> Path:
        """The job's folder."""
        return self.folder / job.id

    def report(self, job: Job) -> Path | None:
        """Its page, if it has written one."""
        path = self.path(job) / REPORT
        return path if path.is_file() else None

    def every(self, *kinds: str) -> list[Job]:
        """The jobs of these kinds, newest first."""
        return sorted((j for j in self.jobs.values() if j.order["kind"] in kinds), key=lambda j: -j.made)

    def get(self, number: str) -> Job | None:
        """The job of this id, or `None`."""
        return self.jobs.get(number) if ID.fullmatch(number) else None

    def submit(self, order: dict[str, Any], files: dict[str, bytes] | None = None) -> Job:
        """Queue an order, with the files it needs; the same order that waits or runs already is not doubled.

        Raises:
            Full: if `WAITING` jobs wait.
        """
        same = [j for j in self.jobs.values() if j.active and j.order == order and not files]
        if same:
            return same[0]
        if self._queue.qsize() >= WAITING:
            raise Full(f"{WAITING} jobs wait already; try again when one is done")
        job = Job(secrets.token_hex(8), order, made=time.time())
        self.path(job).mkdir(parents=True)
        for name, content in (files or {}).items():
            write_atomically(self.path(job) / name, lambda file, content=content: file.write(content))
        self.jobs[job.id] = job
        self._save(job)
        self._queue.put_nowait(job)
        return job

    async def cancel(self, job: Job) -> None:
        """Stop a job: what waits is dropped, what runs is interrupted, and killed if it does not listen."""
        if job.state == "queued":
            await self._tell(job, state="cancelled")
        elif job is self._running and self._process is not None:
            process = self._process
            job.message = "cancelled"
            _signal(process, signal.SIGINT)
            asyncio.get_running_loop().call_later(PATIENCE, _signal, process, signal.SIGKILL)

    async def work(self) -> None:
        """Do one job after the other, for ever; whatever happens to one, the next is done."""
        while True:
            job = await self._queue.get()
            if job.state != "queued":
                continue
            self._running = job
            try:
                await self._do(job)
            except asyncio.CancelledError:
                raise
            except TimeoutError:
                await self._tell(job, state="failed", message=f"it took longer than {LONGEST / 60:.0f} minutes")
            except Exception as error:
                await self._tell(job, state="failed", message=f"{type(error).__name__}: {error}")
            finally:
                self._running = self._process = None

    async def follow(self, job: Job, least: float = 0.25) -> AsyncIterator[Job | None]:
        """Yield the job whenever it has changed, until it is done, but not too often; `None`: it lives."""
        while True:
            before = _version(job)
            yield job
            if not job.active:
                return
            await asyncio.sleep(least)
            while _version(job) == before:
                try:
                    async with self._changed, asyncio.timeout(15):
                        await self._changed.wait_for(lambda before=before: _version(job) != before)
                except TimeoutError:
                    yield None

    async def stop(self) -> None:
        """End the worker, as the server ends."""
        if self._process is not None and self._process.returncode is None:
            _signal(self._process, signal.SIGKILL)
            await self._process.wait()

    async def _do(self, job: Job) -> None:
        begun = time.monotonic()
        await self._tell(job, state="running")
        async with asyncio.timeout(LONGEST):
            await run(job.order, self.path(job), self._started, lambda event: self._heard(job, event, begun))
        process = self._process
        assert process is not None
        job.seconds = time.monotonic() - begun
        code = process.returncode
        if job.message == "cancelled":
            await self._tell(job, state="cancelled", message="")
        elif code == 0:
            await self._tell(job, state="done")
        else:
            by = f"by {signal.Signals(-code).name}" if code and code < 0 else f"with exit code {code}"
            await self._tell(job, state="failed", message=job.message or f"the worker ended {by}")

    def _started(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def _heard(self, job: Job, event: dict[str, Any], begun: float) -> None:
        job.seconds = time.monotonic() - begun
        kind = event.pop("event")
        if kind == "verdict":
            job.verdicts.append(event["verdict"])
            job.progress |= {"done": len(job.verdicts)}
        elif kind == "progress":
            job.progress, job.detail = event, {}
        elif kind == "failed":
            job.message = job.message or event["message"]  # what it says itself comes before its last words
        else:
            setattr(job, kind, event)
        await self._tell(job)

    async def _tell(self, job: Job, **changes: Any) -> None:
        for name, value in changes.items():
            setattr(job, name, value)
        if changes:
            self._save(job)
        async with self._changed:
            self._changed.notify_all()

    def _save(self, job: Job) -> None:
        text = json.dumps(job.asdict(), allow_nan=False)
        write_atomically(self.path(job) / "job.json", lambda file: file.write(text.encode()))


async def run(order: dict[str, Any], folder: Path, started: Any, heard: Any) -> None:
    """Let a worker do an order; ``heard`` takes each event, and at the end its last words if it failed."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, *WORKER, str(folder),
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        start_new_session=True, limit=1 << 24,
    )  # fmt: skip
    started(process)
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    last = asyncio.create_task(_last_words(process.stderr))
    try:
        process.stdin.write(json.dumps(order).encode() + b"\n")
        with contextlib.suppress(ConnectionError):  # it ended before it read: its exit code says so
            await process.stdin.drain()
        async for line in process.stdout:
            await heard(json.loads(line))
        await process.wait()
        words = (await last).strip()
        if process.returncode and process.returncode > 0 and process.returncode != 130 and words:
            await heard({"event": "failed", "message": words.splitlines()[-1]})
    finally:
        if process.returncode is None:
            _signal(process, signal.SIGKILL)
            await process.wait()
        last.cancel()


async def _last_words(stream: asyncio.StreamReader) -> str:
    said = b""
    while chunk := await stream.read(4096):
        said = (said + chunk)[-SAID:]
    return said.decode(errors="replace")


def _signal(process: asyncio.subprocess.Process, number: signal.Signals) -> None:
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):  # it has just ended
            os.killpg(process.pid, number)


def _version(job: Job) -> tuple:
    return (job.state, len(job.verdicts), tuple(job.progress.values()), tuple(job.detail.values()), job.message)
