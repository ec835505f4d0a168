"""Units of work on a Ray cluster: this machine's cores by themselves, or the nodes of a cluster that runs already.

A unit whose worker or node is lost runs again elsewhere. Units are pure functions of their item, and run in processes
that are set up as this one is, so that what comes back is what this process would have computed, to the last bit where
the machines are alike.
"""

import logging
import os
import socket
import sys
import sysconfig
from collections.abc import Callable, Iterable, Iterator
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

import attractor
from attractor.extras import needs

Item = TypeVar("Item")
Result = TypeVar("Result")

STARTING = 60.0  # seconds for the first process of a node to start
PATIENCE = 10.0  # seconds to wait for an address to answer
SETTINGS = (
    "JAX_",
    "XLA_",
    "PJRT_",
    "OPENBLAS_",
    "OMP_",
    "ATTRACTOR_",
)  # of the environment: they decide what is computed
SAME = ("jax", "jaxlib", "numpy")  # versions that have to agree


def spread(
    work: Callable[[Item], Result], items: Iterable[Item], address: str | None = None, cpus: float = 1.0
) -> Iterator[tuple[Item, Result]]:
    """Do the work on every item on a Ray cluster, and yield each item with its result, as results come.

    Arguments:
        work: A pure function of one item; it, its items and its results travel by cloudpickle.
        items: What to work on.
        address: ``host:port`` of a running cluster (``ray start --head`` prints it); default: ``$RAY_ADDRESS``, else a
            cluster of this machine's cores, which ends with this process.
        cpus: Cores that a unit takes, above 0.

    Raises:
        ConnectionError: if no cluster answers at the address, within seconds.
        ValueError: if no node is large enough for a unit, or a node has other versions of the package or of JAX.
        MissingExtra: without Ray, the extra ``attractor[ray]``.
    """
    with needs("ray"):
        import ray
        from ray.cloudpickle import register_pickle_by_value
    _connect(address)
    _fits(ray.nodes(), cpus)
    alike(ray)

    for module in _own_modules():
        register_pickle_by_value(module)

    # Ray runs a unit again when its process or node is lost, as often as it takes; what the work raises is not retried.
    unit, task = ray.remote(num_cpus=cpus, max_retries=-1)(_unit), ray.put(work)
    queue = iter(items)
    width = max(2 * int(ray.cluster_resources().get("CPU", 1) / cpus), 2)  # enough that no core waits for the next
    waiting = {unit.remote(task, item): item for item in islice(queue, width)}
    try:
        while waiting:
            (done, *_), _ = ray.wait(list(waiting), num_returns=1)
            item = waiting.pop(done)
            for more in islice(queue, 1):
                waiting[unit.remote(task, more)] = more
            yield item, ray.get(done)
    finally:  # after an interruption, nothing new begins
        for left in waiting:
            ray.cancel(left, force=True)


def _unit(work: Callable[[Item], Result], item: Item) -> Result:
    return work(item)


def _connect(address: str | None) -> None:
    import ray

    if ray.is_initialized():
        return
    address = address or os.environ.get("RAY_ADDRESS", "local")  # without either, Ray would join any that runs here
    if address not in ("local", "auto"):
        _answers(address)
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    settings = {k: v for k, v in os.environ.items() if k.startswith(SETTINGS)}
    ray.init(
        address,
        include_dashboard=False if address == "local" else None,
        log_to_driver=False,
        logging_level=logging.ERROR,
        runtime_env={"env_vars": settings},
    )


def _answers(address: str) -> None:
    """Ask before Ray does, which waits for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not (host and port.isdigit()):
        raise ValueError(f"address: expected host:port of a running cluster, got {address!r}")
    try:
        socket.create_connection((host, int(port)), timeout=PATIENCE).close()
    except OSError as error:
        raise ConnectionError(
            f"address: no Ray cluster answers at {address} ({error}); `ray start --head` starts one and says its own"
        ) from error


def _own_modules() -> list[ModuleType]:
    """Modules of the user's own files, which other machines need not have: they travel with the work."""
    installed = {Path(p).resolve() for p in (sys.prefix, sys.base_prefix, *sysconfig.get_paths().values())}
    found = []
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if file is None or name.partition(".")[0] in ("attractor", "ray", "__main__"):
            continue
        if not installed & set(Path(file).resolve().parents):
            found.append(module)
    return found


def _fits(nodes: list[dict[str, Any]], cpus: float) -> None:
    if cpus <= 0:
        raise ValueError(f"cpus: expected a number > 0, got {cpus}")
    largest = max((n["Resources"].get("CPU", 0.0) for n in nodes if n["Alive"]), default=0.0)
    if largest < cpus:
        raise ValueError(f"cpus: a unit takes {cpus:g} cores, and the largest node of the cluster has {largest:g}")


def alike(ray: Any) -> None:
    """Refuse a node that has other versions than this process: results would differ, or there would be none."""
    here = versions()
    nodes = [node for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU", 0) > 0]
    strategy = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy
    ask = ray.remote(num_cpus=0)(versions)
    asked = [ask.options(scheduling_strategy=strategy(node["NodeID"], soft=False)).remote() for node in nodes]
    for node, there in zip(nodes, asked, strict=True):
        name = node.get("NodeManagerHostname") or node["NodeID"]
        try:
            found = ray.get(there, timeout=STARTING)
        except (ray.exceptions.TaskUnschedulableError, ray.exceptions.NodeDiedError):
            continue  # it has just gone; the others do its work
        except (ImportError, ray.exceptions.RayError) as error:
            reason = str(error).strip().splitlines()[-1]
            raise ValueError(f"address: attractor does not run on node {name} ({reason}); install it there") from error
        if found != here:
            raise ValueError(f"address: node {name} has {_said(found)}, here is {_said(here)}; install the same ones")


def versions() -> dict[str, str]:
    """Of what decides the numbers."""
    return {"attractor": attractor.__version__, **{name: version(name) for name in SAME}}


def _said(found: dict[str, str]) -> str:
    return ", ".join(f"{name} {number}" for name, number in found.items())
