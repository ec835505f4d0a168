"""Twelve mistakes planted into ten programs, and 28 healthy runs: is each named?

    python benchmarks/planted_faults.py               # prints what is said of every run, and the shares
    python benchmarks/planted_faults.py --only mlp    # of one program
    python benchmarks/planted_faults.py --write       # all, and the table of docs/data/planted_faults.md

Thresholds marked * in `attractor.diagnosis.rules` were chosen on the first four programs; the figures that count are
those of the other four, of which there are two more healthy runs each, with other settings. Two more programs were
written when the rules were done, and were run once. A healthy run is a false alarm if anything is found that is at
least likely, advice left out.

Where torchmortem 0.1.1 and training-doctor 0.1.0 are installed (``pip install --no-deps torchmortem training-doctor``),
they watch the same runs, with their defaults; what they say is counted wherever it could mean the fault.
"""

import argparse
import contextlib
import importlib.util
import io
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from faulty_programs import FAULTS, FITTED, HELD_OUT, LATER, SETTINGS, Program, train

from attractor.diagnosis.torch import Monitor

TABLE = Path(__file__).parents[1] / "docs" / "data" / "planted_faults.md"
ADVICE = ("needlessly large batch", "edge of stability")
GROUPS = {"fitted": FITTED, "held out": HELD_OUT, "written later": LATER}

# What the peers' findings could mean, by a word of their titles.
MEANT = {
    "divergence": ("step too large", "exploding gradients", "logarithm of zero"),
    "Catapult": ("step too large", "bad batch"),
    "ratio too high": ("step too large",),
    "ratio too low": ("step too small", "frozen layer"),
    "Vanishing": ("vanishing gradients",),
    "Exploding": ("exploding gradients", "unscaled inputs"),
    "stalling": ("disconnected layer", "frozen layer", "vanishing gradients"),
    "Dead": ("dead units",),
    "saturation": ("dead units", "unscaled inputs"),
    "noise": ("tiny batch",),
    "plateau": ("unpaired targets",),
    "too high": ("step too large",),
    "too low": ("step too small",),
    "nstab": ("exploding gradients", "step too large", "bad batch"),
}


Said = list[tuple[str, str, bool]]  # names, sentences, and whether that is an alarm
Watcher = tuple[Callable, Callable[[], Said]]


def ours(program: Program, seed: int) -> Watcher:
    """A watcher for `train`, and what it says after: name, sentence, and whether it is an alarm."""
    kept: list[Monitor] = []

    def watch(model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> Monitor:
        kept.append(Monitor(model, optimizer, every=10))
        return kept[0]

    def said() -> Said:
        found = kept[0].diagnosis()
        return [(f.name, f.sentence, f.confidence >= 0.65 and f.name not in ADVICE) for f in found]

    return watch, said


def torchmortem(program: Program, seed: int) -> Watcher:
    """The same of torchmortem: its findings by severity, an alarm from a warning on."""
    import torchmortem  # pyright: ignore[reportMissingImports]

    kept: list[Any] = []

    def watch(model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> Callable:
        kept.append(torchmortem.Autopsy(model, optimizer=optimizer))
        kept[0].__enter__()
        return lambda loss: kept[0].step(loss=float(loss.detach()))

    def said() -> Said:
        kept[0].__exit__(None, None, None)
        order = ["CRITICAL", "WARNING", "INFO"]
        found = sorted(kept[0].get_report().findings, key=lambda f: order.index(f.severity.name))
        titles = dict.fromkeys((f.title.split(" in ")[0], f.severity.name != "INFO") for f in found)
        return [(title, title, alarm) for title, alarm in titles]

    return watch, said


def training_doctor(program: Program, seed: int) -> Watcher:
    """The same of training-doctor, which is given the loss and the learning rate at every step."""
    import training_doctor  # pyright: ignore[reportMissingImports]

    doctor, found, step = training_doctor.Doctor(), [], [0]

    def watch(model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> Callable:
        def log(loss: torch.Tensor) -> None:
            norms = [p.grad.norm() for p in model.parameters() if p.grad is not None]
            gradient = float(torch.stack(norms).norm()) if norms else 0.0
            found.extend(doctor.log(step[0], loss=float(loss.detach()), lr=program.rate, grad_norm=gradient))
            step[0] += 1

        return log

    def said() -> Said:
        surest = sorted(found, key=lambda d: -d.confidence)
        titles = dict.fromkeys((d.problem, d.severity.name != "INFO") for d in surest)
        return [(title, title, alarm) for title, alarm in titles]

    return watch, said


def listen(watcher: Callable, make: Callable[[], Program], change: Callable | None, seed: int) -> Said:
    """What a watcher says of one run, of a program that was changed."""
    torch.manual_seed(seed)
    program = make()
    if change is not None:
        change(program)
    watch, said = watcher(program, seed)
    # A distribution refuses what is not finite, which ends the run as it would end the user's.
    with contextlib.suppress(ValueError), contextlib.redirect_stdout(io.StringIO()):
        train(program, seed, watch=watch)
    with contextlib.redirect_stdout(io.StringIO()):
        return said()


def place(said: Said, name: str) -> int:
    """At which place a fault is named, from 1; 0: not at all."""
    fault = FAULTS[name]
    for i, (title, sentence, _) in enumerate(said, 1):
        meant = next((m for word, m in MEANT.items() if word in title), ()) if title == sentence else ()
        if name in meant or (title in fault.names and fault.said in sentence):
            return i
    return 0


def measure(watcher: Callable, programs: dict[str, Callable[[], Program]], verbose: bool = False) -> dict[str, Any]:
    """Places by program and fault, and the alarms of healthy runs, the first two of each program as it is."""
    places: dict[tuple[str, str], int] = {}
    alarms: dict[tuple[str, int], list[str]] = {}
    for program, make in programs.items():
        for i, change in enumerate([None, None, *SETTINGS.get(program, [])]):
            said = listen(watcher, make, change, seed=i if change is None else i + 1)
            alarms[program, i] = [title for title, _, alarm in said if alarm]
            if verbose:
                print(f"{program:26} healthy                   {alarms[program, i]}", flush=True)
        for name, fault in FAULTS.items():
            said = listen(watcher, make, fault.plant, 2)
            places[program, name] = place(said, name)
            if verbose:
                titles = [title for title, _, _ in said][:4]
                print(f"{program:26} {name:22} {places[program, name] or '-'}  {titles}", flush=True)
    return {"places": places, "alarms": alarms}


def shares(found: dict[str, Any]) -> str:
    """The figures of a group of programs, as cells."""
    places, alarms = list(found["places"].values()), list(found["alarms"].values())
    first, three = sum(p == 1 for p in places), sum(0 < p <= 3 for p in places)
    loud = sum(bool(a) for a in alarms)
    counts = (first, len(places)), (three, len(places)), (loud, len(alarms))
    return " | ".join(f"{some} of {all_} ({some / all_:.0%})" for some, all_ in counts)


def rows(name: str, groups: dict[str, dict[str, Any]]) -> list[str]:
    """A row for each group of programs."""
    return [f"| {name}, programs {group} | {shares(f)} |" for group, f in groups.items()]


def table(found: dict[str, dict[str, Any]], peers: list[str]) -> str:
    """The page's tables, with the peers' rows."""
    lines = ["| | named first | among the first three | false alarms |", "|---|---|---|---|"]
    lines += rows("attractor", found) + peers
    names = [name for group in found.values() for name, _ in dict.fromkeys((n, 0) for n, _ in group["places"])]
    lines += ["", f"| planted | {' | '.join(names)} |", "|---|" + "---|" * len(names)]
    merged = {key: p for group in found.values() for key, p in group["places"].items()}
    for fault in FAULTS:
        lines.append(f"| {fault} | " + " | ".join(str(merged[name, fault] or "–") for name in names) + " |")
    loud = {key: a for group in found.values() for key, a in group["alarms"].items()}
    cells = [", ".join(dict.fromkeys(a for (n, _), said in loud.items() if n == name for a in said)) for name in names]
    cells = [cell or "none" for cell in cells]
    lines.append(f"| *alarms of healthy runs* | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", help="a group of programs", choices=list(GROUPS))
    parser.add_argument("--write", action="store_true", help=f"write {TABLE}")
    args = parser.parse_args()
    if args.write and args.only:
        parser.error("--write: expected all programs, got --only")
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    found = {}
    for group, programs in GROUPS.items():
        if args.only in (None, group):
            found[group] = measure(ours, programs, verbose=True)
            print(f"{group}: named first | among three | false alarms: {shares(found[group])}", flush=True)
    if not args.write:
        return
    peers, before = [], TABLE.read_text(encoding="utf-8").splitlines()
    for name, watcher in {"torchmortem": torchmortem, "training_doctor": training_doctor}.items():
        title = name.replace("_", "-")
        if importlib.util.find_spec(name):
            peers += rows(title, {group: measure(watcher, programs) for group, programs in GROUPS.items()})
        else:  # our rules do not change what it said
            peers += [line for line in before if line.startswith(f"| {title},")]
            print(f"{title} is not installed: its rows stay as they were")
    TABLE.write_text(table(found, peers), encoding="utf-8")


if __name__ == "__main__":
    main()
