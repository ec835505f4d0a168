"""Readers at once: what the page's answers take, from a server of its own on this machine.

    python benchmarks/web.py                         # 200 readers for 60 s, each asking for the next page at once
    python benchmarks/web.py --seconds 10 --think 1  # a reader looks at a page for a second on average
    python benchmarks/web.py --seconds 0             # only how long a start and first pages take

Prints how long a server takes to say its address, and from then on to answer the first page; how long pages take when
nothing is in memory; then, per kind of page, the number of answers, errors, and the median, 99th percentile and longest
time in milliseconds. All with a feed of 60 papers. Readers take the processors' time too: where there are only two, the
times are those of server and readers together.
"""

import argparse
import asyncio
import contextlib
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np

from attractor.feed import Entry, Library
from attractor.papers import ROOMS, catalogue

SERVE = (sys.executable, "-c", "from attractor.cli import main; main()", "serve", "--port", "0")
STARTS = 5

QUERIES = (
    "sharpness",
    "adam without momentum",
    "neural operator",
    "offline reinforcement learning",
    "compressed gradients",
)


def pages(rng: random.Random) -> str:
    """The next page a reader asks for."""
    kind = rng.random()
    if kind < 0.25:
        return "/"
    if kind < 0.65:
        return f"/papers/{rng.choice(list(catalogue()))}"
    if kind < 0.8:
        return f"/rooms/{rng.choice(list(ROOMS))}"
    return rng.choice(("/rooms", "/papers", f"/papers?q={rng.choice(QUERIES).replace(' ', '+')}"))


async def ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, host: str, path: str) -> int:
    """One request on a connection that stays open; the status."""
    head = f"GET {path} HTTP/1.1\r\nHost: {host}\r\nAccept-Encoding: gzip\r\n\r\n"
    writer.write(head.encode())
    status, *headers = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    length = next(int(h.split(":")[1]) for h in headers if h.lower().startswith("content-length"))
    await reader.readexactly(length)
    return int(status.split()[1])


async def read(host: str, until: float, think: float, seed: int, found: list[tuple[str, float, int]]) -> None:
    """A reader, to the end."""
    rng = random.Random(seed)
    await asyncio.sleep(rng.random() * max(think, 0.5))
    name, port = host.split(":")
    reader, writer = await asyncio.open_connection(name, int(port))
    while time.perf_counter() < until:
        path = pages(rng)
        begun = time.perf_counter()
        status = await ask(reader, writer, host, path)
        found.append((path.split("?")[0].rsplit("/", 1)[0] or "/", time.perf_counter() - begun, status))
        if think:
            await asyncio.sleep(rng.expovariate(1 / think))
    writer.close()


async def measure(url: str, readers: int, seconds: float, think: float) -> list[tuple[str, float, int]]:
    """What all readers saw: kind of page, seconds, status."""
    found: list[tuple[str, float, int]] = []
    until, host = time.perf_counter() + seconds, urlsplit(url).netloc
    await asyncio.gather(*(read(host, until, think, seed, found) for seed in range(readers)))
    return found


def processor_seconds(process: int) -> float:
    """What a process has used, by Linux' count."""
    fields = Path(f"/proc/{process}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def furnish(home: Path) -> None:
    """A feed, so that the first page has what it has for whoever follows papers."""
    chosen = list(catalogue().values())[::6][:60]
    entries = [Entry(f"On {p.title}", f"{p.gist} {p.claim}", arxiv=f"2611.{i:05}") for i, p in enumerate(chosen)]
    with Library(home / "feed.sqlite") as library:
        library.add(entries, "daily", day="2026-11-25", votes=list(range(len(entries))))


@contextlib.contextmanager
def serving(home: Path) -> Iterator[tuple[str, int, float]]:
    """A server: its address, its process, and the seconds until it said the address."""
    begun = time.perf_counter()
    environment = {**os.environ, "ATTRACTOR_HOME": str(home)}
    with subprocess.Popen(SERVE, stdout=subprocess.PIPE, text=True, env=environment) as server:
        assert server.stdout is not None
        url = server.stdout.readline().strip()
        try:
            yield url, server.pid, time.perf_counter() - begun
        finally:
            server.terminate()


async def cold(url: str, *paths: str) -> dict[str, float]:
    """Milliseconds of the first request for some pages, of the first of all with what the server still has to do."""
    host = urlsplit(url).netloc
    begun, taken = time.perf_counter(), {}
    reader, writer = await asyncio.open_connection(*host.split(":"))
    for path in paths:
        await ask(reader, writer, host, path)
        taken[path] = 1e3 * (time.perf_counter() - begun)
        begun = time.perf_counter()
    writer.close()
    return taken


def main() -> None:
    """Start a server, ask, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--readers", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--think", type=float, default=0.0, help="Mean seconds between a reader's pages.")
    given = parser.parse_args()
    print(f"{os.cpu_count()} processors, load before: {os.getloadavg()[0]:.1f}")
    home = Path(tempfile.mkdtemp())
    furnish(home)
    starts = []
    for _ in range(STARTS):
        with serving(home) as (url, _, waited):
            starts.append((1e3 * waited, asyncio.run(cold(url, "/"))["/"]))
    address, first = np.median(starts, axis=0)
    print(f"start, ms, median of {STARTS}: its address after {address:.0f}, and from then the first page {first:.0f}")
    with serving(home) as (url, process, _):
        paths = ("/", "/papers", "/papers/adahessian", "/rooms", "/rooms/optim", "/papers?q=sharpness")
        times = asyncio.run(cold(url, *paths))
        print("cold, ms:", ", ".join(f"{path} {ms:.0f}" for path, ms in times.items()))
        if not given.seconds:
            return
        asyncio.run(measure(url, 4, 20.0, 0.5))  # stale verdicts are being looked for
        before, worked = time.process_time(), processor_seconds(process)
        found = asyncio.run(measure(url, given.readers, given.seconds, given.think))
        own, worked = time.process_time() - before, processor_seconds(process) - worked
    errors = sum(status != 200 for _, _, status in found)
    print(f"{given.readers} readers, {given.seconds:g} s: {len(found)} answers, {errors} errors")
    print(
        f"processor time: server {1e3 * worked / len(found):.2f} ms an answer, readers {1e3 * own / len(found):.2f} ms"
    )
    for kind in ("all", *sorted({k for k, _, _ in found})):
        times = 1e3 * np.array([t for k, t, _ in found if kind in ("all", k)])
        middle, late = np.percentile(times, [50, 99])
        print(f"{kind:12} {len(times):7} answers  median {middle:6.1f}  p99 {late:6.1f}  longest {times.max():6.1f} ms")


if __name__ == "__main__":
    main()
