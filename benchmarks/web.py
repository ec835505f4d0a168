"""Readers at once: what the page's answers take, from a server of its own on this machine.

    python benchmarks/web.py                         # 200 readers for 60 s, each asking for the next page at once
    python benchmarks/web.py --seconds 10 --think 1  # a reader looks at a page for a second on average

Prints, per kind of page, the number of answers, errors, and the median, 99th percentile and longest time in
milliseconds; before that, how long a page takes when nothing is in memory. Readers take the processors' time too: where
there are only two, the times are those of server and readers together.
"""

import argparse
import asyncio
import os
import random
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np

from attractor.papers import ROOMS, catalogue

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


async def cold(url: str) -> dict[str, float]:
    """Milliseconds of the first request for some pages."""
    host = urlsplit(url).netloc
    reader, writer = await asyncio.open_connection(*host.split(":"))
    taken = {}
    for path in ("/", "/papers", "/papers/adahessian", "/rooms", "/rooms/optim", "/papers?q=sharpness"):
        begun = time.perf_counter()
        await ask(reader, writer, host, path)
        taken[path] = 1e3 * (time.perf_counter() - begun)
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
    command = [sys.executable, "-c", "from attractor.cli import main; main()", "serve", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        url = server.stdout.readline().strip()
        while True:
            try:
                first = asyncio.run(cold(url))
                break
            except ConnectionError:
                time.sleep(0.05)
        print("cold, ms:", ", ".join(f"{path} {ms:.0f}" for path, ms in first.items()))
        asyncio.run(measure(url, 4, 20.0, 0.5))  # stale verdicts are being looked for
        before, worked = time.process_time(), processor_seconds(server.pid)
        found = asyncio.run(measure(url, given.readers, given.seconds, given.think))
        own, worked = time.process_time() - before, processor_seconds(server.pid) - worked
        server.terminate()
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
