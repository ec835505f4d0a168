"""Plant single-line mistakes in the methods' modules and count how many the tests notice: ``make mutants``.

A seeded sample of the mistakes that a good programmer makes (`mistakes`), spread evenly over rooms and modules, goes
one at a time into a copy of the sources. Against each run the tests that name the module or what it offers, its
namesake first, then the contract of the methods and parts it registers, up to the first failure; taking too long is a
failure. What survived is listed. ``--claims`` tries the papers on it too: a verdict that gets worse is a catch.

Equivalent changes, which no test can notice, are listed with their reason in ``mutants_equivalent.txt`` and not
sampled; nor are messages, validation, annotations, defaults, examples, and constants beside machine precision.

Why not a kept tool: mutmut has no operators of one's own, and wraps every function, which hides the annotations that
say what a method needs; cosmic-ray takes operators (from an installed distribution), but has one test command for
all modules, and writes its mutants into the working tree.
"""

import argparse
import ast
import multiprocessing
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from itertools import count, islice
from pathlib import Path
from queue import Queue

import pytest
from mistakes import PACKAGE, ROOT, TESTS, Mutant, equivalent, key, mutants, sample
from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress
from rich.table import Table
from rich.text import Text

CONTRACTS = ("test_contract.py", "test_contract_optax.py", "test_contract_parts.py")
STAMPS = count(10**9)
# What every run needs is imported once, and inherited. Nothing of it starts a thread, or JAX's backend.
PRELOAD = [
    "jax", "equinox", "optax.contrib", "diffrax", "lineax", "optimistix", "jaxtyping", "beartype", "pandas", "xarray",
    "scipy.optimize", "scipy.stats", "sklearn.datasets", "plotly.graph_objects", "pytest",
]  # fmt: skip


def public_names(path: Path) -> set[str]:
    nodes = (n for n in ast.parse(path.read_text()).body if isinstance(n, ast.FunctionDef | ast.ClassDef))
    return {n.name for n in nodes if not n.name.startswith("_")}


def words(path: Path) -> set[str]:
    return set(re.findall(r"\w+", path.read_text()))


def tests_of(path: Path) -> list[str]:
    """The test files that name the module or one of its public names: its namesake, then small ones, first."""
    public, room = public_names(ROOT / path), path.relative_to(PACKAGE).parts[0]
    module = ".".join(path.with_suffix("").parts[1:])
    chosen = []
    for test in (t for t in TESTS.rglob("test_*.py") if t.name not in CONTRACTS):
        text = test.read_text()
        imports = re.search(rf"attractor\.{room}\b|from attractor import [^\n]*\b{room}\b", text)
        if module in text or (imports and public & words(test)):
            chosen.append(test)
    chosen.sort(key=lambda t: (t.name != f"test_{path.name}", t.stat().st_size))
    return [t.relative_to(ROOT).as_posix() for t in chosen]


class Chosen:
    """A pytest plugin: of the contract the named methods and parts alone; remembers what failed."""

    def __init__(self, names: set[str]):
        self.names, self.failed = names, []

    def pytest_collection_modifyitems(self, items: list) -> None:
        named = [getattr(item, "callspec", None) and item.callspec.params.get("name") in self.names for item in items]
        items[:] = [i for i, mine in zip(items, named, strict=True) if mine or i.path.name not in CONTRACTS]

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.failed += [report.nodeid] if report.failed else []

    pytest_collectreport = pytest_runtest_logreport


def child(copy: Path, groups: list[list[str]], names: set[str]) -> None:
    """Run groups of tests on a copy, up to the first failure, and write which that was; never returns."""
    code = 3
    try:
        os.chdir(copy)
        sys.path.insert(0, str(copy / "src"))
        log = os.open(copy / "log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        for stream in (1, 2):
            os.dup2(log, stream)
        plugin, options = Chosen(names), ["-x", "-q", "-p", "no:cacheprovider", "-W", "ignore"]
        for group in filter(None, groups):
            code = int(pytest.main([*options, *group], plugins=[plugin]))
            if code not in (0, 5):  # 5: no test was found
                break
        (copy / "failed").write_text("\n".join(plugin.failed[:1]))
    finally:
        os._exit(code)


def run(copy: Path, groups: list[list[str]], names: set[str], timeout: float) -> tuple[str, str]:
    """What became of a copy (survived, caught or slow), and by which test."""
    (copy / "failed").write_text("")
    process = multiprocessing.get_context("forkserver").Process(target=child, args=(copy, groups, names))
    process.start()
    process.join(timeout)
    if process.is_alive():
        process.kill()
        return "slow", ""
    return "survived" if process.exitcode in (0, 5) else "caught", (copy / "failed").read_text()


def try_one(copy: Path, mutant: Mutant, timeout: float, claims: bool) -> tuple[str, str]:
    """Plant one mutant into a copy, run what may notice it, and take it out again."""
    target, source = copy / mutant.path, (copy / mutant.path).read_text()
    lines = source.splitlines(keepends=True)
    lines[mutant.line - 1] = mutant.after + "\n"
    names = set(re.findall(r'\bmethod\(\s*"([^"]+)"|\bpart\(\s*"[^"]+",\s*"([^"]+)"', source))
    kinds = [k for k in CONTRACTS if re.search(r"\bpart\(" if "parts" in k else r"\bmethod\(", source)]
    stat = target.stat()
    try:
        target.write_text("".join(lines))
        os.utime(target, (next(STAMPS),) * 2)  # no compiled file of another text is taken for it
        groups = [tests_of(mutant.path), [f"tests/{k}" for k in kinds]]
        outcome = run(copy, groups, {name for pair in names for name in pair if name}, timeout)
        return check(copy, mutant) if outcome[0] == "survived" and claims else outcome
    finally:
        target.write_text(source)
        os.utime(target, (stat.st_atime, stat.st_mtime))


def check(copy: Path, mutant: Mutant) -> tuple[str, str]:
    """Whether a verdict of a paper that uses the module gets worse."""
    papers = copy / PACKAGE / "papers" / mutant.path.relative_to(PACKAGE).parts[0]
    for paper in sorted(p for p in papers.glob("[a-z]*.py") if public_names(copy / mutant.path) & words(p)):
        command = [sys.executable, "-m", "attractor", "check", paper.stem.replace("_", "-"), "--stale"]
        environment = os.environ | {"PYTHONPATH": str(copy / "src"), "ATTRACTOR_HOME": str(copy / "home")}
        if subprocess.run(command, cwd=copy, env=environment, capture_output=True).returncode:
            return "caught", f"claims of {paper.stem}"
    return "survived", ""


def fresh_copy(folder: Path) -> Path:
    """Sources and tests, which may be edited meanwhile; the rest of the project by links."""
    folder.mkdir()
    for entry in ROOT.iterdir():
        if entry.name in ("src", "tests"):
            shutil.copytree(entry, folder / entry.name, ignore=shutil.ignore_patterns("__pycache__"))
        elif not entry.name.startswith("."):
            (folder / entry.name).symlink_to(entry)
    return folder


def still_there(change: tuple[str, ...]) -> bool:
    path = PACKAGE / change[0]
    return (ROOT / path).exists() and change in map(key, mutants(path))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=0, help="of the sample")
    parser.add_argument("--number", type=int, default=60, help="mutants to try")
    parser.add_argument("--skip", type=int, default=0, help="begin later in the sample, where an earlier run ended")
    parser.add_argument("--module", help="only modules with this in their path")
    parser.add_argument("--claims", action="store_true", help="try the papers' claims on what survives the tests")
    parser.add_argument("--jobs", type=int, default=1, help="mutants at a time")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="begin no further mutant after so long")
    parser.add_argument("--timeout", type=float, default=300.0, help="seconds until a run counts as caught")
    parser.add_argument("--least", type=float, default=0.95, help="share to be caught; less is exit code 1")
    arguments = parser.parse_args()
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(Path(tempfile.gettempdir()) / "attractor-mutants"))
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.1")
    multiprocessing.get_context("forkserver").set_forkserver_preload(PRELOAD)
    chosen = list(islice(sample(arguments.seed, arguments.module), arguments.skip, arguments.skip + arguments.number))
    table = Table("where", "operator", "change", title="not noticed")
    caught_by: dict[str, str] = {}
    outcomes: Counter[str] = Counter()
    columns = (*Progress.get_default_columns(), MofNCompleteColumn())
    with tempfile.TemporaryDirectory() as folder, Progress(*columns) as bar:
        copies: Queue[Path] = Queue()
        for i in range(arguments.jobs):
            copies.put(fresh_copy(Path(folder) / f"copy{i}"))
        task, until = bar.add_task("mutants", total=len(chosen)), time.monotonic() + 60 * arguments.minutes

        def one(mutant: Mutant) -> tuple[str, str, float]:
            copy, begun = copies.get(), time.monotonic()
            try:
                if begun > until:
                    return "left", "", 0.0
                return *try_one(copy, mutant, arguments.timeout, arguments.claims), time.monotonic() - begun
            finally:
                copies.put(copy)

        with ThreadPoolExecutor(arguments.jobs) as pool:
            for mutant, (outcome, test, seconds) in zip(chosen, pool.map(one, chosen), strict=True):
                if outcome == "left":
                    continue
                where = f"{mutant.path.relative_to(PACKAGE)}:{mutant.line}"
                outcomes[outcome] += 1
                caught_by.setdefault(test, where)
                if outcome == "survived":
                    table.add_row(where, mutant.operator, Text(f"- {mutant.before}\n+ {mutant.after.strip()}"))
                change = f"{where}  {mutant.operator}: {mutant.after.strip()}"
                print(f"{seconds:5.0f} s  {outcome:8}  {change}  {test.rpartition('/')[2]}", flush=True)
                bar.advance(task)
        # A test that fails anyway has caught nothing.
        suspects = sorted(test for test in caught_by if "::" in test)
        names = {test.partition("[")[2].rstrip("]") for test in suspects}
        failing = run(copies.get(), [suspects], names, 20 * arguments.timeout)[1] if suspects else ""
    console, caught, tried = Console(), outcomes["caught"] + outcomes["slow"], outcomes.total()
    console.print(table)
    for module, operator, line in sorted(known for known in equivalent() if not still_there(known)):
        console.print(f"no longer there, see mutants_equivalent.txt: {module} | {operator} | {line}")
    console.print(f"{caught} of {tried} caught ({100 * caught / max(tried, 1):.0f} %); seed {arguments.seed}")
    if failing:
        console.print(f"not to be trusted: {failing} fails without any change too, and caught {caught_by[failing]}")
    return 2 if failing else int(caught < arguments.least * tried)


if __name__ == "__main__":
    sys.exit(main())
