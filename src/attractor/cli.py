"""The command line: ``attractor papers | show | check | compare | problems | methods``."""

import ast
import importlib
import json
import math
import os
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from attractor.names import unknown
from attractor.papers import ROOMS, Scale, Verdict, catalogue, check, find, module_of, record
from attractor.papers.sources import path_of

if TYPE_CHECKING:
    from attractor.problem import Problem
    from attractor.registry import ProblemEntry

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Papers on how learning converges, as components and as experiments that can come out false.",
)
out, err = Console(), Console(stderr=True)
COLORS = {"holds": "green", "fails": "yellow", "error": "red", "stale": "magenta", "missing": "dim"}

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")]


def main() -> None:
    """Entry point: bad usage prints one line on standard error and exits with 2; Ctrl-C keeps what is done."""
    try:
        app()
    except (ValueError, TypeError, FileNotFoundError) as error:
        if os.environ.get("ATTRACTOR_TRACEBACK"):
            raise
        err.print(f"attractor: {error}", markup=False, highlight=False, soft_wrap=True)
        sys.exit(2)
    except KeyboardInterrupt:
        err.print("attractor: interrupted; what was finished is kept")
        sys.exit(130)


def _print_json(data: Any) -> None:
    print(json.dumps(data, ensure_ascii=False, allow_nan=False))


def _known_rooms(rooms: list[str]) -> None:
    for room in rooms:
        if room not in ROOMS:
            raise unknown("room", room, ROOMS, f"rooms: {', '.join(ROOMS)}")


@app.command(epilog='Example: attractor papers "vector field that is not a gradient" --room generative')
def papers(
    query: Annotated[str | None, typer.Argument(help="Words or a sentence; papers are found by meaning.")] = None,
    room: Annotated[str | None, typer.Option(help="Only this room of the house.")] = None,
    status: Annotated[str | None, typer.Option(help="holds, fails, error, stale or missing.")] = None,
    limit: Annotated[int, typer.Option(help="At most so many.", min=1)] = 20,
    as_json: AsJson = False,
) -> None:
    """Find papers, by meaning and by word."""
    _known_rooms([room] if room else [])
    if status is not None and status not in COLORS:
        raise ValueError(f"--status: expected one of {', '.join(COLORS)}, got {status!r}")
    known = record.read()
    if query is None:
        hits = [p for p in catalogue().values() if room in (None, p.room)]
    else:
        from attractor.papers.search import search

        hits = [p for p, _ in search(query, limit=len(catalogue()), room=room)]
    states = {p.slug: record.status(p.slug, known) for p in hits}
    hits = [p for p in hits if status in (None, states[p.slug])]
    if query is not None:
        hits = hits[:limit]
    if as_json:
        rows = [
            {"slug": p.slug, "title": p.title, "room": p.room, "kind": p.kind, "status": states[p.slug]} for p in hits
        ]
        return _print_json(rows)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("slug", "room", "status", "gist"):
        table.add_column(column, no_wrap=column != "gist", overflow="fold")
    for p in hits:
        table.add_row(p.slug, p.room, f"[{COLORS[states[p.slug]]}]{states[p.slug]}", p.gist)
    out.print(table)
    if not hits:
        err.print("no paper matches; `attractor papers` lists all")


@app.command(epilog="Example: attractor show adahessian")
def show(slug: Annotated[str, typer.Argument(help="The paper's slug.")], as_json: AsJson = False) -> None:
    """What a paper claims, what was measured, and how to use it."""
    paper, snippet = find(slug), snippet_of(slug)
    verdicts = {**record.read().get(slug, {}), **record.read(record.local()).get(slug, {})}
    if as_json:
        row = {"slug": slug, "title": paper.title, "room": paper.room, "kind": paper.kind, "gist": paper.gist}
        row |= {"claim": paper.claim, "headline": paper.headline, "status": record.status(slug), "snippet": snippet}
        return _print_json({**row, "verdicts": [v.asdict() for v in verdicts.values()]})
    out.print(f"[bold]{paper.title}[/]\n[dim]{paper.slug} · {paper.room} · {paper.kind} · {record.status(slug)}[/]\n")
    out.print(f"{paper.gist}\n\n[bold]It claims[/] {paper.claim}")
    if paper.headline:
        out.print(f"[bold]In figures[/] {paper.headline}")
    if claims_exist(slug):
        out.print(f"[bold]Parts[/] {', '.join(f'attractor.{part}' for part in paper.parts)}", highlight=False)
    if not verdicts:
        out.print("\nNo claim of it has run yet.")
        return None
    out.print("\n[bold]Measured[/]")
    for verdict in verdicts.values():
        _print_verdict(verdict)
    if snippet:
        from rich.syntax import Syntax

        out.print("\n[bold]Use it[/]")
        out.print(Syntax(snippet, "python", background_color="default"))
    return None


def snippet_of(slug: str) -> str:
    """The usage example in a paper's file (its docstring's fenced block), without importing it; '' if none."""
    if not claims_exist(slug):
        return ""
    text = ast.get_docstring(ast.parse(path_of(module_of(slug)).read_text(encoding="utf-8"))) or ""
    return text.partition("```python\n")[2].partition("```")[0]


def _print_verdict(v: Verdict) -> None:
    value = "not a finite number" if v.value is None else f"{v.value:.4g}"
    bounds = "" if v.low is None or v.high is None or v.low == v.high else f" [{v.low:.4g}, {v.high:.4g}]"
    threshold = "" if v.threshold is None else f", to be {v.direction} {v.threshold:g}"
    broken = "; ".join(
        f"{b['name']}: {'caught' if b['verdict'] == 'fails' else b['verdict'].upper()}"
        + ("" if b["value"] is None else f" at {b['value']:.3g}")
        for b in v.broken
    )
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(width=7, justify="right")
    grid.add_column(overflow="fold")
    grid.add_row(Text(v.verdict, style=COLORS[v.verdict]), Text(v.statement))
    details = [f"{value}{bounds}{threshold} · {v.seconds:.1f} s", f"broken variants: {broken}", v.note]
    for line in filter(None, details):
        grid.add_row("", Text(line, style="dim"))
    out.print(grid)


@app.command(name="check", epilog="Examples: attractor check fno gae   ·   attractor check --room optim --jobs 2")
def check_command(
    slugs: Annotated[list[str] | None, typer.Argument(help="Papers to check.")] = None,
    room: Annotated[list[str] | None, typer.Option(help="All papers of a room; may be repeated.")] = None,
    every: Annotated[bool, typer.Option("--all", help="Every paper that has claims.")] = False,
    stale: Annotated[
        bool, typer.Option("--stale", help="Papers whose code changed since the record; fails if a verdict got worse.")
    ] = False,
    scale: Annotated[str, typer.Option(help="quick, or full (the paper's size).")] = "quick",
    jobs: Annotated[int, typer.Option(help="Papers at a time.", min=1)] = 1,
    save: Annotated[
        bool, typer.Option("--record", help="Write the project's own record, papers/verdicts.json.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Run papers' claims, and the broken variants that must fail. Exit code 1 if a claim falls short."""
    before = record.read()
    chosen = _chosen(slugs or [], room or [], every, stale, before)
    missing = [s for s in chosen if not claims_exist(s)]
    if slugs and missing:
        err.print(f"no claim has been written yet for {', '.join(missing)}; see CONTRIBUTING.md to add one")
    chosen = [s for s in chosen if s not in missing]
    target = record.OFFICIAL if save else record.local()
    verdicts: list[Verdict] = []
    for found in _run_checks(chosen, scale, jobs):
        record.write(found, target)  # paper by paper, so that an interruption loses nothing
        verdicts += found
        if not as_json:
            for verdict in found:
                out.print(f"[bold]{verdict.slug}[/] [dim]{verdict.claim}[/]", highlight=False)
                _print_verdict(verdict)
    if as_json:
        keys = "slug", "claim", "verdict", "value", "low", "high", "threshold", "direction", "broken", "seconds"
        _print_json(
            [
                {k: v.asdict()[k] for k in keys}
                | {"broken": [{"name": b["name"], "verdict": b["verdict"]} for b in v.broken]}
                for v in verdicts
            ]
        )
    else:
        counts = {o: sum(v.verdict == o for v in verdicts) for o in ("holds", "fails", "error")}
        out.print(", ".join(f"{n} {o}" for o, n in counts.items()) + f" · recorded in {target}", highlight=False)
    if stale:
        worse = [v for v in verdicts if _worse(v, before)]
        for v in worse:
            err.print(f"worse than on record: {v.slug} {v.claim}: {v.verdict}", highlight=False)
        raise typer.Exit(1 if worse else 0)
    raise typer.Exit(1 if missing and slugs else int(any(v.verdict != "holds" for v in verdicts)))


def _worse(now: Verdict, before: dict[str, dict[str, Verdict]]) -> bool:
    order = ["holds", "fails", "error"]
    then = before.get(now.slug, {}).get(now.claim)
    return now.verdict == "error" or (then is not None and order.index(now.verdict) > order.index(then.verdict))


def claims_exist(slug: str) -> bool:
    """Whether somebody has written this paper's file (looked up without importing it)."""
    return path_of(module_of(slug)).is_file()


def _chosen(slugs: list[str], rooms: list[str], every: bool, stale: bool, before: Any) -> list[str]:
    for slug in slugs:
        find(slug)
    _known_rooms(rooms)
    if not (slugs or rooms or every or stale):
        raise ValueError("nothing to check: name papers, or give --room ROOM, --stale or --all")
    chosen = [p.slug for p in catalogue().values() if p.slug in slugs or p.room in rooms or every]
    if stale:
        pool = chosen if (slugs or rooms or every) else list(catalogue())
        written = [s for s in pool if claims_exist(s)]
        chosen = [s for s in written if record.status(s, before) in ("stale", "missing")]
    return chosen if slugs else [s for s in chosen if claims_exist(s)]


def _run_checks(slugs: list[str], scale: str, jobs: int):
    """Yield each paper's verdicts as they come, with a bar; several processes when ``jobs`` > 1."""
    from attractor.backends import spread
    from attractor.progress import task

    if scale not in ("quick", "full"):
        raise ValueError(f"--scale: expected quick or full, got {scale!r}")
    chosen: Scale = "quick" if scale == "quick" else "full"
    with task("checking claims", len(slugs), "paper") as advance:
        for _, found in spread(partial(check, scale=chosen), slugs, jobs):
            yield found
            advance(1)


@app.command(
    epilog="Examples: attractor compare digits-mlp adam adahessian muon lion --seeds 8   ·   "
    "attractor compare my_problem.py:problem adam lion --target 0.1"
)
def compare(
    problem: Annotated[str, typer.Argument(help="A registered name, or module:object or file.py:object of your own.")],
    methods: Annotated[list[str], typer.Argument(help="Registered methods; `attractor methods` lists them.")],
    steps: Annotated[int | None, typer.Option(help="Iterations per run; default: the problem's own.", min=1)] = None,
    seeds: Annotated[int, typer.Option(help="Fresh seeds for the final measurement.", min=1)] = 8,
    budget: Annotated[int, typer.Option(help="Configurations each method may try.", min=1)] = 16,
    metric: Annotated[str | None, typer.Option(help="Which measurement decides; default: the problem's own.")] = None,
    target: Annotated[
        float | None, typer.Option(help="A value of the metric to reach; default: the problem's own.")
    ] = None,
    report: Annotated[Path, typer.Option(help="Where to write the HTML report.")] = Path("comparison.html"),
    as_json: AsJson = False,
) -> None:
    """Tune every method with the same budget, measure the winners on fresh seeds, print a table, write a report."""
    from attractor import comparison, registry

    _use_all_cores()
    built, default = load_problem(problem)
    if target is None and metric in (None, default.metric):
        target = default.target
    steps, metric = steps or default.steps, metric or default.metric
    for name in methods:
        registry.find_method(name)
    missing: list[str] = []
    try:
        result = comparison.compare(
            built,
            methods,
            steps=steps,
            seeds=seeds,
            budget=budget,
            metric=metric,
            target=target,
            label=problem,
        )
    except comparison.Interrupted as stop:
        result, missing = stop.comparison, stop.missing
    options = {"steps": steps, "seeds": seeds, "budget": budget, "metric": result.metric}
    flags = " ".join(f"--{k} {v}" for k, v in options.items()) + (f" --target {target:g}" if target is not None else "")
    result.settings["command"] = f"attractor compare {problem} {' '.join(methods)} {flags}"
    where = Path(result.report(str(report))).resolve()
    if as_json:
        rows = json.loads(str(result.table().map(_jsonable).reset_index().to_json(orient="records")))
        _print_json({"settings": result.settings, "table": rows, "report": str(where)})
    else:
        _print_comparison(result)
        out.print(f"report: {where}", highlight=False, soft_wrap=True)
    if missing:
        err.print(f"stopped before {', '.join(missing)}; the rest is kept")
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


def _jsonable(cell: Any) -> Any:
    if hasattr(cell, "low"):
        return {k: v if math.isfinite(v) else None for k, v in vars(cell).items()}
    return cell


def _print_comparison(result: Any) -> None:
    from attractor.report import sentence

    frame = result.table()
    costs = [c for c in frame.columns if c.split()[0] in ("flops", "seconds", "MFLOP", "ms", "tuned")]
    for columns in (frame.columns.drop(costs), costs):  # two tables, as one would not fit into 80 columns
        table = Table(box=None, pad_edge=False, header_style="bold")
        table.add_column("method", style="bold", no_wrap=True)
        for column in columns:
            table.add_column(str(column), justify="left" if column == "tuned" else "right", overflow="fold")
        for name, row in frame[columns].iterrows():
            table.add_row(str(name), *(_cell(column, value) for column, value in row.items()))
        out.print(table, end="\n\n")
    out.print(f"{sentence(result)}\n", highlight=False)


def _cell(column: Any, value: Any) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "–"
    if isinstance(value, float):
        return f"{value:.0%}" if "probability" in str(column) else "never" if math.isinf(value) else f"{value:.3g}"
    return str(value)


def load_problem(name: str) -> "tuple[Problem, ProblemEntry]":
    """A problem, and its defaults for `compare`, from a registered name, ``module:object`` or ``file.py:object``.

    Raises:
        ValueError: if the name is unknown, or the object is missing or no problem.
    """
    from attractor import registry
    from attractor.problem import Problem

    if ":" not in name:
        entry = registry.find_problem(name)
        return entry.factory(), entry
    where, _, attribute = name.rpartition(":")
    path = Path(where) if where.endswith(".py") else None
    sys.path.insert(0, str(path.parent.resolve() if path else Path.cwd()))
    if path and not path.exists():
        raise ValueError(f"PROBLEM: there is no file {where}")
    try:
        module = importlib.import_module(path.stem if path else where)
    except ModuleNotFoundError as error:
        if error.name not in (where, path and path.stem):
            raise
        raise ValueError(f"PROBLEM: there is no module {where!r} here or among the installed ones") from error
    finally:
        sys.path.pop(0)
    found = getattr(module, attribute, None)
    if found is None:
        raise ValueError(
            f"PROBLEM: {where} has no {attribute!r}; it has {', '.join(n for n in vars(module) if n[0] != '_')}"
        )
    found = found() if callable(found) and not isinstance(found, Problem) else found
    if not isinstance(found, Problem):
        raise ValueError(
            f"PROBLEM: {name} is a {type(found).__name__}; expected an attractor.Problem or a function making one"
        )
    return found, registry.ProblemEntry(name, type(found))


@app.command()
def problems(as_json: AsJson = False) -> None:
    """The registered problems."""
    from attractor import registry

    rows = [
        {"name": p.name, "metric": p.metric, "steps": p.steps, "target": p.target, "summary": p.summary}
        for p in registry.problems().values()
    ]
    _print_rows(rows, as_json)


@app.command()
def methods(
    room: Annotated[list[str] | None, typer.Option(help="Only this room (repeatable).")] = None,
    as_json: AsJson = False,
) -> None:
    """The registered methods: what they need, what a step costs, what `compare` searches.

    The cost is in gradients of digits-mlp per step, then bytes of state per parameter (float32), as measured by
    benchmarks/optimizers.py.
    """
    from attractor import registry

    _known_rooms(room or [])
    costs = registry.costs()
    chosen = [m for m in registry.methods().values() if not room or m.room in room]
    if as_json:
        return _print_json(
            [
                {
                    "name": m.name,
                    "needs": m.kind,
                    "space": {k: str(d) for k, d in m.space.items()},
                    "cost": costs.get(m.name),
                    "paper": m.paper,
                    "room": m.room,
                    "summary": m.summary,
                }
                for m in chosen
            ]
        )
    rows = [
        {
            "name": m.name,
            "needs": m.kind,
            "cost": _cost(costs.get(m.name)),
            "searched": "\n".join(f"{k} {d}" for k, d in m.space.items()),
        }
        for m in chosen
    ]
    return _print_rows(rows, as_json)


def _cost(measured: dict[str, Any] | None) -> str:
    if measured is None:
        return ""
    gradients, state = measured.get("gradients_per_step"), measured.get("state_bytes_per_parameter")
    return ", ".join([f"{gradients:.3g} grad"] * (gradients is not None) + [f"{state:.3g} B"] * (state is not None))


def _print_rows(rows: list[dict[str, Any]], as_json: bool) -> None:
    if as_json:
        return _print_json(rows)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in rows[0]:
        table.add_column(column, no_wrap=column in ("name", "needs", "searched"), overflow="fold")
    for row in rows:
        table.add_row(*("" if v is None else str(v) for v in row.values()))
    out.print(table)
    return None


if __name__ == "__main__":
    main()
