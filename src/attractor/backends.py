"""Where independent pieces of work run: one after another in this process, or in several processes."""

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


def spread(work: Callable[[Item], Result], items: Iterable[Item], jobs: int = 1) -> Iterator[tuple[Item, Result]]:
    """Do the work on every item and yield each item with its result, as results come.

    Arguments:
        work: A function of one item; with several jobs it and its items must be picklable.
        items: What to work on; with one job, in this order.
        jobs: Processes at a time, at least 1. They end with this process, however it ends.

    Raises:
        ValueError: for ``jobs`` below 1.
    """
    if jobs < 1:
        raise ValueError(f"jobs: expected an integer >= 1, got {jobs}")
    alone = partial(_then_forget, work)
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
