"""Shape and type annotations of the whole package are checked at run time in every test."""

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # as in the Makefile; before NumPy is imported
os.environ.setdefault("PJRT_NPROC", "1")  # a core for each worker; before JAX's backend starts

# Compiling is what the tests cost, and these two take a third off it: XLA's earlier code generator for fused loops, and
# one LLVM module a program instead of many. Flags of one's own come later, so that they win.
QUICKLY = "--xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1"
os.environ["XLA_FLAGS"] = f"{QUICKLY} {os.environ.get('XLA_FLAGS', '')}".strip()

from jaxtyping import install_import_hook  # noqa: E402

install_import_hook("attractor", "typecheck.check")

import gc  # noqa: E402
import time  # noqa: E402
from pathlib import Path  # noqa: E402

import jax  # noqa: E402
import pytest  # noqa: E402

MAPS = Path("/proc/self/maps")


@pytest.fixture(autouse=True)
def own_home(tmp_path, monkeypatch):
    """Every test keeps its results in a folder of its own."""
    monkeypatch.setenv("ATTRACTOR_HOME", str(tmp_path / "home"))


@pytest.fixture
def unoptimized():
    """Programs as they are written, which compile in two thirds of the time: for tests of how parts fit together.

    What a method computes is tested, optimized, in its own file.
    """
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


@pytest.fixture(autouse=True)
def drop_programs():
    """Linux lets a process map 65,530 regions; each compiled program takes some, and XLA crashes at the limit."""
    yield
    if MAPS.exists() and len(MAPS.read_bytes().splitlines()) > 20_000:
        jax.clear_caches()
        gc.collect()


SPENT: dict[str, float] = {}
REPORT = "cpu_times"


def pytest_addoption(parser):
    parser.addoption("--cpu-times", action="store_true", help="print the CPU seconds that each folder's tests took")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item):
    """CPU seconds of a test with its fixtures, on the account of its folder (of its file, for those in none)."""
    begun = time.process_time()
    result = yield
    place = Path(item.path).relative_to(Path(__file__).parent).parts[0]
    SPENT[place] = SPENT.get(place, 0.0) + time.process_time() - begun
    return result


@pytest.hookimpl(wrapper=True)
def pytest_collection(session):
    begun = time.process_time()
    result = yield
    SPENT["(collection)"] = time.process_time() - begun
    return result


def pytest_sessionfinish(session):
    if hasattr(session.config, "workeroutput"):  # a worker of xdist; the controller adds them up
        session.config.workeroutput[REPORT] = SPENT


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node, error):
    for place, seconds in getattr(node, "workeroutput", {}).get(REPORT, {}).items():
        SPENT[place] = SPENT.get(place, 0.0) + seconds


def pytest_terminal_summary(terminalreporter, config):
    if config.getoption("--cpu-times"):
        terminalreporter.section("CPU seconds")
        for place, seconds in sorted(SPENT.items(), key=lambda entry: -entry[1]):
            terminalreporter.write_line(f"{seconds:8.1f}  {place}")
        terminalreporter.write_line(f"{sum(SPENT.values()):8.1f}  all")
