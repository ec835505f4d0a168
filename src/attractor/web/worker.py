"""The process that works for the page: one order on standard input, one event a line on standard output.

``python -m attractor.web.worker FOLDER`` with an order such as ``{"kind": "check", "slug": "adahessian"}``. What it
makes is written to FOLDER. It ends when standard input closes, so that it never outlives the server.
"""

import json
import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # its threads wait for each other in a loop

Tell = Callable[..., None]
OFTEN = 0.2  # seconds between two tellings of progress
REPORT = "report.html"


def check(order: dict[str, Any], folder: Path, tell: Tell) -> None:
    """Run a paper's claims, one by one, and keep the verdicts as this machine's own."""
    from attractor.papers import check, claims_of, record

    names = [c.name for c in claims_of(order["slug"])]
    for i, name in enumerate(names):
        tell("progress", label=name.replace("-", " "), done=i, total=len(names), unit="claim")
        found = check(order["slug"], names=[name])
        record.write(found, record.local())
        for verdict in found:
            tell("verdict", verdict=verdict.asdict())


def compare(order: dict[str, Any], folder: Path, tell: Tell) -> None:
    """Compare registered methods on a registered problem; interrupted, what was measured is kept."""
    from attractor import comparison, registry
    from attractor.report import data, sentence

    entry = registry.find_problem(order["problem"])
    how = {k: order[k] for k in ("seeds", "budget")}
    steps, missing = order["steps"] or entry.steps, []
    try:
        made = comparison.compare(
            entry.factory(), order["methods"], steps=steps, metric=entry.metric, target=entry.target,
            label=entry.name, progress=True, **how,
        )  # fmt: skip
    except comparison.Interrupted as stop:
        made, missing = stop.comparison, stop.missing
    flags = f"--steps {steps} --seeds {order['seeds']} --budget {order['budget']}"
    made.settings["command"] = f"attractor compare {entry.name} {' '.join(order['methods'])} {flags}"
    made.report(str(folder / REPORT))
    tell("result", **data(made), missing=missing, sentence=sentence(made))


def diagnose(order: dict[str, Any], folder: Path, tell: Tell) -> None:
    """Say why the training behaves as it does whose log was handed in."""
    from attractor.diagnosis import diagnose_log

    found = diagnose_log(folder / order["log"])
    found.save(str(folder / REPORT))
    tell("result", findings=[f.to_dict() for f in found.findings])


def registry(order: dict[str, Any], folder: Path, tell: Tell) -> None:
    """The rows of methods and problems, for which all rooms are loaded."""
    from attractor.papers import rows

    tell("result", methods=rows.methods(), problems=rows.problems())


def stale(order: dict[str, Any], folder: Path, tell: Tell) -> None:
    """Every recorded paper's status, for which all sources are read."""
    from attractor.papers import record

    tell("result", states={slug: record.status(slug, found) for slug, found in record.read_all().items()})


KINDS = {"check": check, "compare": compare, "diagnose": diagnose, "registry": registry, "stale": stale}


def main() -> None:
    """Do what the order says."""
    from attractor.progress import heard_by

    events = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what others print is no event
    folder, order = Path(sys.argv[1]), json.loads(sys.stdin.readline())
    os.nice(5)  # pages come first
    threading.Thread(target=_end_with_server, daemon=True).start()
    told = 0.0

    def tell(event: str, **data: Any) -> None:
        events.write(json.dumps({"event": event, **data}, allow_nan=False) + "\n")
        events.flush()

    def progress(label: str, done: float, total: float, unit: str) -> None:
        nonlocal told
        if unit == "method" or time.monotonic() - told > OFTEN:
            told = time.monotonic()
            event = "progress" if unit == "method" or order["kind"] != "compare" else "detail"
            tell(event, label=label, done=done, total=total, unit=unit)

    try:
        # A claim's own comparisons have bars as well, which say nothing about the paper's.
        with heard_by(progress if order["kind"] == "compare" else lambda *_: None):
            KINDS[order["kind"]](order, folder, tell)
    except (ValueError, TypeError) as error:
        tell("failed", message=str(error))
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)


def _end_with_server() -> None:
    sys.stdin.read()
    os._exit(1)


if __name__ == "__main__":
    main()
