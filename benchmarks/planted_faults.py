"""Twelve mistakes planted into eight programs, and 16 healthy runs: is each named?

    python benchmarks/planted_faults.py                        # prints the table
    python benchmarks/planted_faults.py --write                # and writes docs/data/planted_faults.md
    python benchmarks/planted_faults.py --peers                # with torchmortem and training-doctor beside, where installed

Thresholds of the rules marked * were chosen on the first four programs; the figures that count are those of the other
four. A healthy run is a false alarm if any finding is at least likely, advice left out.
"""

import argparse
import json
import sys
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from faulty_programs import FAULTS, FITTED, HELD_OUT, Fault, Program, train

from attractor.diagnosis import Diagnosis
from attractor.diagnosis.torch import Monitor

HERE = Path(__file__).parent
ADVICE = ("needlessly large batch", "edge of stability")


def diagnosed(make: Callable[[], Program], fault: Fault | None, seed: int) -> Diagnosis:
    """What our monitor says of one run."""
    torch.manual_seed(seed)
    program = make()
    if fault is not None:
        fault.plant(program)
    kept: list[Monitor] = []

    def watch(model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> Monitor:
        kept.append(Monitor(model, optimizer, every=10))
        return kept[0]

    train(program, seed, watch=watch)
    return kept[0].diagnosis()


def rank(diagnosis: Diagnosis, fault: Fault) -> int:
    """The place at which a fault is named, from 1; 0: not at all."""
    for place, finding in enumerate(diagnosis, 1):
        if finding.name in fault.names and fault.said in finding.sentence:
            return place
    return 0


def alarms(diagnosis: Diagnosis) -> list[str]:
    """What a healthy run is said to suffer from."""
    return [f.name for f in diagnosis if f.confidence >= 0.65 and f.name not in ADVICE]


def measure(programs: dict[str, Callable[[], Program]], faults: Iterable[str], verbose: bool) -> dict[str, Any]:
    """Ranks by program and fault, and the alarms of two healthy runs each."""
    ranks, healthy = {}, {}
    for name, make in programs.items():
        healthy[name] = []
        for seed in (0, 1):
            found = diagnosed(make, None, seed)
            healthy[name].append(alarms(found))
            if verbose:
                print(f"{name:24} healthy {seed}: {[(f.name, round(f.confidence, 2)) for f in found]}", flush=True)
        for fault in faults:
            found = diagnosed(make, FAULTS[fault], 2)
            ranks[name, fault] = rank(found, FAULTS[fault])
            if verbose:
                shown = [(f.name, round(f.confidence, 2)) for f in found][:4]
                print(f"{name:24} {fault:22} {ranks[name, fault]}  {shown}", flush=True)
    return {"ranks": ranks, "healthy": healthy}


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", help="a program", choices=[*FITTED, *HELD_OUT])
    parser.add_argument("--fault", help="a fault", choices=list(FAULTS))
    parser.add_argument("--fitted", action="store_true", help="only the programs that thresholds were chosen on")
    parser.add_argument("-v", "--verbose", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    groups = {"fitted": FITTED} if args.fitted else {"fitted": FITTED, "held out": HELD_OUT}
    for group, programs in groups.items():
        chosen = {n: p for n, p in programs.items() if args.only in (None, n)}
        if not chosen:
            continue
        found = measure(chosen, [args.fault] if args.fault else FAULTS, args.verbose)
        ranks = list(found["ranks"].values())
        loud = [bool(a) for runs in found["healthy"].values() for a in runs]
        print(
            f"{group}: first {sum(r == 1 for r in ranks)}, among three {sum(0 < r <= 3 for r in ranks)} of {len(ranks)};"
            f" false alarms {sum(loud)} of {len(loud)}"
        )


if __name__ == "__main__":
    main()
