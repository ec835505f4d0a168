"""Independent work comes back whole, from one process or several, and workers end with their parent."""

import hashlib
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures.process import BrokenProcessPool

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from attractor import cluster, compare, engine, run
from attractor.backends import spread
from attractor.checkpoint import CheckpointError
from attractor.problems import rotated_quadratic
from attractor.progress import heard_by

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


@pytest.fixture
def carried(monkeypatch):
    """A cluster's units in this process: all that goes there and comes back is packed, and its work is unpacked."""
    packing = pytest.importorskip("ray.cloudpickle", reason="the cluster's library is an extra")
    done = []

    def stand_in(work, items, address=None, cpus=1.0, alike=False, lost=None):
        packed = packing.dumps(work)
        unit, digest = cluster._unit_alike if alike else cluster._unit, hashlib.sha256(packed).hexdigest()
        for item in items:
            done.append(item)
            yield item, packing.loads(packing.dumps(unit(digest, packed, packing.loads(packing.dumps(item)))))

    monkeypatch.setattr(cluster, "spread", stand_in)
    monkeypatch.setattr(cluster, "cores", lambda address=None: 1)
    return done


def test_the_units_of_a_sweep_are_its_programs_and_carry_their_checkpoints(carried, tmp_path):
    kept, told = tmp_path / "kept", []
    rates = [1e-3, 1e-2, 0.1, 0.2, 1e30]
    how = {"steps": 70, "every": 10, "sweep": {"learning_rate": rates}, "seeds": [3, 5, 8], "lanes": 4}
    here = run(rotated_quadratic(), optax.adam, **how)
    with heard_by(lambda label, done, total, unit: told.append((done, total))):
        far = run(rotated_quadratic(), optax.adam, **how, backend="ray", checkpoint=kept)
    assert far.dataset.identical(here.dataset)
    jax.tree.map(np.testing.assert_array_equal, far.final, here.final)
    assert told == [(70.0 * i, 280) for i in range(5)]  # 15 lanes are 4 programs, the last filled up
    assert sorted(p.name for p in kept.iterdir()) == [f"part-{i}.ckpt" for i in range(4)]
    (kept / "part-2.ckpt").unlink()
    longer = how | {"steps": 100}
    far = run(rotated_quadratic(), optax.adam, **longer, backend="ray", checkpoint=kept)
    sent = [sorted(folder.files) for *_, folder in carried[4:]]
    assert sent == [["part-0.ckpt"], ["part-1.ckpt"], [], ["part-3.ckpt"]]
    assert far.dataset.identical(run(rotated_quadratic(), optax.adam, **longer).dataset)
    assert far.dataset.identical(run(rotated_quadratic(), optax.adam, **longer, checkpoint=kept).dataset)
    with pytest.raises(CheckpointError, match=f"checkpoint: {kept}/part-0.ckpt belongs to another run"):
        run(rotated_quadratic(), optax.adam, **how | {"seeds": 3}, backend="ray", checkpoint=kept)
    whole = {k: v for k, v in how.items() if k != "lanes"}
    far = run(rotated_quadratic(), optax.adam, **whole, backend="ray")
    assert far.dataset.identical(run(rotated_quadratic(), optax.adam, **whole).dataset)
    assert len(carried) == 4 + 4 + 1 + 1


def test_pieces_that_memory_makes_are_kept_by_the_unit_they_are_of(carried, tmp_path, monkeypatch):
    how = {"steps": 20, "every": 10, "sweep": {"learning_rate": list(np.geomspace(0.01, 0.1, 10))}, "seeds": 3}
    probes = {"loss": lambda p, x, key: p.loss(x, None), "row": lambda p, x, key: jnp.full(10_000, x[0])}
    monkeypatch.setattr(engine, "free_memory", lambda: 1e6)
    far = run(rotated_quadratic(), optax.adam, **how, probes=probes, backend="ray", checkpoint=tmp_path)
    files = sorted(p.name for p in tmp_path.iterdir())
    assert len(files) > 1
    assert all(re.fullmatch(r"part-0-\d+-\d+\.ckpt", name) for name in files)
    monkeypatch.setattr(engine, "_program", lambda *given: pytest.fail("a program ran"))
    again = run(rotated_quadratic(), optax.adam, **how, probes=probes, backend="ray", checkpoint=tmp_path)
    assert sorted(carried[1][2].files) == files
    assert again.dataset.identical(far.dataset)


def test_what_a_sweep_on_a_cluster_cannot_be_is_said():
    for wrong, message in (
        ({"backend": "dask"}, "backend: expected one of local, ray, got 'dask'"),
        ({"address": "head:1"}, "address: only backend='ray' has one"),
        ({"backend": "ray", "sharding": {}}, "sharding: not with backend='ray'"),
    ):
        with pytest.raises(ValueError, match=message):
            run(rotated_quadratic(), optax.sgd(0.1), steps=1, **wrong)
    jobs = engine._jobs(optax.sgd, [{"learning_rate": r} for r in (0.1, 0.2)], [0, 1, 2], None, frozenset())
    with pytest.warns(UserWarning, match="lanes: 1 programs for 4 cores, 6 lanes in all; lanes=2 spreads them"):
        engine._warn_of_few(jobs, 4)


def test_methods_on_a_cluster_carry_their_checkpoints(carried, tmp_path, monkeypatch):
    how = {"seeds": 3, "budget": 2, "tuning_seeds": [90], "steps": 10, "progress": False}
    here = compare(rotated_quadratic(), ["sgd", "adam"], **how)
    far = compare(rotated_quadratic(), ["sgd", "adam"], **how, backend="ray", checkpoint=tmp_path)
    assert {p.parent.parent.name for p in tmp_path.rglob("part-0.ckpt")} == {"sgd", "adam"}
    monkeypatch.setattr(engine, "_program", lambda *given: pytest.fail("a program ran"))
    again = [compare(rotated_quadratic(), ["sgd", "adam"], **how, checkpoint=tmp_path)]
    again.append(compare(rotated_quadratic(), ["sgd", "adam"], **how, checkpoint=tmp_path, backend="ray"))
    assert list(carried[-1][2].files) == [
        f"adam/{p.parent.name}/part-0.ckpt" for p in sorted(tmp_path.rglob("adam/*/*"))
    ]
    for found in (far, *again):
        for name in here.entries:
            np.testing.assert_array_equal(found[name].final, here[name].final)
