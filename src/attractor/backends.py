"""Where independent pieces of work run: one after another in this process, in several processes, or on a cluster."""

import os
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import partial
from multiprocessing import get_context, parent_process
from typing import TypeVar

import jax

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
) -> Iterator[tuple[Item, Result]]:
    """Do the work on every item and yield each item with its result, as results come.

    Arguments:
        work: A function of one item; with several jobs it and its items must be picklable.
        items: What to work on; with one job, in this order.
        jobs: Processes at a time, at least 1. They end with this process, however it ends. A cluster has as many as it
            has cores.
        backend: ``"local"``, or ``"ray"`` for a Ray cluster, see `attractor.cluster.spread`.
        address: Of a running cluster, with ``"ray"``.

    Raises:
        ValueError: for ``jobs`` below 1, an unknown backend, or an address without ``"ray"``.
    """
    if jobs < 1:
        raise ValueError(f"jobs: expected an integer >= 1, got {jobs}")
    if backend not in BACKENDS:
        raise ValueError(f"backend: expected one of {', '.join(BACKENDS)}, got {backend!r}")
    if address is not None and backend != "ray":
        raise ValueError(f"address: only backend='ray' has one, got {address!r} with {backend!r}")
    alone = partial(_then_forget, work)
    if backend == "ray":
        from attractor import cluster

        yield from cluster.spread(alone, items, address)
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
