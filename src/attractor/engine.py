"""The loop: written once, compiled once, for every method, problem, sweep and seed.

A *lane* is one configuration under one seed. One program advances all lanes by a few recording intervals; a Python
loop calls it until the last step, and between two calls shows progress and writes a checkpoint. Step t of a lane
draws its randomness from ``fold_in(seed's key, t)``, so the result does not depend on where the loop was cut.
"""

import functools
import itertools
import operator
import os
import time
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
from attractor.checkpoint import Checkpoint, CheckpointError, local_folder
from attractor.method import Method, as_method, name_of, require
from attractor.probe import Probe, as_probe
from attractor.problem import Problem
from attractor.trace import Timing, Trace, build
from attractor.transformations import Transformation, is_transformation

FINITE = "__finite__"  # recorded beside the probes: are all of x's numbers finite?
RESERVED = {"config", "seed", "step", "diverged_at", FINITE}  # names in a trace that no probe may have
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
        lanes: Run at most so many lanes at a time, in programs of exactly that width; default: all at once. With
            ``lanes``, calls that differ in their numbers of configurations and seeds share one compiled program.
        checkpoint: A folder. State is saved there after every program call; the same call again resumes from it and
            gives the very same trace. With more ``steps`` and the same ``every``, a run goes on from where it ended.
        progress: Show a progress bar on standard error; `None`: if that is a terminal and it takes over two seconds.
        static: Names of floats in ``sweep`` to treat as structural all the same, because Python code branches on their
            values, as the peak of `optax.warmup_cosine_decay_schedule` does.

    Returns:
        A `Trace` with dims ``config``, ``seed``, ``step``.

    Raises:
        TypeError: if the method does not fit the problem, or is none; if a swept float has to be ``static``.
        ValueError: for an argument out of range, a probe with the name of an axis, or a hyper-parameter that the method
            refuses.
        CheckpointError: if ``checkpoint`` holds the state of another run, or a damaged file.
    """
    for name, count in (("steps", steps), ("every", every), ("lanes", lanes)):
        if count is not None and (not isinstance(count, int | np.integer) or count < 1):
            raise ValueError(f"{name}: expected a whole number >= 1, got {count!r}")
    # NumPy's integers cannot be written into a file's header.
    steps, lanes = int(steps), None if lanes is None else int(lanes)
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
    _keep_compiled_programs()
    folder = None if checkpoint is None else local_folder(checkpoint)

    jobs = _jobs(make, configs, seed_list, lanes, frozenset(static))
    results: list[_Result | None] = [None] * len(jobs)
    with _progress.task(name_of(method), steps * len(jobs), "step", progress) as advance:
        for i, job in enumerate(jobs):
            saved = None if folder is None else Checkpoint(folder / f"part-{i}.ckpt")
            try:
                results[i] = _execute(problem, job, measured, steps, every, saved, advance)
            except jax.errors.ConcretizationTypeError as error:
                raise _name_the_static(problem, job, error) from error
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


def _execute(
    problem: Problem,
    job: _Job,
    probes: dict[str, Probe],
    steps: int,
    every: int,
    checkpoint: Checkpoint | None,
    advance: Callable[[float], None],
) -> _Result:
    width = len(job.seeds) if job.seeds.ndim == 2 else len(job.places) // len(job.seeds)
    split, whole = _placement(width)
    setup = _Setup(
        problem=whole(problem),
        make=whole(job.make),
        structural=job.structural,
        continuous=split({k: jnp.asarray(v, dtype=float) for k, v in job.continuous.items()}),
        probes=whole(probes),
        seeds=(split if job.seeds.ndim == 2 else whole)(jnp.asarray(job.seeds)),
        lane=split(jnp.arange(width)),
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
            carry = split(state.carry)
            recorded = [{k: v[:, :, :first] for k, v in state.recorded.items()}]
            timing = Timing(**state.timing)
            advance(at[min(first, len(at)) - 1])

    pending = None
    while first < len(at):
        begun = time.perf_counter()
        carry, values = _advance((setup, jnp.asarray(first), *call, stride), carry)
        if checkpoint is not None:
            recorded = [_join([*recorded, jax.device_get(values)])]
        else:
            recorded.append(values)
            if pending is not None:  # wait for the call before this one: the next is queued while this one computes
                jax.block_until_ready(pending)
            pending = values
        done = at[min(first + stride, len(at)) - 1] - (at[first - 1] if first else 0)
        timing = timing.add(time.perf_counter() - begun, done, width * job.seeds.shape[-1], compiling=first == resumed)
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
        return jax.tree.map(lambda a: jnp.asarray(a, jnp.result_type(a)) if eqx.is_array_like(a) else a, (x, state))

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
            return eqx.filter(method.step(setup.problem, x, state, jr.fold_in(step_key, t)), eqx.is_array)

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


def _join(parts: list[dict[str, Any]]) -> dict[str, np.ndarray]:
    """Concatenate recordings along their record axis, (C, S, records, …)."""
    return {k: np.concatenate([_widened(p[k]) for p in parts], axis=2) for k in parts[0]}


def _widened(values: Any) -> np.ndarray:
    """Recordings in bfloat16 and the 8-bit formats as float32, which files and NumPy's functions know."""
    values = np.asarray(values)
    foreign = values.dtype.kind not in "biufc" and jnp.issubdtype(values.dtype, jnp.floating)
    return values.astype(np.float32) if foreign else values


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

        def continuous(chosen: Sequence[int], names: list[str] = names) -> dict[str, np.ndarray]:
            return {k: np.asarray([configs[i][k] for i in chosen]) for k in names}

        if lanes is None:
            places = [(i, s) for i in members for s in range(len(seeds))]
            jobs.append(_Job(make, dict(structural), continuous(members), np.asarray(seeds), places))
            continue
        places = [(i, s) for i in members for s in range(len(seeds))]
        for start in range(0, len(places), lanes):
            part = places[start : start + lanes]
            padded = part + [part[-1]] * (lanes - len(part))
            own = np.asarray([[seeds[s]] for _, s in padded])
            jobs.append(_Job(make, dict(structural), continuous([i for i, _ in padded]), own, part))
    return jobs


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
