"""The package as users install it: the built wheel in an empty environment, without extras; then each extra alone.

Usage: ``python tests/wheel.py``. Without extras the commands of the README's first page must work, under every version
of Python among the classifiers that this machine has (on the path, or by pyenv). Where it also has a CPU build of
PyTorch for that version, a PyTorch loop is compared there, and Lightning and transformers train with our callbacks. An
extra is tried in an environment where more are installed, by hiding every distribution that the package with only this
extra would not bring. Figures of the import and of `attractor papers` are printed: processor seconds, the best of five.
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
    ("attractor", "compare", "loop.py:train", "adam", "lion", "--seeds", "2", "--budget", "2", "--jobs", "2"),
    ("python", "mine.py"),
)
TORCH = "torch==2.13.0+cpu"  # as in the Makefile
PYTORCH = ("attractor", "compare", "net.py:train", "adamw", "muon", "--seeds", "2", "--budget", "2", "--jobs", "2")
CALLBACKS = "tests/diagnosis/test_callbacks.py"
MINE = """
import jax.numpy as jnp, optax
from attractor import Minimization, run
problem = Minimization(lambda w: jnp.sum((w - 3.0) ** 2), jnp.zeros(2))
if __name__ == "__main__":
    trace = run(problem, optax.adam(0.1), steps=100)
    trace.save("trace.parquet")
    trace.plot()
"""
LOOP = """
import jax, jax.numpy as jnp, optax

def train(make_optimizer, seed):
    optimizer = make_optimizer()
    x = jax.random.normal(jax.random.key(seed), (2,))
    state = optimizer.init(x)
    for step in range(20):
        updates, state = optimizer.update(2 * (x - 3.0), state, x)
        x = optax.apply_updates(x, updates)
        yield {"loss": float(jnp.sum((x - 3.0) ** 2))}
"""
NET = """
import torch

def train(make_optimizer, seed):
    torch.manual_seed(seed)
    model = torch.nn.Sequential(torch.nn.Linear(3, 8), torch.nn.Tanh(), torch.nn.Linear(8, 1))
    optimizer = make_optimizer(model.named_parameters())
    inputs = torch.randn(64, 3)
    for step in range(20):
        loss = torch.nn.functional.mse_loss(model(inputs), inputs.sum(1, keepdim=True))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        yield {"loss": loss.item()}
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
FRAMEWORKS = {  # tried beside each other; the last two are not among the development extras
    "torch": BRINGS["torch"],
    "lightning": "lightning.pytorch; import attractor.diagnosis.callbacks as c; c.LightningMonitor()",
    "transformers": "transformers, accelerate; import attractor.diagnosis.callbacks as c; c.TrainerMonitor()",
}
CARRIED = {"ray": {"psutil", "colorama"}}  # packages of those names in a folder of the extra's own
HIDE = """
import importlib.machinery, importlib.metadata, re, sys
class Brought(importlib.machinery.PathFinder):  # what is hidden is neither found nor among what is installed
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.partition(".")[0] in {hidden!r} else super().find_spec(name, path, target)
    @classmethod
    def find_distributions(cls, context=importlib.metadata.DistributionFinder.Context()):
        for found in super().find_distributions(context):
            if re.sub("[-_.]+", "-", found.metadata["Name"]).lower() in {brought!r}:
                yield found
sys.meta_path[sys.meta_path.index(importlib.machinery.PathFinder)] = Brought
import {modules}
"""


def main(extras: list[str]) -> int:
    if extras:  # by ourselves, in an environment that has them
        failed = tried(extras)
    else:
        with tempfile.TemporaryDirectory() as folder:
            wheel = built(Path(folder))
            failed = [
                f for version, python in pythons().items() for f in installed(wheel, python, Path(folder, version))
            ]
        failed += tried(list(BRINGS))
    print("\n".join([f"failed: {f}" for f in failed] or ["all work"]))
    return bool(failed)


def tried(extras: list[str]) -> list[str]:
    """What fails of these extras, each alone, in this environment."""
    failed = []
    for extra in extras:
        try:
            alone(extra, (BRINGS | FRAMEWORKS)[extra])
        except (subprocess.CalledProcessError, metadata.PackageNotFoundError) as error:
            failed.append(f"[{extra}]: {getattr(error, 'stderr', '') or error}")
    return failed


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
    """What fails of the wheel in an empty environment of an interpreter: without extras, then with PyTorch's."""
    subprocess.run([python, "-m", "venv", folder / "env"], check=True)
    commands, work = folder / "env" / "bin", folder / "work"
    pip = [commands / "python", "-m", "pip", "--disable-pip-version-check", "--quiet", "install", "--no-compile"]
    pip += ["-c", ROOT / "constraints.txt"]
    subprocess.run([*pip, wheel], check=True)
    work.mkdir()
    for name, text in {"mine.py": MINE, "loop.py": LOOP, "net.py": NET}.items():
        (work / name).write_text(text)
    (work / "runs.csv").write_text("step,loss\n" + "".join(f"{i},{1 / (i + 1)}\n" for i in range(200)))
    empty = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "ATTRACTOR", "XDG_"))}
    empty |= {"HOME": str(folder)}
    failed = []

    def run(*command: str | Path, cwd: Path = work) -> subprocess.CompletedProcess:
        whole = [commands / command[0], *command[1:]]
        return subprocess.run(whole, cwd=cwd, env=empty, capture_output=True, text=True, check=False)

    def works(*command: str, cwd: Path = work) -> None:
        found, told = run(*command, cwd=cwd), f"Python {folder.name}: {' '.join(command)}"
        print(f"{'ok' if found.returncode == 0 else 'FAILED'}: {told}", flush=True)
        if found.returncode != 0:
            failed.append(f"{told}: {found.stdout[-1000:]}{found.stderr[-2000:]}")

    for command in SMOKE:
        works(*command)
    for line, extra in WITHOUT.items():
        found = run(*line.split())
        if found.returncode != 2 or extra not in found.stderr:
            failed.append(f"{line} does not say that it needs {extra}: {found.stderr[-1000:]}")
    for what, command in {"import attractor": ("python", "-c", "import attractor"), "papers": SMOKE[0]}.items():
        seconds = min(_processor_seconds(lambda c=command: run(*c)) for _ in range(5))
        print(f"{what}: {seconds:.2f} s of processors")

    if subprocess.run([*pip, TORCH], check=False, capture_output=True).returncode != 0:
        print(f"note: no {TORCH} for Python {folder.name} here; its loops and the frameworks' extras are not tried")
        return failed
    works(*PYTORCH)
    subprocess.run([*pip, f"{wheel}[lightning,transformers]", "pytest"], check=True)
    # Not from our folder of tests: its set-up is for an environment with everything.
    works("python", "-m", "pytest", "--noconftest", "-c", os.devnull, "-k", "itself", str(ROOT / CALLBACKS))
    works("python", str(Path(__file__).resolve()), "--alone", *FRAMEWORKS, cwd=folder)
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
        brought=sorted(brought),
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
    sys.exit(main(sys.argv[2:] if sys.argv[1:2] == ["--alone"] else []))
