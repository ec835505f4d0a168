"""Commands over the registry: ``compare``, ``problems`` and ``methods``."""

import inspect
import math
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from attractor.cli.common import AsJson, app, err, known_rooms, out, print_json, print_rows
from attractor.cli.objects import load_object
from attractor.papers import rows
from attractor.places import require_writable, shown

if TYPE_CHECKING:
    from attractor.loops import Loop
    from attractor.problem import Problem
    from attractor.registry import ProblemEntry


@app.command(
    epilog="Examples: attractor compare digits-mlp adam adahessian muon lion --seeds 8   ·   "
    "attractor compare my_problem.py:problem adam lion --target 0.1   ·   "
    "attractor compare train.py:train adamw muon lion --seeds 5 --budget 8 --jobs 2 --checkpoint runs/first"
)
def compare(
    problem: Annotated[
        str,
        typer.Argument(
            help="A registered name, or module:object or file.py:object of your own: a problem, or a training loop "
            "train(make_optimizer, seed) that yields dicts of numbers."
        ),
    ],
    methods: Annotated[list[str], typer.Argument(help="Registered methods; `attractor methods` lists them.")],
    steps: Annotated[
        int | None, typer.Option(help="Iterations per run; default: the problem's own, all of a loop's.", min=1)
    ] = None,
    seeds: Annotated[int, typer.Option(help="Fresh seeds for the final measurement.", min=1)] = 8,
    budget: Annotated[int, typer.Option(help="Configurations each method may try.", min=1)] = 16,
    metric: Annotated[str | None, typer.Option(help="Which measurement decides; default: the problem's own.")] = None,
    target: Annotated[
        float | None, typer.Option(help="A value of the metric to reach; default: the problem's own.")
    ] = None,
    goal: Annotated[
        str | None, typer.Option(help="min or max; default: the measurement's own, by its name for a loop.")
    ] = None,
    by: Annotated[
        str, typer.Option(help="Of a loop with a target: tune and rank by steps or by seconds to it.")
    ] = "steps",
    jobs: Annotated[int, typer.Option(help="Processes for a loop's runs.", min=1)] = 1,
    backend: Annotated[str, typer.Option(help="local, or ray: on the cores of a Ray cluster.")] = "local",
    address: Annotated[
        str | None, typer.Option(help="host:port of a running cluster; default: this machine's cores.")
    ] = None,
    checkpoint: Annotated[
        str | None,
        typer.Option(help="A folder or URL that keeps what is done; the same command goes on from it.", metavar="PATH"),
    ] = None,
    stop_hopeless: Annotated[bool, typer.Option(help="Stop a loop's hopeless configurations while tuning.")] = False,
    report: Annotated[
        str, typer.Option(help="Where to write the HTML report: a file, or a URL such as s3://…", metavar="PATH")
    ] = "comparison.html",
    table: Annotated[
        str | None,
        typer.Option(help="Also write the table: .csv, .parquet, .md or .tex, intervals included.", metavar="PATH"),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Tune every method with the same budget, measure the winners on fresh seeds, print a table, write a report."""
    from attractor import comparison, registry
    from attractor.loops import Loop
    from attractor.report import data
    from attractor.tables import FORMATS

    require_writable(report, "--report")
    if table is not None:
        require_writable(table, "--table", tuple(FORMATS))
    _use_all_cores()
    built, default = load_problem(problem)
    loop = isinstance(built, Loop)
    if target is None and metric in (None, default.metric):
        target = default.target
    steps, metric = steps or (None if loop else default.steps), metric or default.metric
    for name in methods:
        registry.find_method(name)
    how: dict[str, Any] = {"steps": steps, "seeds": seeds, "budget": budget, "metric": metric, "target": target}
    how |= {"goal": goal, "by": by, "jobs": jobs, "backend": backend, "address": address}
    how |= {"stop_hopeless": stop_hopeless, "checkpoint": checkpoint}
    stopped: comparison.Interrupted | comparison.Incomplete | None = None
    try:
        result = comparison.compare(built, methods, label=problem, **how)
    except (comparison.Interrupted, comparison.Incomplete) as stop:
        result, stopped = stop.comparison, stop
    usual = {"goal": None, "by": "steps", "jobs": 1, "stop_hopeless": False, "steps": None, "target": None}
    usual |= {"backend": "local", "address": None}
    how |= {"metric": result.metric, "checkpoint": None}  # to do it again is to do it anew
    flags = [f"--{k.replace('_', '-')}{'' if v is True else f' {v}'}" for k, v in how.items() if v != usual.get(k)]
    result.settings["command"] = f"attractor compare {problem} {' '.join(methods)} {' '.join(flags)}"
    if not as_json:
        _print_comparison(result)  # before anything is written: what took long is not lost with a full disk
    where = shown(result.report(report))
    written = [f"report: {where}"] + ([] if table is None else [f"table: {shown(result.export(table))}"])
    if as_json:
        print_json(data(result) | {"report": where})
    else:
        out.print("\n".join(written), highlight=False, soft_wrap=True)
    if stopped is not None:
        err.print(f"stopped before {', '.join(stopped.missing)}; the rest is kept", markup=False, highlight=False)
        if isinstance(stopped, comparison.Incomplete) and isinstance(stopped.__cause__, Exception):
            raise stopped.__cause__
        raise typer.Exit(130)


def _use_all_cores() -> None:
    """One JAX device per core, over which the engine spreads its lanes; on a GPU, or if the user chose, no change."""
    import jax

    if "device_count" in os.environ.get("XLA_FLAGS", "") or "JAX_NUM_CPU_DEVICES" in os.environ:
        return
    try:
        jax.config.update("jax_num_cpu_devices", os.cpu_count() or 1)
    except RuntimeError:  # JAX is already at work in this process: its devices stay as they are
        return


def _print_comparison(result: Any) -> None:
    from attractor.report import sentence, split_columns

    frame = result.table()
    for columns in split_columns(frame):
        table = Table(box=None, pad_edge=False, header_style="bold")
        table.add_column("method", style="bold", no_wrap=True)
        for column in columns:
            table.add_column(str(column), justify="left" if column == "tuned" else "right", overflow="fold")
        for name, row in frame[columns].iterrows():
            # Why runs failed stands below the table, where there is room.
            short = {c: v.split(":")[0] if c == "diverged" else v for c, v in row.items()}
            table.add_row(str(name), *(_cell(column, value) for column, value in short.items()))
        out.print(table, end="\n\n")
    for name, told in frame.get("diverged", {}).items():
        if ":" in told:
            out.print(f"{name} failed in {told}", markup=False, highlight=False)
    out.print(f"{sentence(result)}\n", highlight=False)


def _cell(column: Any, value: Any) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "–"
    if getattr(value, "low", None) == math.inf:
        return "never"
    if isinstance(value, float):
        return f"{value:.0%}" if "probability" in str(column) else "never" if math.isinf(value) else f"{value:.3g}"
    return str(value)


def load_problem(name: str) -> "tuple[Problem | Loop, ProblemEntry]":
    """A problem or loop, and its defaults for `compare`: a registered name, ``module:object`` or ``file.py:object``.

    Raises:
        ValueError: if the name is unknown, or the object is missing or neither.
    """
    from attractor import registry
    from attractor.loops import Loop
    from attractor.problem import Problem

    if ":" not in name:
        if name.endswith(".py"):
            raise ValueError(f"PROBLEM: expected what in {name} it is, such as {name}:problem or {name}:train")
        entry = registry.find_problem(name)
        return entry.factory(), entry
    found = load_object(name, "PROBLEM")
    if inspect.isgeneratorfunction(found):
        found = Loop(found)
    elif callable(found) and not isinstance(found, Problem):
        found = found()
    if not isinstance(found, Problem | Loop):
        raise ValueError(
            f"PROBLEM: {name} is a {type(found).__name__}; expected an attractor.Problem, a function making one, or a "
            "training loop: a generator function train(make_optimizer, seed)"
        )
    if isinstance(found, Loop) and (file := name.rpartition(":")[0]).endswith(".py"):
        sys.path.insert(0, str(Path(file).parent.resolve()))  # where other processes look for it as well
    return found, registry.ProblemEntry(name, type(found))


@app.command()
def problems(as_json: AsJson = False) -> None:
    """The registered problems."""
    print_rows(rows.problems(), as_json)


@app.command()
def methods(
    room: Annotated[list[str] | None, typer.Option(help="Only this room (repeatable).")] = None,
    as_json: AsJson = False,
) -> None:
    """The registered methods: what they need, what a step costs, what `compare` searches.

    The cost is in gradients of digits-mlp per step, then bytes of state per parameter (float32), as measured by
    benchmarks/optimizers.py.
    """
    known_rooms(room or [])
    chosen = rows.methods(room or ())
    if as_json:
        return print_json(chosen)
    narrow = out.width < 100  # then the cost stands below what is needed
    table = []
    for m in chosen:
        needs, cost = m["needs"], _cost(m["cost"])
        told = {"needs, cost": f"{needs}\n{cost}".strip()} if narrow else {"needs": needs, "cost": cost}
        searched = "\n".join(f"{k} {d}" for k, d in m["space"].items())
        table.append({"name": m["name"], **told, "searched": searched})
    return print_rows(table, as_json)


def _cost(measured: dict[str, Any] | None) -> str:
    if measured is None:
        return ""
    gradients, state = measured.get("gradients_per_step"), measured.get("state_bytes_per_parameter")
    return ", ".join([f"{gradients:.3g} grad"] * (gradients is not None) + [f"{state:.3g} B"] * (state is not None))
