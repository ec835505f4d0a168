"""Independent work comes back whole, from one process or several, and workers end with their parent."""

import os
import signal
import subprocess
import sys
import time

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
