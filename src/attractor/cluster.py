"""Units of work on a Ray cluster: this machine's cores by themselves, or the nodes of a cluster that runs already.

A unit whose worker or node is lost runs again elsewhere. Units are pure functions of their item, and run in processes
that are set up as this one is, so that what comes back is what this process would have computed, to the last bit where
the machines are alike.
"""

import hashlib
import inspect
import logging
import os
import socket
import sys
import sysconfig
import time
from collections.abc import Callable, Iterable, Iterator
from enum import Enum
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

import attractor
from attractor.extras import command, needs

Item = TypeVar("Item")
Result = TypeVar("Result")

STARTING = 28.0  # seconds from the call until every node has to have answered; $ATTRACTOR_STARTING changes it
AGAIN = 3  # times that a unit is begun anew after its process or its node was lost
PATIENCE = 10.0  # seconds to wait for an address to answer
GREETING = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])  # which Ray's servers answer alike
SETTINGS = (
    "JAX_",
    "XLA_",
    "PJRT_",
    "OPENBLAS_",
    "OMP_",
    "ATTRACTOR_",
)  # of the environment: they decide what is computed
CONFIGURED = (
    "jax_enable_x64",
    "jax_numpy_dtype_promotion",
    "jax_numpy_rank_promotion",
    "jax_default_matmul_precision",
    "jax_default_prng_impl",
    "jax_threefry_partitionable",
    "jax_random_seed_offset",
    "jax_debug_nans",
    "jax_debug_infs",
    "jax_disable_jit",
    "jax_optimization_level",
    "jax_exec_time_optimization_effort",
    "jax_num_cpu_devices",
    "jax_platforms",
)  # of JAX's settings that a program may change: those that decide what is computed
SAME = ("jax", "jaxlib", "numpy")  # versions that have to agree


def spread(
    work: Callable[[Item], Result],
    items: Iterable[Item],
    address: str | None = None,
    cpus: float = 1.0,
    alike: bool = False,
    lost: Callable[[Item, str], Result] | None = None,
) -> Iterator[tuple[Item, Result]]:
    """Do the work on every item on a Ray cluster, and yield each item with its result, as results come.

    Arguments:
        work: A pure function of one item; it, its items and its results travel by cloudpickle.
        items: What to work on.
        address: ``host:port`` of a running cluster (``ray start --head`` prints it); default: ``$RAY_ADDRESS``, else a
            cluster of this machine's cores, which ends with this process.
        cpus: Cores that a unit takes, above 0.
        alike: Whether a process unpacks the work once, and keeps its compiled programs from one item to the next.
        lost: What an item gives that has lost its process four times, wherever it ran: ``lost(item, how it ended)``.
            Default: an error.

    Raises:
        RuntimeError: if an item has lost its process four times and there is no ``lost``.
        ConnectionError: if no cluster answers at the address, or one of its nodes does not, within 30 seconds.
        ValueError: if no node is large enough for a unit, or a node lacks the package, or has other versions of it or
            of JAX.
        MissingExtra: without Ray, the extra ``attractor[ray]``.
    """
    until = time.monotonic() + _starting()
    with needs("ray"):
        import ray
        from ray.cloudpickle import dumps, register_pickle_by_value  # pyright: ignore[reportAttributeAccessIssue]
    how = {"env_vars": settings()}
    ours = _connect(address, how)
    _fits(ray.nodes(), cpus)
    if not ours:  # what we have started runs this very Python
        require_alike(ray, how, until)

    for module in _own_modules():
        register_pickle_by_value(module)

    # Ray runs a unit again when its process or node is lost; what the work raises is not retried.
    remote = ray.remote(num_cpus=cpus, max_retries=AGAIN, runtime_env=how)
    unit, packed = remote(_unit_alike if alike else _unit), dumps(work)
    task, digest = ray.put(packed), hashlib.sha256(packed).hexdigest()
    queue = iter(items)
    width = max(2 * int(_cores(ray) / cpus), 2)  # enough that no core waits for the next
    waiting = {unit.remote(digest, task, item): item for item in islice(queue, width)}
    try:
        while waiting:
            (done, *_), _ = ray.wait(list(waiting), num_returns=1)
            item = waiting.pop(done)
            for more in islice(queue, 1):
                waiting[unit.remote(digest, task, more)] = more
            yield item, _result(ray, done, item, lost)
    finally:  # after an interruption, nothing new begins
        for left in waiting:
            ray.cancel(left, force=True)


def cores(address: str | None = None) -> int:
    """How many cores a cluster has; the arguments and errors are those of `spread`."""
    with needs("ray"):
        import ray
    _connect(address, {"env_vars": settings()})
    return int(_cores(ray))


def _cores(ray: Any) -> float:
    return ray.cluster_resources().get("CPU", 1)


def _result(ray: Any, done: Any, item: Item, lost: Callable[[Item, str], Result] | None) -> Any:
    errors = ray.exceptions
    try:
        return ray.get(done)
    except errors.RayTaskError as error:
        if isinstance(cause := getattr(error, "cause", None), Exception):
            raise cause from error  # as it was raised there: without a traceback in its words
        raise
    except (errors.WorkerCrashedError, errors.NodeDiedError, errors.OutOfMemoryError) as error:
        kinds = {errors.OutOfMemoryError: "out of memory", errors.NodeDiedError: "its node was lost"}
        how = f"{kinds.get(type(error), 'killed or crashed, out of memory perhaps')}, {AGAIN + 1} times on the cluster"
        if lost is not None:
            return lost(item, how)
        raise RuntimeError(f"a unit's process ended without a result: {how}; its item is {item!r}") from error


def _unit(digest: str, packed: bytes, item: Any) -> Any:
    from ray.cloudpickle import loads

    return loads(packed)(item)


_kept: tuple[str, Callable[[Any], Any]] | None = None  # of a process that works: the work it did last


def _unit_alike(digest: str, packed: bytes, item: Any) -> Any:
    """JAX knows a function again if it is the same object, and else would trace and compile for every unit."""
    global _kept
    from ray.cloudpickle import loads

    if _kept is None or _kept[0] != digest:
        import jax

        _kept = None
        jax.clear_caches()
        _kept = digest, loads(packed)
    return _kept[1](item)


def settings() -> dict[str, str]:
    """Of this process, what decides what is computed, as environment variables."""
    found = {k: v for k, v in os.environ.items() if k.startswith(SETTINGS)}
    if not {"OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"} & found.keys():
        # Ray would set the latter to 1: decompositions by one thread differ from those by several in their last bits.
        every = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)
        found["OPENBLAS_NUM_THREADS"] = str(len(every))
    if (jax := sys.modules.get("jax")) is not None:  # else the environment says it all
        set_here = {name: getattr(jax.config, name, None) for name in CONFIGURED}
        plain = {k: v.value if isinstance(v, Enum) else v for k, v in set_here.items() if v is not None}
        found |= {name.upper(): str(value) for name, value in plain.items()}
    return found


_started: str | None = None  # where the cluster is that this process has started


def _connect(address: str | None, how: dict[str, Any]) -> bool:
    """Join the cluster at the address, or start one; whether it is one that this process started."""
    import ray

    global _started
    if ray.is_initialized():
        return ray.get_runtime_context().gcs_address == _started
    address = address or os.environ.get("RAY_ADDRESS", "local")  # without either, Ray would join any that runs here
    if address not in ("local", "auto"):
        _answers(address)
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    ray.init(
        address,
        include_dashboard=False if address == "local" else None,
        log_to_driver=False,
        logging_level=logging.ERROR,
        runtime_env=how,
    )
    if address == "local":
        _started = ray.get_runtime_context().gcs_address
    return address == "local"


def _answers(address: str) -> None:
    """Ask before Ray does, which waits for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not (host and port.isdigit()):
        raise ValueError(f"address: expected host:port of a running cluster, got {address!r}")
    try:
        with socket.create_connection((host, int(port)), timeout=PATIENCE) as line:
            if os.environ.get("RAY_USE_TLS", "0") == "0":
                line.sendall(GREETING)
                if line.makefile("rb").read(9)[3:4] != b"\x04":
                    raise OSError("what answers there is something else")
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


def require_alike(ray: Any, how: dict[str, Any], until: float) -> None:
    """Refuse a node that does not answer, or that has other versions than this process: results would differ.

    What is asked imports neither JAX nor anything that is not on the node, so that a process that is slow to import
    them is not taken for one that never started.

    Arguments:
        ray: The library.
        how: A runtime environment, that of the units: the process that answers will work, too.
        until: By `time.monotonic`, when every node has to have answered.
    """
    here = versions()
    nodes = [node for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU", 0) > 0]
    strategy = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy
    ask = ray.remote(num_cpus=0, runtime_env=how)(_found())
    asked = {
        ask.options(scheduling_strategy=strategy(node["NodeID"], soft=False)).remote(tuple(here)[1:]): node
        for node in nodes
    }
    answered, silent = ray.wait(
        list(asked), num_returns=len(asked), timeout=max(until - time.monotonic(), 1.0), fetch_local=False
    )
    for there in answered:
        name = _name(asked[there])
        try:
            python, found = ray.get(there)
        except (ray.exceptions.TaskUnschedulableError, ray.exceptions.NodeDiedError):
            continue  # it has just gone; the others do its work
        except ray.exceptions.RayError as error:
            reason = str(error).strip().splitlines()[-1]
            raise ValueError(f"address: no unit can run on node {name} ({reason}); `ray status` says more") from error
        if lacking := [package for package in here if found.get(package) is None]:
            install = command("ray", here["attractor"])
            raise ValueError(
                f"address: node {name} has no {' and no '.join(lacking)} for its Python, {python}; there, "
                f"{install} in that environment, or start the node from one that has it"
            )
        if found != here:
            raise ValueError(f"address: node {name} has {_said(found)}, here is {_said(here)}; install the same ones")
    if silent:
        names = ", ".join(_name(asked[there]) for there in silent)
        raise ConnectionError(
            f"address: no process has started on node {names} for {_starting():.0f} seconds; `ray status` and the logs "
            "there, in /tmp/ray/session_latest/logs, say more; if it is only busy, ATTRACTOR_STARTING=120 waits longer"
        )


def _starting() -> float:
    return float(os.environ.get("ATTRACTOR_STARTING", STARTING))


def _name(node: dict[str, Any]) -> str:
    return f"{node.get('NodeManagerHostname') or node['NodeID']} ({node.get('NodeManagerAddress')})"


def _found() -> Callable[[tuple[str, ...]], tuple[str, dict[str, str | None]]]:
    """A function that travels as it is, not by a name to be imported: it has to work where attractor is not."""

    def found(packages: tuple[str, ...]) -> tuple[str, dict[str, str | None]]:
        import sys
        from importlib import import_module, metadata

        versions: dict[str, str | None] = {}
        try:
            versions["attractor"] = getattr(import_module("attractor"), "__version__", None)  # imports nothing else
        except ImportError:
            versions["attractor"] = None
        for name in packages:
            try:
                versions[name] = metadata.version(name)
            except metadata.PackageNotFoundError:
                versions[name] = None
        return sys.executable, versions

    return inspect.unwrap(found)  # of what checks its types, which cannot travel


def versions() -> dict[str, str]:
    """Of what decides the numbers."""
    return {"attractor": attractor.__version__, **{name: version(name) for name in SAME}}


def _said(found: dict[str, Any]) -> str:
    return ", ".join(f"{name} {number}" for name, number in found.items())
