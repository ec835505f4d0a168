"""The package as users install it: the built wheel in an empty environment, without extras; then each extra alone.

Usage: ``python tests/wheel.py``. Without extras the commands of the README's first page must work, under every version
of Python among the classifiers that this machine has (on the path, or by pyenv). An extra is tried in this environment,
where all are installed, by hiding every distribution that the package with only this extra would not bring. Figures of
the import and of `attractor papers` are printed: processor seconds, the best of five.
"""

import os
import re
import subprocess
import sys
import tempfile
import tomllib
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
SMOKE = (
    ("attractor", "papers", "sharpness"),
    ("attractor", "show", "adahessian"),
    ("attractor", "check", "lion-k", "--claim", "never-rises"),
    ("attractor", "methods"),
    ("attractor", "compare", "mine.py:problem", "adam", "lion", "--steps", "50", "--seeds", "3", "--budget", "2"),
    ("attractor", "diagnose", "--log", "runs.csv"),
    ("python", "mine.py"),
)
MINE = """
import jax.numpy as jnp, optax
from attractor import Minimization, run
problem = Minimization(lambda w: jnp.sum((w - 3.0) ** 2), jnp.zeros(2))
if __name__ == "__main__":
    trace = run(problem, optax.adam(0.1), steps=100)
    trace.save("trace.parquet")
    trace.plot()
"""
WITHOUT = {
    "attractor serve": "attractor[web]",
    "attractor feed status": "attractor[feed]",
    "attractor mcp": "attractor[mcp]",
}
BRINGS = {
    "rl": "gymnasium; import attractor.rl, attractor.problems",
    "dynamics": "dysts; import attractor.dynamics",
    "torch": "torch; import attractor.torch, attractor.diagnosis.torch",
    "feed": "feedparser; import attractor.feed.sync, attractor.feed.library, attractor.cli.feed",
    "web": "fastapi; import attractor.web.app",
    "mcp": "mcp; import attractor.feed.mcp",
    "ray": "ray; import attractor.cluster",
    "vectors": "usearch; import attractor.feed.meaning",
    "papers": "ot; import attractor.papers",
}
CARRIED = {"ray": {"psutil", "colorama"}}  # packages of those names in a folder of the extra's own
HIDE = """
import sys
hidden = set({hidden!r})
class Hide:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in hidden:
            raise ModuleNotFoundError(f"No module named {{name!r}} (hidden)", name=name)
sys.meta_path.insert(0, Hide())
import {modules}
"""


def main() -> int:
    failed = []
    with tempfile.TemporaryDirectory() as folder:
        wheel = built(Path(folder))
        for version, python in pythons().items():
            failed += installed(wheel, python, Path(folder) / version)
    for extra, modules in BRINGS.items():
        try:
            alone(extra, modules)
        except (subprocess.CalledProcessError, metadata.PackageNotFoundError) as error:
            failed.append(f"[{extra}]: {getattr(error, 'stderr', '') or error}")
    print("\n".join([f"failed: {f}" for f in failed]) or "all work")
    return bool(failed)


def pythons() -> dict[str, str]:
    """Interpreters by version: this one, and those of other versions that the package names and this machine has."""
    known = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["classifiers"]
    versions = [line.rpartition(" ")[2] for line in known if re.search(r":: 3\.\d+$", line)]
    root = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    found = {f"{sys.version_info[0]}.{sys.version_info[1]}": sys.executable}
    for version in versions:
        for python in (f"python{version}", *sorted(map(str, root.glob(f"{version}.*/bin/python")))):
            try:
                subprocess.run([python, "-c", "import ensurepip, venv"], check=True, capture_output=True)
            except (OSError, subprocess.CalledProcessError):  # none, one without pip, or pyenv's stand-in
                continue
            found.setdefault(version, python)
    print("Python", ", ".join(found), "of", ", ".join(versions), flush=True)
    return found


def built(folder: Path) -> Path:
    """The wheel."""
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    subprocess.run([*pip, "wheel", "--no-deps", "--wheel-dir", folder, ROOT], check=True)
    (wheel,) = folder.glob("*.whl")
    print(f"{wheel.name}: {wheel.stat().st_size / 2**20:.1f} MiB")
    return wheel


def installed(wheel: Path, python: str, folder: Path) -> list[str]:
    """What fails of the wheel in an empty environment of an interpreter, without extras."""
    subprocess.run([python, "-m", "venv", folder / "env"], check=True)
    commands = folder / "env" / "bin"
    own = [commands / "python", "-m", "pip", "--disable-pip-version-check", "--quiet", "install", "--no-compile"]
    subprocess.run([*own, "-c", ROOT / "constraints.txt", wheel], check=True)
    work = folder / "work"
    work.mkdir()
    (work / "mine.py").write_text(MINE)
    (work / "runs.csv").write_text("step,loss\n" + "".join(f"{i},{1 / (i + 1)}\n" for i in range(200)))
    empty = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "ATTRACTOR", "XDG_"))}
    empty |= {"HOME": str(folder)}

    def run(command: tuple[str, ...]) -> subprocess.CompletedProcess:
        whole = [commands / command[0], *command[1:]]
        return subprocess.run(whole, cwd=work, env=empty, capture_output=True, text=True, check=False)

    failed = []
    for command in SMOKE:
        found = run(command)
        told = f"Python {folder.name}: {' '.join(command)}"
        print(f"{'ok' if found.returncode == 0 else 'FAILED'}: {told}", flush=True)
        if found.returncode != 0:
            failed.append(f"{told}: {found.stdout[-1000:]}{found.stderr[-2000:]}")
    for line, extra in WITHOUT.items():
        found = run(tuple(line.split()))
        if found.returncode != 2 or extra not in found.stderr:
            failed.append(f"{line} does not say that it needs {extra}: {found.stderr[-1000:]}")
    for what, command in {"import attractor": ("python", "-c", "import attractor"), "papers": SMOKE[0]}.items():
        seconds = min(_processor_seconds(lambda c=command: run(c)) for _ in range(5))
        print(f"{what}: {seconds:.2f} s of processors")
    return failed


def _processor_seconds(work) -> float:
    before = os.times()
    work()
    after = os.times()
    return after.children_user + after.children_system - before.children_user - before.children_system


def alone(extra: str, modules: str) -> None:
    """Import what an extra brings, with every distribution hidden that this extra alone would not bring."""
    brought = _closure([f"attractor[{extra}]"])
    hidden = {
        top for top, names in metadata.packages_distributions().items() if not brought & {_canonical(n) for n in names}
    }
    code = HIDE.format(
        hidden=sorted(hidden - {"attractor", "packaging"} - CARRIED.get(extra, set())),
        modules=modules.replace("; import", ","),
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=ROOT)
    print(f"ok: [{extra}] alone: {modules}")


def _closure(asked: list[str]) -> set[str]:
    """Every distribution that these requirements bring, by canonical name."""
    found: set[str] = set()
    left, seen = [Requirement(a) for a in asked], set()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    while left:
        wanted = left.pop()
        key = (_canonical(wanted.name), frozenset(wanted.extras))
        if key in seen:
            continue
        seen.add(key)
        found.add(key[0])
        if key[0] == "attractor":
            lines = [*project["dependencies"], *(r for e in wanted.extras for r in project["optional-dependencies"][e])]
            left += map(Requirement, lines)
            continue
        try:
            lines = metadata.requires(wanted.name) or []
        except metadata.PackageNotFoundError:  # an optional part that this machine has not
            continue
        for line in map(Requirement, lines):
            if line.marker is None or any(line.marker.evaluate({"extra": e}) for e in ("", *wanted.extras)):
                left.append(line)
    return found


def _canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


if __name__ == "__main__":
    sys.exit(main())
