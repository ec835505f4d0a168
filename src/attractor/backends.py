"""Where independent pieces of work run: one after another in this process, in several processes, or on a cluster."""

import os
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import partial
from multiprocessing import get_context, parent_process
from typing import TypeVar

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

    Raises:
        ValueError: for ``jobs`` below 1, an unknown backend, or an address without ``"ray"``.
    """
    if jobs < 1:
        raise ValueError(f"jobs: expected an integer >= 1, got {jobs}")
    require_backend(backend, address)
    alone = partial(_then_forget, work)
    if backend == "ray":
        from attractor import cluster

        yield from cluster.spread(work if alike else alone, items, address, alike=alike)
        return
    if jobs == 1:
        yield from ((item, alone(item)) for item in items)
        return
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn"), initializer=_end_with_parent) as pool:
        waiting = {pool.submit(alone, item): item for item in items}
        try:
            for done in as_completed(waiting):
                yield waiting[done], done.result()
        except BaseException:  # after an interruption, nothing new begins
            pool.shutdown(wait=False, cancel_futures=True)
            raise


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


def _end_with_parent() -> None:
    parent = parent_process()
    assert parent is not None  # this runs in workers only

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
