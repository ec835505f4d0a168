"""The command that looks at a training: ``diagnose``."""

import inspect
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from attractor.cli.common import AsJson, app, out, print_json
from attractor.cli.objects import load_object
from attractor.names import unknown
from attractor.places import require_writable, shown

if TYPE_CHECKING:
    from attractor.diagnosis import Diagnosis

LIKELY = 0.65  # a finding at least as sure is worth an exit code
NEEDED = ("loss", "params", "batches")
IN_TORCH = ("model", "loss_fn", "loader", "optimizer")


@app.command(
    name="diagnose",
    epilog="Examples: attractor diagnose my_training.py:state --confirm --report why.html   ·   "
    "attractor diagnose --log runs.csv --column loss=my_loss   ·   attractor diagnose --log lightning_logs",
)
def diagnose_command(
    target: Annotated[
        str | None,
        typer.Argument(
            metavar="MODULE:FUNCTION",
            help="module:function or file.py:function of your own, giving a dictionary with loss, params and batches, "
            "or these three in a tuple; further keys are those of attractor.diagnose. In PyTorch: a dictionary with "
            "model, loss_fn, loader and optimizer.",
        ),
    ] = None,
    log: Annotated[
        list[Path] | None,
        typer.Option(
            help="A log of training, in place of a function: CSV, JSON lines, TensorBoard's event files, a Weights & "
            "Biases export, or a folder; several are taken as seeds."
        ),
    ] = None,
    column: Annotated[
        list[str] | None,
        typer.Option(help="What a column of the log is, such as loss=my_loss or step=none; may be repeated."),
    ] = None,
    report: Annotated[
        str | None,
        typer.Option(
            help="Write the findings with their plots to a page (.html), or to a .json file; a path or a URL.",
            metavar="PATH",
        ),
    ] = None,
    confirm: Annotated[
        bool, typer.Option("--confirm", help="Try the remedies: a short run with each, beside the same run without.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Say why a training behaves as it does, from its code or from its log.

    Exit code 0 if nothing is likely wrong, 1 if something is, 2 for bad usage.
    """
    if (target is None) == (not log):
        raise ValueError("expected either MODULE:FUNCTION or --log FILE; see attractor diagnose --help")
    if report is not None:
        require_writable(report, "--report", (".html", ".htm", ".json"))
    diagnosis = _of_function(target, confirm, column) if target is not None else _of_log(log or [], column, confirm)
    where = None if report is None else shown(diagnosis.save(report))
    if as_json:
        print_json(diagnosis.to_dict() | ({"report": where} if where else {}))
    else:
        from attractor.diagnosis.page import show

        show(diagnosis, out)
        if where:
            out.print(f"report: {where}", highlight=False, markup=False, soft_wrap=True)
    raise typer.Exit(int(any(finding.confidence >= LIKELY for finding in diagnosis)))


def _of_log(paths: list[Path], columns: list[str] | None, confirm: bool) -> "Diagnosis":
    from attractor.diagnosis import diagnose_log

    if confirm:
        raise ValueError("--confirm: a log cannot be run again; give MODULE:FUNCTION, or leave it out")
    chosen = {}
    for given in columns or []:
        role, equals, name = given.partition("=")
        if not (role and equals and name):
            raise ValueError(f"--column: expected ROLE=NAME such as loss=my_loss, got {given!r}")
        chosen[role.strip().replace("_", " ")] = name.strip()
    return diagnose_log(*paths, columns=chosen)


def _of_function(target: str, confirm: bool, columns: list[str] | None) -> "Diagnosis":
    if columns:
        raise ValueError("--column: it names a column of --log FILE, and there is no log")
    if ":" not in target:
        hint = f"--log {target}" if Path(target).exists() else f"{target}:FUNCTION"
        raise ValueError(
            f"MODULE:FUNCTION: expected a colon and a function's name, got {target!r}; did you mean {hint}?"
        )
    from attractor.diagnosis import diagnose

    found = load_object(target, "MODULE:FUNCTION")
    given, look, needed = found() if callable(found) else found, diagnose, NEEDED
    if isinstance(given, dict) and "model" in given:  # PyTorch's
        from attractor.diagnosis import torch_state

        look, needed = torch_state.diagnose, IN_TORCH
    given = _arguments(given, target, needed, inspect.signature(look))
    if confirm:
        given["confirm"] = True
    return look(**given)


def _arguments(given: Any, target: str, needed: tuple[str, ...], accepted: inspect.Signature) -> dict[str, Any]:
    """What a user's function gives, as the arguments of `attractor.diagnose` or of `attractor.torch.diagnose`."""
    if isinstance(given, tuple | list) and 3 <= len(given) <= 5:
        given = dict(zip((*NEEDED, "optimizer", "learning_rate"), given, strict=False))
    if not isinstance(given, dict):
        raise ValueError(
            f"{target} gives {str(given)[:60]}; expected a dictionary with {', '.join(NEEDED)}, or these three "
            "(with optimizer and learning_rate, five) in a tuple"
        )
    missing = [name for name in needed if name not in given]
    if missing:
        raise ValueError(
            f"{target}: its dictionary has no {' and no '.join(map(repr, missing))}; it has {_names(given)}"
        )
    for name in given:
        if name not in accepted.parameters:
            raise unknown("argument", str(name), accepted.parameters, f"known are {', '.join(accepted.parameters)}")
    return dict(given)


def _names(given: dict) -> str:
    return ", ".join(map(str, given)) or "nothing"
