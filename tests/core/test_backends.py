"""Independent work comes back whole, from one process or several, and workers end with their parent."""

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures.process import BrokenProcessPool

import pytest

from attractor.backends import spread

PARENT = """
import os, time
from attractor.backends import spread

def work(item):
    print(os.getpid(), flush=True)
    time.sleep(60)

if __name__ == "__main__":
    list(spread(work, [0, 1], jobs=2))
"""

# Without more threads than cores it never comes back, see docs/upstream/jax-batched-lapack-hangs.md.
DECOMPOSITIONS = """
import attractor
import jax
import jax.numpy as jnp

def both(a, b):
    return jnp.linalg.cholesky(a).sum() + jnp.linalg.cholesky(b).sum()

a, b = (jnp.broadcast_to(2 * jnp.eye(n), (256, n, n)) for n in (65, 64))
shifted = lambda _, s: s + 1e-12 * jnp.sum(jax.vmap(both)(a + s, b + s))
print(float(jax.lax.fori_loop(0, 200, shifted, 0.0)) > 0)
"""


def square(x: int) -> int:
    if x < 0:
        raise ValueError(f"x: expected at least 0, got {x}")
    return x * x


@pytest.mark.parametrize("jobs", [1, 2])
def test_every_item_comes_back_with_its_result(jobs):
    assert dict(spread(abs, range(-3, 4), jobs)) == {i: abs(i) for i in range(-3, 4)}


def test_one_job_keeps_the_order_and_raises_what_the_work_raises():
    done = spread(square, [2, 1, -1])
    assert [next(done), next(done)] == [(2, 4), (1, 1)]
    with pytest.raises(ValueError, match="at least 0"):
        next(done)


def test_jobs_are_counted():
    with pytest.raises(ValueError, match="jobs"):
        list(spread(abs, [1], jobs=0))


DEADLY = """
import os, signal
from pathlib import Path

def work(item):
    (log, what) = item
    with open(log, "a") as file:
        file.write(f"{what}\\n")
    if what == "exit":
        os._exit(3)
    if what == "once" and Path(log).read_text().count("once") == 1:
        os.kill(os.getpid(), signal.SIGTERM)
    return what.upper()
"""


@pytest.fixture
def deadly(tmp_path, monkeypatch):
    """What ends its process by request; and items for it, which write down that they were begun."""
    (tmp_path / "deadly.py").write_text(DEADLY)
    monkeypatch.syspath_prepend(str(tmp_path))
    import deadly  # pyright: ignore[reportMissingImports]

    log = str(tmp_path / "log")
    yield deadly.work, lambda *what: [(log, w) for w in what], lambda: Counter((tmp_path / "log").read_text().split())
    del sys.modules["deadly"]


@pytest.mark.skipif(sys.platform == "win32", reason="signals as on POSIX")
def test_an_item_that_ends_its_process_is_tried_again_alone_and_then_lost(deadly):
    work, items, begun = deadly
    what = ("a", "once", "exit", "b")
    found = [(item[1], got) for item, got in spread(work, items(*what), 2, lost=lambda item, how: f"{item[1]}: {how}")]
    assert dict(found) == {"a": "A", "b": "B", "once": "ONCE", "exit": "exit: exit code 3"}
    assert {name for name, _ in found[2:]} == {"once", "exit"}  # after all others
    assert begun() == {"a": 1, "b": 1, "once": 2, "exit": 2}


def test_a_process_that_ends_is_an_error_unless_somebody_says_what_it_gives(deadly):
    work, items, _ = deadly
    with pytest.raises(BrokenProcessPool):
        list(spread(work, items("exit"), 2))


UNGUARDED = """
from attractor.backends import spread
print("begun")
list(spread(abs, [1, 2], 2, lost=lambda item, how: how))
"""


def test_a_script_without_a_guard_is_told_so_and_ends(tmp_path):
    """Each process would begin by running the script, and so start others."""
    (tmp_path / "script.py").write_text(UNGUARDED)
    command = [sys.executable, str(tmp_path / "script.py")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 1
    assert "BrokenProcessPool" in done.stderr
    assert done.stdout.count("begun") <= 3  # here, and in two processes


@pytest.mark.skipif(sys.platform == "win32", reason="signals as on POSIX")
def test_workers_end_with_their_parent(tmp_path):
    script = tmp_path / "parent.py"
    script.write_text(PARENT)
    parent = subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    workers = [int(parent.stdout.readline()) for _ in range(2)]
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    for worker in workers:
        for _ in range(600):  # waits on the operating system, not on a clock of ours
            try:
                os.kill(worker, 0)
            except ProcessLookupError:
                break
            time.sleep(0.05)
        else:
            pytest.fail(f"worker {worker} outlived its parent")


def test_decompositions_of_many_lanes_do_not_wait_for_each_other():
    environment = {k: v for k, v in os.environ.items() if k not in ("PJRT_NPROC", "NPROC")}
    done = subprocess.run(
        [sys.executable, "-c", DECOMPOSITIONS],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert (done.stdout, done.returncode) == ("True\n", 0), done.stderr
