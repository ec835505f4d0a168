"""How many papers each of some small changes makes stale; most say nothing about any number, and should make none.

    python benchmarks/staleness.py

Every change is made in a copy of the package. Where it touches the core, the copy runs the golden runs (about a minute
each): they decide.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from attractor.papers import catalogue, module_of, written
from attractor.papers.sources import ROOT, Sources, core_code

CHANGES = {
    "the words of in_range's error": ("checks.py", "expected a finite number in", "must be a finite number in"),
    "a message in engine.py": ("engine.py", "there is nothing to record", "nothing would be recorded"),
    "a message in checkpoint.py": ("checkpoint.py", "delete it to start again", "remove it to start again"),
    "a line of Trace.plot": ("plots.py", "yaxis_title=metric", "yaxis_title=str(metric)"),
    "a line of Trace.save": ("store.py", '"settings": dict(', '"settings": dict(**'),
    "a column label of Comparison.table": ("results.py", '"ms per step"', '"milliseconds per step"'),
    "a line of Svrg": ("optim/variance_reduction.py", "class Svrg(", "class Svrg(object, "),
    "the loop runs a step less": ("engine.py", "jnp.minimum(index * every, steps)", "jnp.minimum(index, steps)"),
}  # fmt: skip
GOLDEN = """
import json
from attractor.papers import golden, golden_runs
print(json.dumps(golden.differences(json.loads(golden.FILE.read_text())["runs"], golden_runs.measure())))
"""


def stale(file: str, old: str, new: str) -> tuple[int, str]:
    """How many papers a change makes stale, and what decided."""
    slugs = [slug for slug in catalogue() if written(slug)]
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "attractor"
        shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns("__pycache__"))
        path = copy / file
        text = path.read_text(encoding="utf-8")
        if old not in text:
            raise ValueError(f"{file} no longer holds {old!r}; name another line")
        path.write_text(text.replace(old, new), encoding="utf-8")
        if core_code(copy) != core_code():
            run = [sys.executable, "-c", GOLDEN]
            found = subprocess.run(
                run, env={**os.environ, "PYTHONPATH": folder}, capture_output=True, text=True, check=True
            )
            if found.stdout.strip() != "[]":
                return len(slugs), "golden runs differ"
            return 0, "golden runs agree"
        before, after = Sources(ROOT), Sources(copy)
        changed = [s for s in slugs if before.fingerprint(module_of(s), "") != after.fingerprint(module_of(s), "")]
        return len(changed), ", ".join(changed)


if __name__ == "__main__":
    for name, change in CHANGES.items():
        count, why = stale(*change)
        print(f"{count:3d} of {sum(map(written, catalogue()))} papers: {name}{f' ({why})' if why else ''}", flush=True)
