"""Golden runs: a dozen small runs of the core that stand in for its source.

Every line of the core touches every claim, but few changes of it change a number. So claims do not depend on the core's
source but on what it does: ``golden.json`` holds the lowered programs of the runs in `attractor.papers.golden_runs`, as
hashes of their text, and their values. While the core reproduces them (values to 1e-6) nothing is stale; once it does
not, everything is, and ``python -m attractor.papers.golden`` writes the file anew.
"""

import hashlib
import json
import math
import os
import sys
from functools import cache
from pathlib import Path
from typing import Any

from attractor.papers.sources import core_code

FILE = Path(__file__).with_name("golden.json")
TOLERANCE = 1e-6


@cache
def state() -> str:
    """What stands for the core in every fingerprint: the golden runs' hash, and the core's own where they differ."""
    recorded = json.loads(FILE.read_text(encoding="utf-8"))
    digest = hashlib.sha256(json.dumps(recorded["runs"], sort_keys=True).encode()).hexdigest()[:16]
    code = core_code()
    if code == recorded["code"] or not _remembered(code, digest):
        return digest
    return f"{digest}-{code}"


def differences(recorded: dict[str, Any], measured: dict[str, Any], same_library: bool = True) -> list[str]:
    """The names of the runs that came out differently: another program, or values more than 1e-6 apart.

    Arguments:
        recorded: ``{name: {"program": hash, "values": [numbers]}}``.
        measured: The same, now.
        same_library: Whether JAX is the version that lowered the recorded programs; else only values are compared.
    """
    return [
        name
        for name in sorted(recorded.keys() | measured.keys())
        if name not in recorded
        or name not in measured
        or (same_library and recorded[name]["program"] != measured[name]["program"])
        or not _close(recorded[name]["values"], measured[name]["values"])
    ]


def _close(a: list[float | None], b: list[float | None]) -> bool:
    def near(x: float | None, y: float | None) -> bool:
        if x is None or y is None:
            return x is y
        return math.isclose(x, y, rel_tol=TOLERANCE, abs_tol=TOLERANCE)

    return len(a) == len(b) and all(map(near, a, b))


def _remembered(code: str, digest: str) -> list[str]:
    """Which runs differ under this core; measured once for each, and remembered on this machine."""
    from importlib.metadata import version

    from attractor.places import write_atomically

    root = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "attractor" / "golden"
    known = root / f"{code}-{digest}-{version('jax')}.json"
    if known.exists():
        return json.loads(known.read_text(encoding="utf-8"))
    from attractor.papers.golden_runs import measure

    print("the core has changed: comparing its golden runs (once)", file=sys.stderr)
    recorded = json.loads(FILE.read_text(encoding="utf-8"))
    found = differences(recorded["runs"], measure(), recorded["jax"] == version("jax"))
    write_atomically(known, lambda file: file.write(json.dumps(found).encode()))
    return found


def write() -> None:
    """Write ``golden.json`` from the core as it is; every record is stale afterwards unless nothing differs.

    Where nothing does, only the core's hash is new: the last digits of another processor are no news.
    """
    from importlib.metadata import version

    from attractor.papers.golden_runs import measure
    from attractor.places import write_atomically

    runs = measure()
    if FILE.exists():
        recorded = json.loads(FILE.read_text(encoding="utf-8"))
        if recorded["jax"] == version("jax") and not differences(recorded["runs"], runs):
            runs = recorded["runs"]
    data = {"jax": version("jax"), "code": core_code(), "runs": runs}
    text = json.dumps(data, indent=1, allow_nan=False) + "\n"
    write_atomically(FILE, lambda file: file.write(text.encode()))


if __name__ == "__main__":
    write()
