"""Where independent pieces of work run: one after another in this process, in several processes, or on a cluster."""

import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from itertools import islice
from multiprocessing import parent_process
from multiprocessing.context import SpawnContext, SpawnProcess
from typing import Any, TypeVar

import jax

from attractor.places import Carried, Place, content, names, write_atomically

Item = TypeVar("Item")
Result = TypeVar("Result")

BACKENDS = ("local", "ray")


def spread(
    work: Callable[[Item], Result],
    items: Iterable[Item],
    jobs: int = 1,
    *,
    backend: str = "local",
    address: str | None = None,
    alike: bool = False,
    lost: Callable[[Item, str], Result] | None = None,
) -> Iterator[tuple[Item, Result]]:
    """Do the work on every item and yield each item with its result, as results come.

    Arguments:
        work: A function of one item; with several jobs it and its items must be picklable.
        items: What to work on; with one job, in this order.
        jobs: Processes at a time, at least 1. They end with this process, however it ends. A cluster has as many as it
            has cores.
        backend: ``"local"``, or ``"ray"`` for a Ray cluster, see `attractor.cluster.spread`.
        address: Of a running cluster, with ``"ray"``.
        alike: Whether all pieces run the same programs, which a process of a cluster then keeps from one to the next;
            else they are dropped after each.
        lost: With several jobs, what an item gives whose process ended without a result, killed say:
            ``lost(item, how it ended)``. Such an item is tried once more, alone, after all others: several that need
            much memory may have ended each other. A cluster tries four times in all. Default: an error.

    Raises:
        ValueError: for ``jobs`` below 1, an unknown backend, or an address without ``"ray"``.
        BrokenProcessPool: if a process ends before it begins, or without a result where there is no ``lost``.
        RuntimeError: the same on a cluster.
    """
    if jobs < 1:
        raise ValueError(f"jobs: expected an integer >= 1, got {jobs}")
    require_backend(backend, address)
    alone = partial(_then_forget, work)
    if backend == "ray":
        from attractor import cluster

        yield from cluster.spread(work if alike else alone, items, address, alike=alike, lost=lost)
        return
    if jobs == 1:
        yield from ((item, alone(item)) for item in items)
        return
    again = []
    for item, future, ended in _worked(alone, items, jobs):
        if ended and lost is not None:
            again.append(item)
        else:
            yield item, future.result()
    for item in again:
        for _, future, ended in _worked(alone, [item], 1):
            yield item, lost(item, ended) if ended and lost is not None else future.result()


def carry(
    work: Callable[[str, Item, Place | None], Result],
    items: Iterable[tuple[str, Item]],
    folder: Place | None,
    belongs: Callable[[str, str], bool],
    *,
    backend: str,
    address: str | None,
    alike: bool = False,
) -> Iterator[tuple[str, Result]]:
    """`spread` named pieces that keep a checkpoint over a cluster, which need not see the folder that it is in.

    What the folder holds of a piece travels with it, and what the piece has written there is written here when it ends.

    Arguments:
        work: A function of the piece's name, the piece, and the folder; picklable.
        items: Names, and what to work on.
        folder: The checkpoint's, if there is one.
        belongs: Whether a file of this name in the folder is of the piece of that name.
        backend: As in `spread`, not ``"local"``; so are the others.
    """
    kept = [] if folder is None else names(folder)

    def packed() -> Iterator[tuple[str, Item, Carried | None]]:
        for key, item in items:
            if folder is None:
                yield key, item, None
            else:
                own = {name: content(folder / name) for name in kept if belongs(key, name)}
                yield key, item, Carried(os.fspath(folder), {k: v for k, v in own.items() if v is not None})

    done = spread(partial(_unpacked, work), packed(), backend=backend, address=address, alike=alike)
    for (key, _, sent), (result, files) in done:
        if folder is not None and sent is not None:
            for name, data in files.items():
                if data != sent.files.get(name):
                    write_atomically(folder / name, lambda file, data=data: file.write(data))
        yield key, result


def _unpacked(
    work: Callable[[str, Item, Place | None], Result], piece: tuple[str, Item, Carried | None]
) -> tuple[Result, dict[str, bytes]]:
    key, item, folder = piece
    result = work(key, item, folder)
    return result, {} if folder is None else folder.files


def require_backend(backend: str, address: str | None) -> None:
    """Refuse what `spread` would.

    Raises:
        ValueError: for an unknown backend, or an address without ``"ray"``.
    """
    if backend not in BACKENDS:
        raise ValueError(f"backend: expected one of {', '.join(BACKENDS)}, got {backend!r}")
    if address is not None and backend != "ray":
        raise ValueError(f"address: only backend='ray' has one, got {address!r} with {backend!r}")


def cores(backend: str = "local", address: str | None = None) -> int:
    """How many cores a backend has; the arguments and errors are those of `spread`."""
    require_backend(backend, address)
    if backend == "ray":
        from attractor import cluster

        return cluster.cores(address)
    return os.cpu_count() or 1


def _then_forget(work: Callable[[Item], Result], item: Item) -> Result:
    """Drop the compiled programs after each piece.

    Linux lets a process map 65,530 regions, each program takes some, and XLA crashes at the limit.
    """
    try:
        return work(item)
    finally:
        jax.clear_caches()


def _worked(
    work: Callable[[Item], Result], items: Iterable[Item], jobs: int
) -> Iterator[tuple[Item, "Future[Result]", str]]:
    """Each item with its future, which is done, and how its process ended, "" if it did not."""
    queue, workers = iter(items), []
    busy: dict[Future[Result], tuple[Item, _Worker]] = {}
    try:
        for item in islice(queue, jobs):
            workers.append(worker := _Worker())
            busy[worker.submit(work, item)] = item, worker
        while busy:
            for future in wait(busy, return_when=FIRST_COMPLETED).done:
                item, worker = busy.pop(future)
                ended = worker.ended(future)
                for more in islice(queue, 1):  # before anybody looks at what is done
                    busy[worker.submit(work, more)] = more, worker
                yield item, future, ended
    finally:  # after an interruption, nothing new begins
        for worker in workers:
            worker.stop()


class _Worker:
    """A process that has one item at a time, so that it is known which one ended it; then it is started anew."""

    def __init__(self) -> None:
        self._start()

    def _start(self) -> None:
        self._context = _Remembering()
        self._pool = ProcessPoolExecutor(1, mp_context=self._context, initializer=_end_with_parent)
        self._began = self._pool.submit(os.getpid)

    def submit(self, work: Callable[[Item], Result], item: Item) -> "Future[Result]":
        try:
            return self._pool.submit(work, item)
        except BrokenProcessPool:
            self._start()
            return self._pool.submit(work, item)

    def ended(self, future: Future) -> str:
        """How the process ended on what it was to do; "" if it did not, or had not even begun."""
        if not isinstance(future.exception(), BrokenProcessPool) or self._began.exception() is not None:
            return ""
        self.stop()
        code = self._context.started[-1].exitcode or 0
        if code >= 0:
            return f"exit code {code}"
        name = next((s.name for s in signal.Signals if s == -code), f"signal {-code}")
        return f"{name}, out of memory perhaps" if name == "SIGKILL" else name

    def stop(self) -> None:
        self._pool.shutdown(cancel_futures=True)


class _Remembering(SpawnContext):
    """Knows the processes that it started: an executor does not say how its own ended."""

    def __init__(self) -> None:
        super().__init__()
        self.started: list[SpawnProcess] = []

    def Process(self, *args: Any, **kwargs: Any) -> SpawnProcess:  # pyright: ignore[reportIncompatibleVariableOverride]
        self.started.append(process := SpawnProcess(*args, **kwargs))
        return process


def _end_with_parent() -> None:
    parent = parent_process()
    assert parent is not None  # this runs in workers only

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
