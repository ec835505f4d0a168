"""Shape and type annotations of the whole package are checked at run time in every test."""

import os
from importlib.metadata import version

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # as in the Makefile; before NumPy is imported
os.environ.setdefault("PJRT_NPROC", "1")  # a core for each worker; before JAX's backend starts

# Compiling is what the tests cost, and this halves it: XLA's earlier code generator for fused loops, one LLVM module a
# program instead of many, and no optimizations by LLVM. What one sets oneself wins: `tests/portable.py` optimizes.
# XLA ends the process at a flag that it does not know, so other releases than the pinned ones go without.
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
PINNED = version("jax").startswith("0.10.")
QUICKLY = "--xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1"
if PINNED:
    os.environ["XLA_FLAGS"] = f"{QUICKLY} {os.environ.get('XLA_FLAGS', '')}".strip()

from jaxtyping import install_import_hook  # noqa: E402

install_import_hook("attractor", "typecheck.check")

import signal  # noqa: E402

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as shells start what runs in the background: tests press Ctrl-C
    signal.signal(signal.SIGINT, signal.default_int_handler)

import gc  # noqa: E402

gc.disable()  # until the tests are collected: what is imported stays

import functools  # noqa: E402
import itertools  # noqa: E402
import time  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any  # noqa: E402

import jax  # noqa: E402
import numpy as np  # noqa: E402
import pytest  # noqa: E402
from jax._src.interpreters import mlir  # noqa: E402

MAPS = Path("/proc/self/maps")
TESTS = itertools.count(1)
FIRST: dict[str, Any] = {}  # by file: the state of its generator before its first test

# JAX makes one for each program, a quarter of what a small one costs to compile; they are made to be shared by threads.
shared_context = functools.cache(mlir.make_ir_context)
if PINNED:
    mlir.make_ir_context = shared_context


@pytest.fixture(autouse=True)
def own_home(tmp_path, monkeypatch):
    """Every test keeps its results in a folder of its own."""
    monkeypatch.setenv("ATTRACTOR_HOME", str(tmp_path / "home"))


@pytest.fixture(autouse=True)
def same_numbers(request):
    """A file's generator gives each of its tests the same numbers, whichever ran before it in this process."""
    if isinstance(generator := getattr(request.module, "RNG", None), np.random.Generator):
        first = FIRST.setdefault(request.module.__name__, generator.bit_generator.state)
        generator.bit_generator.state = first


@pytest.fixture(autouse=True)
def drop_programs():
    """Linux lets a process map 65,530 regions; each compiled program takes some, and XLA crashes at the limit.

    Counting them takes 1 µs each: after every tenth test, as no test takes a thousand.
    """
    yield
    if next(TESTS) % 10 == 0 and MAPS.exists() and len(MAPS.read_bytes().splitlines()) > 30_000:
        jax.clear_caches()
        shared_context.cache_clear()
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


def pytest_collection_finish():
    """A garbage collection that looks through all that is imported takes a second: it need not look there."""
    gc.freeze()
    gc.set_threshold(20_000, 10, 10)
    gc.enable()


def pytest_unconfigure():
    gc.unfreeze()  # or what is left at the end counts as leaked


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


@pytest.fixture
def one_torch_thread():
    """How many threads its products of matrices take depends on the machine's load, and their last bits on that."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
