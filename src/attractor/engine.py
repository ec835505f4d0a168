"""The loop: written once, compiled once, for every method, problem, sweep and seed.

A *lane* is one configuration under one seed. One program advances all lanes by a few recording intervals; a Python
loop calls it until the last step, and between two calls shows progress and writes a checkpoint. Step t of a lane
draws its randomness from ``fold_in(seed's key, t)``, so the result does not depend on where the loop was cut.
"""

import contextlib
import functools
import itertools
import operator
import os
import re
import time
import warnings
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jax import lax
from jax.extend.core.primitives import convert_element_type_p
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Int, PyTree

from attractor import progress as _progress
from attractor.backends import carry, cores, require_backend
from attractor.checkpoint import Checkpoint, CheckpointError, folder_of
from attractor.method import Method, as_method, name_of, require
from attractor.places import Place
from attractor.probe import Probe, as_probe
from attractor.problem import Problem
from attractor.trace import Timing, Trace, build
from attractor.transformations import Transformation, is_transformation

FINITE = "__finite__"  # recorded beside the probes: are all of x's numbers finite?
RESERVED = {"config", "seed", "step", "diverged_at", FINITE}  # names in a trace that no probe may have
ROOM = 100  # so many times what they hold and read is free: then lanes are not asked what they need to work
STEPS_PER_CALL = 64  # at least so many steps a program call, which hides the cost of calling from Python

Config = Mapping[str, Any]
Sweep = Mapping[str, Sequence[Any]] | Sequence[Config]


def run(
    problem: Problem,
    method: Method | Transformation | Callable[..., Any],
    *,
    steps: int | np.integer,
    seeds: int | np.integer | Sequence[int] = 1,
    sweep: Sweep | None = None,
    probes: Mapping[str, Any] | None = None,
    every: int | np.integer | None = None,
    lanes: int | np.integer | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    progress: bool | None = None,
    static: Sequence[str] = (),
    sharding: PyTree = None,
    backend: str = "local",
    address: str | None = None,
) -> Trace:
    """Iterate ``method`` on ``problem`` for every configuration and seed, and record the probes.

    Arguments:
        problem: What to solve.
        method: A `Method`, any optax transformation, or, with ``sweep``, a function of hyper-parameters making one.
        steps: Iterations per lane, at least 1.
        seeds: A number n (meaning seeds 0 … n-1) or the seeds themselves. Seeds are shared by all configurations.
        sweep: ``{"learning_rate": [0.1, 0.01]}`` (all combinations) or a list of configurations
            ``[{"learning_rate": 0.1}, …]``. Floats are continuous: one program serves all their values. Anything else
            (integers, strings, functions) is structural: each distinct combination compiles a program of its own.
        probes: Measurements by name, each a `Probe` or a function ``(problem, x, key) -> array``; default: the
            problem's own. With a fourth argument, the function gets the method's state too.
        every: Steps between recordings; default: about 100 recordings. Step 0 and the last step are always recorded.
        lanes: Run at most so many lanes at a time, in programs of exactly that width; default: all at once, or as many
            as fit into the memory that is free. With ``lanes``, calls that differ in their numbers of configurations
            and seeds share one compiled program.
        checkpoint: A folder, or any fsspec URL of one. State is saved there after every program call, on a cluster when
            a program has ended; the same call again resumes from it, here or there, and gives the very same trace. With
            more ``steps`` and the same ``every``, a run goes on from where it ended.
        progress: Show a progress bar on standard error; `None`: if that is a terminal and it takes over two seconds.
        static: Names of floats in ``sweep`` to treat as structural all the same, because Python code branches on their
            values, as the peak of `optax.warmup_cosine_decay_schedule` does.
        sharding: On which devices a large iterate lies: a `jax.sharding.NamedSharding` for all of its arrays, or a tree
            of them like the iterate, `None` where an array is not split. What the method's state keeps in the shape of
            the iterate is split alike, within each lane; data lie where they were put by `jax.device_put`. Without
            it, configurations are spread over all devices.
        backend: ``"local"``, or ``"ray"``: each program is a unit of work on a Ray cluster, and the trace is the local
            one's, bit for bit where the machines are alike. The width of a program changes its last bits, so the
            cluster does not choose it: a program is as wide as it would be here, all lanes that share their structural
            hyper-parameters. To spread those over cores, say how wide with ``lanes``, here as there.
        address: ``host:port`` of a running cluster; default: this machine's cores. See `attractor.cluster.spread`.

    Returns:
        A `Trace` with dims ``config``, ``seed``, ``step``.

    Raises:
        TypeError: if the method does not fit the problem, or is none; if a swept float has to be ``static``.
        ValueError: for an argument out of range, a probe with the name of an axis, or a hyper-parameter that the method
            refuses.
        ConnectionError: if no cluster answers at the address; for others of a cluster, see `attractor.cluster.spread`.
        CheckpointError: if ``checkpoint`` holds the state of another run, or a damaged file.
        MissingExtra: without the package that serves a URL, or without Ray.
        MemoryError: if so many ``lanes`` at a time need more memory than is free, or if one does; it says how many
            would fit.
    """
    for name, count in (("steps", steps), ("every", every), ("lanes", lanes)):
        if count is not None and (not isinstance(count, int | np.integer) or count < 1):
            raise ValueError(f"{name}: expected a whole number >= 1, got {count!r}")
    # NumPy's integers cannot be written into a file's header.
    steps, lanes = int(steps), None if lanes is None else int(lanes)
    require_backend(backend, address)
    if backend != "local" and sharding is not None:
        raise ValueError(f"sharding: not with backend={backend!r}, whose units are whole; leave out one of the two")
    make, configs = _factory(method, sweep), _configurations(sweep)
    if isinstance(static, str) or not set(static) <= set(configs[0]):
        raise ValueError(f"static: expected a list of names among {sorted(configs[0])}, got {static!r}")
    seed_list = _seeds(seeds)
    for config in configs:  # once in plain Python, where a bad value can still be named
        require(problem, as_method(make(**config)))
    measured = {k: as_probe(p) for k, p in (problem.probes if probes is None else probes).items()}
    if not measured:
        raise ValueError("probes: there is nothing to record; pass probes={'name': function, …}")
    if taken := RESERVED & set(measured):
        raise ValueError(f"probes: {sorted(taken)[0]!r} is the name of an axis or of a record; rename the probe")
    if taken := (RESERVED | set(measured)) & set(configs[0]):
        raise ValueError(f"sweep: {sorted(taken)[0]!r} is also the name of an axis or of a probe; rename the probe")
    every = min(int(every or max(steps // 100, 1)), steps)
    split = None if sharding is None else _shardings(problem, sharding)
    _keep_compiled_programs()
    folder = None if checkpoint is None else folder_of(checkpoint)

    jobs = _jobs(make, configs, seed_list, lanes, frozenset(static))
    work = _Work(problem, make, measured, steps, every, lanes, split)
    # On a cluster nothing of JAX runs in this process, and Ctrl-C is heard where it waits.
    calm = _progress.interruptible() if backend == "local" else contextlib.nullcontext()
    with calm, _progress.task(name_of(method), steps * len(jobs), "step", progress) as advance:
        if backend == "local":
            done = [pair for i, job in enumerate(jobs) for pair in _complete(work, job, str(i), folder, advance)]
        else:
            done = _far(work, jobs, folder, backend, address, advance)
    jobs, results = [job for job, _ in done], [result for _, result in done]
    trace = _assemble(problem, method, configs, seed_list, jobs, results, list(measured), steps, every)
    for name, probe in measured.items():
        trace.dataset[name].attrs["goal"] = probe.goal
    return trace


class _Job(NamedTuple):
    """One program: configurations that share their structural hyper-parameters, and their seeds."""

    make: Callable[..., Any]
    structural: dict[str, Any]
    continuous: dict[str, np.ndarray]  # each (C,)
    seeds: Int[np.ndarray, "..."]  # (S,) when shared by all configurations, (C, 1) when each lane has its own
    places: list[tuple[int, int]]  # (config, seed) of each lane in C order; shorter than the lanes if some are padding


class _Work(NamedTuple):
    """What all programs of a run share."""

    problem: Problem
    make: Callable[..., Any]
    probes: dict[str, Probe]
    steps: int
    every: int
    lanes: int | None
    sharding: tuple[NamedSharding | None, ...] | None


class _Result(NamedTuple):
    at: list[int]  # the recorded steps
    values: dict[str, np.ndarray]  # each (lanes, records, …)
    final: PyTree  # leaves (lanes, …)
    timing: Timing


class _Setup(eqx.Module):
    """What a program reads and does not change."""

    problem: Problem
    make: Callable[..., Any]
    structural: dict[str, Any]
    continuous: dict[str, Array]
    probes: dict[str, Probe]
    seeds: Array
    lane: Array  # (C,), only its length matters: it says how many configurations there are
    sharding: tuple[NamedSharding | None, ...] | None = None  # of the iterate's arrays


def _complete(
    work: _Work, job: _Job, part: str, folder: Place | None, advance: Callable[[float], None], share: float = 1.0
) -> list[tuple[_Job, _Result]]:
    """Run a job, in pieces that fit if memory is too small for the whole; ``share`` of its steps are told."""
    saved = None if folder is None else Checkpoint(folder / f"part-{part}.ckpt")
    spent = 0.0

    def told(steps: float) -> None:
        nonlocal spent
        spent += share * steps
        advance(share * steps)
        _progress.stop_if_asked()

    try:
        args = (work.problem, job, work.probes, work.steps, work.every, saved, told, work.sharding)
        return [(job, _execute(*args))]
    except jax.errors.ConcretizationTypeError as error:
        raise _name_the_static(work.problem, job, error) from error
    except (_TooWide, jax.errors.JaxRuntimeError) as error:
        width = len(job.seeds) if job.seeds.ndim == 2 else len(job.places)
        refused = error if isinstance(error, _TooWide) else _exhausted(error, width)
        if refused is None:
            raise
        if work.lanes is not None or width == 1:
            raise MemoryError(str(refused)) from error
        fits = refused.fits
    # Not in the handler, whose traceback would keep the arrays of what failed in memory.
    advance(-spent)
    pieces = _pieces(job, fits)
    told_of = share / len(pieces)
    return [
        pair
        for i, piece in enumerate(pieces)
        for pair in _complete(work, piece, f"{part}-{fits}-{i}", folder, advance, told_of)
    ]


def _far(
    work: _Work,
    jobs: list[_Job],
    folder: Place | None,
    backend: str,
    address: str | None,
    advance: Callable[[float], None],
) -> list[tuple[_Job, _Result]]:
    """Run jobs as units of a cluster."""
    if work.lanes is None:
        _warn_of_few(jobs, cores(backend, address))
    items = ((str(i), job._replace(make=_same)) for i, job in enumerate(jobs))  # what makes methods travels once
    found = {}
    for part, done in carry(
        functools.partial(_unit, work), items, folder, _is_of, backend=backend, address=address, alike=True
    ):
        found[part] = done
        advance(work.steps)
    return [pair for i in range(len(jobs)) for pair in found[str(i)]]


def _unit(work: _Work, part: str, job: _Job, folder: Place | None) -> list[tuple[_Job, _Result]]:
    """What a process of a cluster does."""
    _keep_compiled_programs()
    done = _complete(work, job._replace(make=work.make), part, folder, lambda steps: None)
    return [(job._replace(make=_same), result) for job, result in done]


def _is_of(part: str, name: str) -> bool:
    """Whether a checkpoint's file is of a part of the run, or of a piece of that."""
    return re.fullmatch(rf"part-{part}(-\d+)*\.ckpt", name) is not None


def _warn_of_few(jobs: list[_Job], cores: int) -> None:
    lanes = sum(len(job.places) for job in jobs)
    if len(jobs) < min(cores, lanes):
        wide = -(-lanes // cores)
        warnings.warn(
            f"lanes: {len(jobs)} programs for {cores} cores, {lanes} lanes in all; lanes={wide} spreads them over the "
            f"cores, with the bits of lanes={wide} here",
            stacklevel=4,
        )


def _execute(
    problem: Problem,
    job: _Job,
    probes: dict[str, Probe],
    steps: int,
    every: int,
    checkpoint: Checkpoint | None,
    advance: Callable[[float], None],
    sharding: tuple[NamedSharding | None, ...] | None = None,
) -> _Result:
    width = len(job.seeds) if job.seeds.ndim == 2 else len(job.places) // len(job.seeds)
    split, whole = _placement(width) if sharding is None else (lambda tree: tree, _where_it_is)
    setup = _Setup(
        problem=whole(problem),
        make=whole(job.make),
        structural=job.structural,
        continuous=split({k: jnp.asarray(v, dtype=float) for k, v in job.continuous.items()}),
        probes=whole(probes),
        seeds=(split if job.seeds.ndim == 2 else whole)(jnp.asarray(job.seeds)),
        lane=split(jnp.arange(width)),
        sharding=sharding,
    )
    carry = split(_starter(jax.default_backend())(setup))
    at = [*range(0, steps, every), steps]
    stride = min(max(STEPS_PER_CALL // every, 1), len(at))
    call = (jnp.asarray(every), jnp.asarray(steps))
    first = resumed = 0
    recorded: list[dict[str, Any]] = []
    timing = Timing()

    if checkpoint is not None:
        # As if it made one record a call, and without its length: a longer run of this kind goes on from here.
        program = _lower(_advance, (setup, jnp.asarray(0), *call, 1), carry).as_text()
        checkpoint.identify(program, jax.tree.leaves(setup))
        if (state := checkpoint.load(carry)) is not None:
            first = resumed = state.next_record
            if state.at[:first] != at[:first]:
                was, now = (f"{a[-1]} steps recorded every {a[1]}" for a in (state.at, at))
                raise CheckpointError(
                    f"checkpoint: {checkpoint.path} belongs to another run, of {was}, not {now}; a run is extended by "
                    "more steps= with the same every=, if that divides its length; else choose another folder"
                )
            carry = jax.tree.map(
                lambda new, old: jax.device_put(new, old.sharding) if eqx.is_array(old) else old, state.carry, carry
            )
            recorded = [{k: v[:, :, :first] for k, v in state.recorded.items()}]
            timing = Timing(**state.timing)
            advance(at[min(first, len(at)) - 1])

    program, types, lanes = None, None, width * job.seeds.shape[-1]
    while first < len(at):
        begun = time.perf_counter()
        arguments = (setup, jnp.asarray(first), *call, stride), carry
        if first == resumed and lanes > 1:
            _require_memory(*arguments, calls=len(range(first, len(at), stride)), lanes=lanes)
        found = [(a.aval, a.sharding) for a in jax.tree.leaves(carry) if isinstance(a, jax.Array)]
        if program is None or found != types:  # those of a first carry, and of what the program makes of it
            program, types = _program(*arguments), found
        carry, values = program(*arguments)
        _wait(values)
        if checkpoint is not None:
            recorded = [_join([*recorded, jax.device_get(values)])]
        else:
            recorded.append(values)
        done = at[min(first + stride, len(at)) - 1] - (at[first - 1] if first else 0)
        timing = timing.add(time.perf_counter() - begun, done, lanes, compiling=first == resumed)
        if checkpoint is not None:
            checkpoint.save(carry, recorded[0], min(first + stride, len(at)), vars(timing), at)
        advance(done)
        first += stride
    begun = time.perf_counter()
    values = _join(jax.device_get(recorded))
    timing = timing.wait(time.perf_counter() - begun)
    # (C, S, …) -> lanes; every call records `stride` times, the last one past the end: those repeat the last step.
    flat = {k: v.reshape(-1, *v.shape[2:])[: len(job.places), : len(at)] for k, v in values.items()}
    final = jax.tree.map(lambda a: np.asarray(a).reshape(-1, *a.shape[2:])[: len(job.places)], _readout(setup, carry))
    return _Result(at, flat, final, timing)


def _method(setup: _Setup, hyper: dict[str, Array]) -> Method:
    # Weakly typed, as a Python float would be: a swept learning rate must not turn bfloat16 weights into float32.
    weak = {
        k: convert_element_type_p.bind(v, new_dtype=v.dtype, weak_type=True, sharding=None) for k, v in hyper.items()
    }
    return as_method(setup.make(**setup.structural, **weak))


def _over_lanes(function: Callable[..., Any], setup: _Setup, *carry: PyTree) -> Any:
    """``function(hyper, key, *carry)`` for all configurations and seeds at once: results ``(C, S, …)``."""
    own_seeds = setup.seeds.ndim == 2
    batched = tuple(eqx.if_array(0) for _ in carry)
    over_seeds = eqx.filter_vmap(lambda _, h, s, *c: function(h, s, *c), in_axes=(None, None, 0, *batched))
    over_configs = eqx.filter_vmap(over_seeds, in_axes=(0, 0, 0 if own_seeds else None, *batched))
    return over_configs(setup.lane, setup.continuous, setup.seeds, *carry)


def _keys(seed: Array) -> tuple[Array, Array, Array]:
    init, step, probe = jr.split(jr.key(seed), 3)
    return init, step, probe


@functools.cache
def _starter(backend: str) -> Any:
    """The program of `_start`, which runs once: LLVM would spend seconds on it otherwise, for the same values."""
    quickly = {"xla_backend_optimization_level": 1} if backend == "cpu" else None
    return eqx.filter_jit(_start, compiler_options=quickly)  # pyright: ignore[reportCallIssue]


def _start(setup: _Setup) -> PyTree:
    def lane(hyper: dict[str, Array], seed: Array) -> PyTree:
        key, *_ = _keys(seed)
        x = setup.problem.init(key)
        state = _method(setup, hyper).init(setup.problem, x, jr.fold_in(key, 1))
        # With its type fixed, or the program would be compiled again for the types after the first steps.
        carry = jax.tree.map(lambda a: jnp.asarray(a, jnp.result_type(a)) if eqx.is_array_like(a) else a, (x, state))
        moving, fixed = eqx.partition(carry, eqx.is_array)
        return eqx.combine(_sharded(moving, setup.sharding), fixed)

    return _over_lanes(lane, setup)


@eqx.filter_jit(donate="all-except-first")
def _advance(call: tuple[_Setup, Array, Array, Array, int], carry: PyTree) -> tuple[PyTree, dict[str, Array]]:
    """Records ``first … first + stride - 1``: run up to step r·every of record r, then measure."""
    setup, first, every, steps, stride = call

    def lane(hyper: dict[str, Array], seed: Array, carry: PyTree) -> tuple[PyTree, dict[str, Array]]:
        _, step_key, probe_key = _keys(seed)
        method = _method(setup, hyper)
        moving, fixed = eqx.partition(carry, eqx.is_array)

        def step(t: Array, moving: PyTree) -> PyTree:
            x, state = eqx.combine(moving, fixed)
            moved = method.step(setup.problem, x, state, jr.fold_in(step_key, t))
            return _sharded(eqx.filter(moved, eqx.is_array), setup.sharding)

        def record(moving: PyTree, index: Array) -> tuple[PyTree, dict[str, Array]]:
            begin, end = jnp.maximum(index - 1, 0) * every, jnp.minimum(index * every, steps)
            moving = lax.fori_loop(jnp.minimum(begin, steps), end, step, moving)
            inner, state = eqx.combine(moving, fixed)
            x = method.readout(inner, state)
            key = jr.fold_in(probe_key, index)
            values = {name: jnp.asarray(probe(setup.problem, x, key, state)) for name, probe in setup.probes.items()}
            leaves = jax.tree.leaves(eqx.filter(x, eqx.is_inexact_array))
            values[FINITE] = jnp.stack([jnp.isfinite(leaf).all() for leaf in leaves] or [jnp.asarray(True)]).all()
            return moving, values

        moving, values = lax.scan(record, moving, first + jnp.arange(stride))
        return eqx.combine(moving, fixed), values

    return _over_lanes(lane, setup, carry)


def _program(*arguments: Any) -> Any:
    """`_advance`, compiled: called as it is, it would be waited for in C (by Equinox), where Ctrl-C is not heard."""
    advance: Any = _advance
    return advance.lower(*arguments).compile()


@eqx.filter_jit
def _readout(setup: _Setup, carry: PyTree) -> PyTree:
    def lane(hyper: dict[str, Array], seed: Array, carry: PyTree) -> PyTree:
        return eqx.filter(_method(setup, hyper).readout(*carry), eqx.is_array)

    return _over_lanes(lane, setup, carry)


def _name_the_static(problem: Problem, job: _Job, error: Exception) -> Exception:
    """The error to raise where Python code branched on a traced value: it names the hyper-parameter, if it was one."""

    def fails(traced: Collection[str]) -> bool:
        """Whether one step does, with only these hyper-parameters traced."""
        given = {**job.structural, **{k: float(v[0]) for k, v in job.continuous.items() if k not in traced}}
        key = jr.key(0)

        def step(hyper: dict[str, Array]) -> None:
            method = as_method(job.make(**given, **hyper))
            x = problem.init(key)
            state = method.init(problem, x, key)
            method.readout(*method.step(problem, x, state, key))

        try:
            jax.eval_shape(step, {name: jnp.zeros(()) for name in traced})
        except jax.errors.ConcretizationTypeError:
            return True
        return False

    names = [] if fails(()) else [name for name in job.continuous if fails((name,))]
    if not names:
        return error
    listed = "".join(f"{name!r}, " for name in names)
    return TypeError(
        f"sweep: Python code branches on the value of {listed[:-2]}, which is not known while one program is compiled "
        f"for all values; pass static=({listed.strip()}) to compile a program for each value"
    )


def _wait(arrays: PyTree) -> None:
    """Until they have been computed: in Python, where Ctrl-C is heard, as it is not inside of JAX."""
    begun = time.perf_counter()
    for array in jax.tree.leaves(arrays):
        while isinstance(array, jax.Array) and not array.is_ready():  # pyright: ignore[reportAttributeAccessIssue]
            _progress.stop_if_asked()
            time.sleep(min(0.01 * (time.perf_counter() - begun), 0.1))  # a hundredth of the time is lost at most
    jax.block_until_ready(arrays)  # raises what went wrong while they were computed


def _join(parts: list[dict[str, Any]]) -> dict[str, np.ndarray]:
    """Concatenate recordings along their record axis, (C, S, records, …)."""
    return {k: np.concatenate([_widened(p[k]) for p in parts], axis=2) for k in parts[0]}


def _widened(values: Any) -> np.ndarray:
    """Recordings in bfloat16 and the 8-bit formats as float32, which files and NumPy's functions know."""
    values = np.asarray(values)
    foreign = values.dtype.kind not in "biufc" and jnp.issubdtype(values.dtype, jnp.floating)
    return values.astype(np.float32) if foreign else values


def _where_it_is(tree: PyTree) -> PyTree:
    """Arrays on the devices where they are, of a mesh that is automatic."""

    def put(leaf: Any) -> Any:
        named = isinstance(leaf, jax.Array) and isinstance(leaf.sharding, NamedSharding)
        return jax.device_put(leaf, _automatic(leaf.sharding)) if named else leaf

    return jax.tree.map(put, tree)


def _shardings(problem: Problem, sharding: PyTree) -> tuple[NamedSharding | None, ...]:
    """One for each of the iterate's arrays, once it is known that they can be split so."""
    start = eqx.filter(eqx.filter_eval_shape(problem.init, jr.key(0)), lambda a: isinstance(a, jax.ShapeDtypeStruct))
    try:
        spread = jax.tree.broadcast(sharding, start, is_leaf=lambda s: s is None)
    except ValueError as error:
        raise ValueError(f"sharding: expected a NamedSharding, or a tree of them like the iterate; {error}") from error
    found = []
    named = jax.tree_util.tree_leaves_with_path(spread, is_leaf=lambda s: s is None)
    for (path, given), leaf in zip(named, jax.tree.leaves(start), strict=True):
        where = f"sharding{jax.tree_util.keystr(path)}"
        if given is not None and not (isinstance(given, NamedSharding) and isinstance(given.mesh, Mesh)):
            raise ValueError(f"{where}: expected a jax.sharding.NamedSharding or None, got {given!r}")
        if given is not None:
            try:
                given.shard_shape(leaf.shape)
            except ValueError as error:
                raise ValueError(f"{where}: an array of shape {leaf.shape} cannot be split so: {error}") from error
        found.append(None if given is None else _automatic(given))
    return tuple(found)


def _automatic(sharding: Any) -> NamedSharding:
    """The same where it is for the compiler to decide on what lies between: JAX's other kind wants all of it said."""
    mesh = sharding.mesh
    return NamedSharding(Mesh(mesh.devices, mesh.axis_names), sharding.spec)


def _sharded(carry: PyTree, sharding: tuple[NamedSharding | None, ...] | None) -> PyTree:
    """Iterate and state of a lane, the iterate and what has its shape (momenta, averages) kept on their devices."""
    if sharding is None:
        return carry
    like = jax.tree.map(jnp.shape, carry[0]), jax.tree.structure(carry[0])

    def is_alike(part: PyTree) -> bool:
        return jax.tree.structure(part) == like[1] and jax.tree.map(jnp.shape, part) == like[0]

    def put(part: PyTree) -> PyTree:
        if not is_alike(part):
            return part
        leaves = jax.tree.leaves(part)
        kept = [a if s is None else lax.with_sharding_constraint(a, s) for a, s in zip(leaves, sharding, strict=True)]
        return jax.tree.unflatten(like[1], kept)

    return jax.tree.map(put, carry, is_leaf=is_alike)


class _TooWide(Exception):
    """A program of several lanes that needs more memory than there is; ``fits`` of them should need no more."""

    def __init__(self, reason: str, fits: int):
        super().__init__(reason)
        self.fits = fits


def _exhausted(error: Exception, lanes: int) -> _TooWide | None:
    """What to do about an error of a running program, if it is that memory ran out: half the width is next."""
    said = str(error).partition("\n")[0]
    if "RESOURCE_EXHAUSTED" not in said:
        return None
    if lanes == 1:
        return _TooWide(f"lanes: one needs more memory than there is, and sharding= may split it ({said})", 1)
    fits = 1 << ((lanes // 2).bit_length() - 1)
    return _TooWide(f"lanes: {lanes} at a time need more memory than there is ({said}); lanes={fits} may fit", fits)


def _require_memory(call: tuple[_Setup, Array, Array, Array, int], carry: PyTree, calls: int, lanes: int) -> None:
    """Refuse a program whose working memory, with the recordings of all its calls, is more than what is free."""
    free = free_memory()
    data, state = (sum(a.nbytes for a in jax.tree.leaves(eqx.filter(t, eqx.is_array))) for t in (call[0], carry))
    if free is None or ROOM * (lanes * data + state) < free:  # asking takes milliseconds
        return
    sizes = _lower(_advance, call, carry).compile().memory_analysis()  # JAX keeps what was compiled, and runs it later
    # A processor's devices share one memory; of an accelerator, each has its own.
    devices = (
        len(jax.tree.leaves(eqx.filter(carry, eqx.is_array))[0].devices()) if jax.default_backend() == "cpu" else 1
    )
    kept = sizes.output_size_in_bytes - sizes.alias_size_in_bytes
    needed = devices * (sizes.temp_size_in_bytes + calls * kept)
    free *= 0.9
    if needed > free:
        # A power of two, as what is free varies a little, and a run that goes on is to be cut as it was.
        fits = 1 << max(int(lanes * free / needed).bit_length() - 1, 0)
        need = f"{lanes} at a time need {needed / 1e9:.3g} GB of memory, of which {free / 1e9:.3g} GB are free"
        raise _TooWide(f"lanes: {need}; lanes={fits} would fit", fits)


def free_memory() -> float | None:
    """Bytes that are free, of the first accelerator's memory or else of this machine's; `None` where nothing says."""
    if stats := jax.local_devices()[0].memory_stats():
        return stats["bytes_limit"] - stats["bytes_in_use"] if "bytes_limit" in stats else None
    meminfo = Path("/proc/meminfo")
    lines = meminfo.read_text(encoding="utf-8").splitlines() if meminfo.exists() else []
    return next((1024.0 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")), None)


def _placement(width: int) -> tuple[Callable[[Any], Any], Callable[[Any], Any]]:
    """``(split, whole)``: put arrays with a leading configuration axis, or without one, on all of JAX's devices.

    Nothing is moved when there is one device, or when they do not divide ``width`` evenly.
    """
    devices = jax.devices()
    if len(devices) == 1 or width % len(devices):
        return (lambda tree: tree), (lambda tree: tree)
    mesh = Mesh(np.asarray(devices), ("config",))

    def put(spec: PartitionSpec) -> Callable[[Any], Any]:
        sharding = NamedSharding(mesh, spec)
        return lambda tree: jax.tree.map(lambda a: jax.device_put(a, sharding) if eqx.is_array(a) else a, tree)

    return put(PartitionSpec("config")), put(PartitionSpec())


def _factory(method: Any, sweep: Sweep | None) -> Callable[..., Any]:
    if isinstance(method, Method) or is_transformation(method):
        if sweep is not None:
            raise TypeError(
                "sweep: needs a function of the hyper-parameters (such as optax.adam), "
                f"got an already made {name_of(method)}"
            )
        return eqx.Partial(_same, as_method(method))
    if not callable(method):
        as_method(method)  # raises, saying what is accepted
    return method


def _same(method: Method) -> Method:
    return method


def _configurations(sweep: Sweep | None) -> list[dict[str, Any]]:
    if sweep is None:
        return [{}]
    if isinstance(sweep, Mapping):
        for name, values in sweep.items():
            if isinstance(values, str) or not isinstance(values, Sequence | np.ndarray | jax.Array) or len(values) == 0:
                raise ValueError(f"sweep[{name!r}]: expected a list of at least one value, got {values!r}")
        return [
            dict(zip(sweep, map(_plain, combination), strict=True))
            for combination in itertools.product(*sweep.values())
        ]
    if not sweep or any(set(config) != set(sweep[0]) for config in sweep):
        raise ValueError("sweep: expected at least one configuration, all with the same hyper-parameters")
    return [{k: _plain(v) for k, v in config.items()} for config in sweep]


def _plain(value: Any) -> Any:
    """NumPy and JAX scalars as Python ones, so that float means continuous and int structural."""
    return value.item() if isinstance(value, np.generic | np.ndarray | jax.Array) and value.ndim == 0 else value


def _seeds(seeds: int | np.integer | Sequence[int]) -> list[int]:
    listed = list(range(seeds)) if isinstance(seeds, int | np.integer) else [int(s) for s in seeds]
    if not listed or len(set(listed)) < len(listed) or min(listed) < 0 or max(listed) >= 2**31:
        raise ValueError(f"seeds: expected a number >= 1, or distinct seeds in 0 … 2³¹-1, got {seeds!r}")
    return listed


def _jobs(
    make: Callable, configs: list[dict[str, Any]], seeds: list[int], lanes: int | None, static: frozenset[str]
) -> list[_Job]:
    def is_continuous(name: str, value: Any) -> bool:
        return isinstance(value, float) and name not in static

    groups: dict[tuple, list[int]] = {}
    for i, config in enumerate(configs):
        structural = tuple((k, v) for k, v in config.items() if not is_continuous(k, v))
        groups.setdefault(structural, []).append(i)
    jobs = []
    for structural, members in groups.items():
        names = [k for k, v in configs[members[0]].items() if is_continuous(k, v)]
        continuous = {k: np.asarray([configs[i][k] for i in members]) for k in names}
        places = [(i, s) for i in members for s in range(len(seeds))]
        job = _Job(make, dict(structural), continuous, np.asarray(seeds), places)
        jobs += [job] if lanes is None else _pieces(job, lanes)
    return jobs


def _pieces(job: _Job, lanes: int) -> list[_Job]:
    """A job in programs of exactly so many lanes, each with its own seed; the last is filled up with its last lane."""
    pieces = []
    for start in range(0, len(job.places), lanes):
        lane = np.minimum(np.arange(start, start + lanes), len(job.places) - 1)
        config, seed = np.divmod(lane, job.seeds.shape[-1])
        own = job.seeds[lane] if job.seeds.ndim == 2 else job.seeds[seed][:, None]
        continuous = {k: v[config] for k, v in job.continuous.items()}
        pieces.append(_Job(job.make, job.structural, continuous, own, job.places[start : start + lanes]))
    return pieces


def _assemble(
    problem: Problem,
    method: Any,
    configs: list[dict[str, Any]],
    seeds: list[int],
    jobs: list[_Job],
    results: list[Any],
    probes: list[str],
    steps: int,
    every: int,
) -> Trace:
    order = {place: (j, i) for j, job in enumerate(jobs) for i, place in enumerate(job.places)}
    lanes = [order[c, s] for c in range(len(configs)) for s in range(len(seeds))]

    def gather(pick: Callable[[_Result], np.ndarray]) -> np.ndarray:
        stacked = np.stack([pick(results[j])[i] for j, i in lanes])
        return stacked.reshape(len(configs), len(seeds), *stacked.shape[1:])

    values = {name: gather(lambda r, n=name: r.values[n]) for name in (*probes, FINITE)}
    finals = [jax.tree.leaves(r.final) for r in results]
    leaves = (
        [gather(lambda r, n=n: jax.tree.leaves(r.final)[n]) for n in range(len(finals[0]))] if _alike(finals) else []
    )
    final = jax.tree.unflatten(jax.tree.structure(results[0].final), leaves) if leaves else None
    settings = {"problem": type(problem).__name__, "method": name_of(method), "steps": steps, "every": every}
    finite = values.pop(FINITE)
    timing = functools.reduce(operator.add, (r.timing for r in results))
    return build(values, finite, results[0].at, configs, seeds, settings, final, timing)


def _alike(finals: list[list[np.ndarray]]) -> bool:
    """Structural hyper-parameters may change the iterate's shape; then there is no common stack of final iterates."""
    return len({tuple(leaf.shape[1:] for leaf in leaves) for leaves in finals}) == 1


def _lower(compiled: Any, *arguments: Any) -> Any:
    """JAX's lowered program of an `equinox.filter_jit` function."""
    return compiled.lower(*arguments).lowered


def lowered(
    problem: Problem,
    method: Method | Transformation | Callable[..., Any],
    *,
    steps: int,
    seeds: int | Sequence[int] = 1,
    sweep: Sweep | None = None,
    probes: Mapping[str, Any] | None = None,
    every: int | None = None,
    lanes: int | None = None,
) -> str:
    """The text of the programs that `run` would compile with the same arguments, before the compiler changes them."""
    measured = {k: as_probe(p) for k, p in (problem.probes if probes is None else probes).items()}
    every = min(every or max(steps // 100, 1), steps)
    texts = []
    for job in _jobs(_factory(method, sweep), _configurations(sweep), _seeds(seeds), lanes, frozenset()):
        width = len(job.seeds) if job.seeds.ndim == 2 else len(job.places) // len(job.seeds)
        continuous = {k: jnp.asarray(v, dtype=float) for k, v in job.continuous.items()}
        lane, seed = jnp.arange(width), jnp.asarray(job.seeds)
        setup = _Setup(problem, job.make, job.structural, continuous, measured, seed, lane)
        records = len([*range(0, steps, every), steps])
        stride = min(max(STEPS_PER_CALL // every, 1), records)
        call = (setup, jnp.asarray(0), jnp.asarray(every), jnp.asarray(steps), stride)
        start = _starter(jax.default_backend())
        carry = start(setup)
        texts += [_lower(start, setup).as_text(), _lower(_advance, call, carry).as_text()]
        texts.append(_lower(_readout, setup, carry).as_text())
    return "\n".join(texts)


def flops_per_step(problem: Problem, method: Method | Transformation) -> float:
    """Floating-point operations of one step, by XLA's cost analysis of the step's program for a CPU, which all count.

    Loops inside a step whose length the compiler does not know are counted once; NaN where ``JAX_PLATFORMS`` leaves JAX
    no CPU.
    """
    method = as_method(method)

    def start(problem: Problem, key: Array) -> PyTree:
        x = problem.init(key)
        return x, method.init(problem, x, key)

    # From shapes alone: nothing is computed, and nothing is compiled.
    carry = eqx.filter_eval_shape(start, problem, jr.key(0))
    shapes, rest = eqx.partition(carry, lambda leaf: isinstance(leaf, jax.ShapeDtypeStruct))
    arrays, fixed = eqx.partition(problem, eqx.is_array)

    def step(arrays: PyTree, shapes: PyTree, key: Array) -> PyTree:
        x, state = eqx.combine(shapes, rest)
        return eqx.filter(method.step(eqx.combine(arrays, fixed), x, state, key), eqx.is_array)

    shaped = jax.eval_shape(lambda *given: given, arrays, shapes, jr.key(0))
    try:
        cpu = jax.local_devices(backend="cpu")[0]
    except RuntimeError:
        return float("nan")
    with jax.default_device(cpu):  # XLA has no count for a GPU's programs
        analysis = jax.jit(step).lower(*shaped).cost_analysis()
    return float(analysis.get("flops", float("nan"))) if isinstance(analysis, dict) else float("nan")


def _keep_compiled_programs() -> None:
    """Switch JAX's persistent compilation cache on, unless the user has chosen a place for it."""
    if jax.config.values.get("jax_compilation_cache_dir") is None and "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        root = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
        jax.config.update("jax_compilation_cache_dir", str(root / "attractor" / "xla"))
