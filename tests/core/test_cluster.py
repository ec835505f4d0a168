"""Work on a Ray cluster: two nodes, one of them killed in the middle; what cannot run is said within seconds."""

import json
import os
import signal
import socket
import subprocess
import threading
from functools import partial
from pathlib import Path

import jax
import numpy as np
import optax
import pytest
from typer.testing import CliRunner

from attractor import LogUniform, Loop, cluster, compare, engine
from attractor.backends import spread
from attractor.cli import app
from attractor.engine import run
from attractor.problems import rotated_quadratic
from attractor.progress import heard_by

ray = pytest.importorskip("ray", reason="the cluster's library is an extra: pip install 'attractor[ray]'")
cluster_utils = pytest.importorskip("ray.cluster_utils", reason="this Ray has no clusters for tests")


NODE = """
import os, sys, threading

class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "attractor":
            raise ModuleNotFoundError(f"No module named {name!r}")

if os.environ.get("NODE_IS") == "bare":
    sys.meta_path.insert(0, Hidden())
if os.environ.get("NODE_IS") == "silent" and any("default_worker" in word for word in sys.orig_argv):
    threading.Event().wait()
"""


def losses(rate):
    return run(rotated_quadratic(), optax.sgd(rate), steps=5, seeds=2)["loss"].values


class Holding:
    """`losses`, but a unit that comes to one of the nodes never ends there, and leaves a sign that it has begun."""

    def __init__(self, node, sign):
        self.node, self.sign = node, sign

    def __call__(self, rate):
        if ray.get_runtime_context().get_node_id() == self.node:
            Path(self.sign).touch()
            threading.Event().wait()
        return losses(rate)


@pytest.fixture(scope="module")
def nodes():
    """The test process on a head of one core, and a second node of one core."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    # A lost node is noticed after some ten seconds instead of forty; a busy one is not taken for lost.
    soon = {"health_check_initial_delay_ms": 0, "health_check_period_ms": 1000, "health_check_failure_threshold": 10}
    head = {"num_cpus": 1, "include_dashboard": False, "_system_config": soon}
    found = cluster_utils.Cluster(initialize_head=True, head_node_args=head, shutdown_at_exit=True)
    second = found.add_node(num_cpus=1)
    ray.init(found.address, log_to_driver=False, logging_level="ERROR")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cluster, "STARTING", 300.0)  # a busy machine is no news
        yield found, second
    ray.shutdown()
    found.shutdown()


def test_what_a_killed_node_had_begun_runs_elsewhere_with_the_same_numbers(nodes, tmp_path):
    found, second = nodes
    sign = tmp_path / "begun"

    def kill():
        while not sign.exists():
            threading.Event().wait(0.05)
        found.remove_node(second, allow_graceful=False)

    killer = threading.Thread(target=kill, daemon=True)
    killer.start()
    rates = [0.1, 0.2, 0.3]
    units = dict(spread(Holding(second.node_id, str(sign)), rates, backend="ray"))
    killer.join()
    assert sorted(units) == sorted(rates)
    for rate in rates:
        np.testing.assert_array_equal(units[rate], losses(rate))
    while sum(node["Alive"] for node in ray.nodes()) > 1:  # the cluster is told of it a little later
        threading.Event().wait(0.05)


def ends_its_process_at_two(item, sign):
    if item == 2:
        with open(sign, "a") as begun:
            begun.write(".")
        os._exit(1)
    return item


def test_a_unit_that_always_ends_its_process_is_given_up(nodes, tmp_path, monkeypatch):
    monkeypatch.setattr(cluster, "AGAIN", 1)
    sign, how = tmp_path / "begun", "killed or crashed, out of memory perhaps, 2 times on the cluster"
    work = partial(ends_its_process_at_two, sign=sign)
    with pytest.raises(RuntimeError, match=f"process ended without a result: {how}; its item is 2"):
        list(spread(work, [2], backend="ray"))
    assert sign.read_text() == ".."
    found = dict(spread(work, [1, 2, 3], backend="ray", lost=lambda item, how: (item, how)))
    assert found == {1: 1, 2: (2, how), 3: 3}


class Descent:
    """Makes gradient descent, but stops for good where ``sign`` is to be left: on one node, or for one value."""

    def __init__(self, sign="", node="", nesterov=None):
        self.sign, self.node, self.stops_at = str(sign), node, nesterov

    def __call__(self, learning_rate, nesterov=False):
        there = ray.get_runtime_context()
        at_work = there.worker.mode == ray.WORKER_MODE
        if at_work and self.sign and (there.get_node_id() == self.node or nesterov == self.stops_at):
            Path(self.sign).touch()
            threading.Event().wait()
        return optax.sgd(learning_rate, momentum=0.5, nesterov=nesterov)


def when(there, then):
    """Do it in a thread as soon as all of the files are there."""

    def wait():
        while not all(path.exists() for path in there):
            threading.Event().wait(0.05)
        then()

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    return thread


def test_a_sweep_comes_back_as_it_is_here_though_a_node_is_killed(nodes, tmp_path):
    found, _ = nodes
    third, sign, kept, told = found.add_node(num_cpus=1), tmp_path / "begun", tmp_path / "kept", []
    rates = [1e-3, 1e-2, 0.1, 0.2, 1e30]
    how = {"steps": 70, "every": 10, "sweep": {"learning_rate": rates}, "seeds": [3, 5, 8], "lanes": 4}
    here = run(rotated_quadratic(), Descent(), **how)
    assert here.diverged.values.any(1).tolist() == [False] * 4 + [True]
    killer = when([sign], lambda: found.remove_node(third, allow_graceful=False))
    with heard_by(lambda label, done, total, unit: told.append((done, total))):
        far = run(rotated_quadratic(), Descent(sign, third.node_id), **how, backend="ray", checkpoint=kept)
    killer.join()
    assert far.dataset.identical(here.dataset)
    jax.tree.map(np.testing.assert_array_equal, far.final, here.final)
    assert told == [(70.0 * i, 280) for i in range(5)]  # 15 lanes are 4 programs, the last filled up
    assert sorted(p.name for p in kept.iterdir()) == [f"part-{i}.ckpt" for i in range(4)]
    (kept / "part-2.ckpt").unlink()
    longer = how | {"steps": 100}
    plain = run(rotated_quadratic(), Descent(), **longer)
    far = run(rotated_quadratic(), Descent(), **longer, checkpoint=kept, backend="ray")
    assert far.dataset.identical(plain.dataset)
    with pytest.raises(engine.CheckpointError, match=rf"checkpoint: {kept}/part-.\.ckpt belongs to another run"):
        run(rotated_quadratic(), Descent(), **how | {"seeds": 3}, checkpoint=kept, backend="ray")


def test_a_sweep_that_is_stopped_goes_on_here_or_there(nodes, tmp_path, monkeypatch):
    sign, kept = tmp_path / "begun", tmp_path / "kept"
    how = {"steps": 30, "sweep": {"nesterov": [False, True], "learning_rate": [0.1, 0.01]}, "seeds": 2}
    whole = run(rotated_quadratic(), Descent(), **how)
    when([sign, kept / "part-0.ckpt"], lambda: os.kill(os.getpid(), signal.SIGINT))
    with pytest.raises(KeyboardInterrupt):
        run(rotated_quadratic(), Descent(sign, nesterov=True), **how, backend="ray", checkpoint=kept)
    assert [p.name for p in kept.iterdir()] == ["part-0.ckpt"]
    before = (kept / "part-0.ckpt").stat().st_mtime_ns
    far = run(rotated_quadratic(), Descent(), **how, backend="ray", checkpoint=kept)
    assert far.dataset.identical(whole.dataset)
    assert (kept / "part-0.ckpt").stat().st_mtime_ns == before  # it was not done again
    monkeypatch.setattr(engine, "_program", lambda *given: pytest.fail("a program ran"))
    assert run(rotated_quadratic(), Descent(), **how, checkpoint=kept).dataset.identical(whole.dataset)


def test_as_many_threads_decompose_there_as_here(monkeypatch):
    for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0, 3, 5}, raising=False)
    assert cluster.settings()["OPENBLAS_NUM_THREADS"] == "3"
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    assert "OPENBLAS_NUM_THREADS" not in cluster.settings()
    assert cluster.settings()["OMP_NUM_THREADS"] == "2"


def test_what_this_process_has_set_is_set_where_it_works(nodes):
    def found(item):
        import jax.numpy as jnp

        return str(jnp.ones(1).dtype), jax.config.jax_debug_nans

    with jax.enable_x64(not jax.config.jax_enable_x64), jax.debug_nans(True):
        ((_, there),) = cluster.spread(found, [0])
        assert there == found(0)


def test_a_node_that_cannot_work_is_named_in_time(nodes, tmp_path, monkeypatch):
    found, _ = nodes
    (tmp_path / "sitecustomize.py").write_text(NODE)
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    before = sum(node["Alive"] for node in ray.nodes())
    for kind, error, message in (
        ("bare", ValueError, r"node .* \(.*\) has no attractor for its Python, .*python.*; there, pip install 'attr"),
        ("silent", ConnectionError, r"no process has started on node .* \(.*\) for 5 seconds; `ray status`"),
    ):
        node = found.add_node(num_cpus=1, env_vars={"PYTHONPATH": path, "NODE_IS": kind})
        monkeypatch.setattr(cluster, "STARTING", 5.0 if kind == "silent" else cluster.STARTING)
        with pytest.raises(error, match=f"address: {message}"):
            list(cluster.spread(losses, [0.1]))
        found.remove_node(node, allow_graceful=False)
        while sum(node["Alive"] for node in ray.nodes()) > before:
            threading.Event().wait(0.05)


def test_what_a_unit_raises_is_raised_here_with_its_type(nodes):
    def fails(item):
        raise ZeroDivisionError(f"in unit {item}")

    with pytest.raises(ZeroDivisionError, match="in unit 3"):
        list(spread(fails, [3], backend="ray"))


def descend(make_optimizer, seed):
    x = np.random.default_rng(seed).normal(size=3)
    for _ in range(5):
        x = x - make_optimizer.config["learning_rate"] * 2 * x
        yield {"loss": float(x @ x)}


def test_comparisons_are_those_of_this_machine(nodes, tmp_path):
    plain = (lambda learning_rate: None, {"learning_rate": LogUniform(1e-3, 1.0)})
    told = []
    how = {"seeds": 3, "budget": 2, "tuning_seeds": [90], "progress": False}
    here = compare(Loop(descend), {"a": plain, "b": plain}, **how)
    far = compare(Loop(descend), {"a": plain, "b": plain}, **how, backend="ray", checkpoint=tmp_path)
    assert len(list(tmp_path.rglob("*.json"))) == 2 * (2 + 3)
    again = compare(Loop(descend), {"a": plain, "b": plain}, **how, checkpoint=tmp_path)
    for name in ("a", "b"):
        for other in (far, again):
            np.testing.assert_array_equal(other[name].final, here[name].final)
    here = compare(rotated_quadratic(), ["sgd", "adam"], steps=20, **how)
    far = compare(rotated_quadratic(), ["sgd", "adam"], steps=20, **how, backend="ray")
    assert list(far.entries) == ["sgd", "adam"]
    for name in far.entries:
        np.testing.assert_array_equal(far[name].final, here[name].final)
    kept = tmp_path / "programs"
    first = compare(rotated_quadratic(), ["sgd", "adam"], steps=10, **how, backend="ray", checkpoint=kept)
    assert {p.parent.parent.name for p in kept.rglob("part-0.ckpt")} == {"sgd", "adam"}
    with heard_by(lambda label, done, total, unit: told.append((unit, done))):
        far = compare(rotated_quadratic(), ["sgd", "adam"], steps=20, **how, checkpoint=kept)
    assert ("step", 10.0) in told  # here it goes on from where it ended there
    for name in first.entries:
        np.testing.assert_array_equal(far[name].final, here[name].final)


def test_a_unit_too_large_for_every_node_is_refused(nodes):
    cluster._answers(nodes[0].address)
    with pytest.raises(ValueError, match=r"cpus: a unit takes 64 cores, and the largest node of the cluster has 1"):
        list(cluster.spread(losses, [0.1], cpus=64))
    with pytest.raises(ValueError, match=r"cpus: expected a number > 0, got 0"):
        list(cluster.spread(losses, [0.1], cpus=0))


def test_a_node_with_other_versions_is_named(nodes, monkeypatch):
    monkeypatch.setattr(cluster, "version", lambda name: "0.0.7")
    with pytest.raises(ValueError, match=r"address: node .* has .* numpy [1-9].*, here is .* numpy 0\.0\.7; install"):
        list(cluster.spread(losses, [0.1]))


def test_an_address_where_nobody_answers_is_said_at_once(monkeypatch):
    with socket.socket() as taken:  # bound and not listening: nobody answers, and nobody else can begin to
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        with pytest.raises(ConnectionError, match=rf"no Ray cluster answers at 127\.0\.0\.1:{port}"):
            cluster._answers(f"127.0.0.1:{port}")
    held = []

    def answer(server, says):
        held.append(server.accept()[0])
        held[-1].sendall(says)

    monkeypatch.setattr(cluster, "PATIENCE", 0.2)
    for says, message in ((b"", "timed out"), (b"HTTP/1.1 400 Bad Request\r\n\r\n", "something else")):
        with socket.create_server(("127.0.0.1", 0)) as other:  # somebody listens who is not Ray
            threading.Thread(target=answer, args=(other, says), daemon=True).start()
            with pytest.raises(ConnectionError, match=f"no Ray cluster answers at .*{message}"):
                cluster._answers(f"127.0.0.1:{other.getsockname()[1]}")
    with pytest.raises(ValueError, match=r"address: expected host:port"):
        cluster._answers("head")
    with pytest.raises(ValueError, match="address: only backend='ray' has one"):
        list(spread(losses, [0.1], address="a:1"))
    with pytest.raises(ValueError, match="backend: expected one of local, ray, got 'dask'"):
        list(spread(losses, [0.1], backend="dask"))


def test_claims_are_recorded_here_as_they_came_out_there(nodes, monkeypatch, tmp_path):
    found, _ = nodes
    monkeypatch.setenv("COLUMNS", "200")
    command = ["check", "gae", "--claim", "limits", "--replication", "7", "--json"]
    told = {}
    for where, flags in {"here": [], "there": ["--backend", "ray", "--address", found.address]}.items():
        monkeypatch.setenv("ATTRACTOR_HOME", str(tmp_path / where))
        done = CliRunner().invoke(app, [*command, *flags], catch_exceptions=False)
        assert done.exit_code == 0, done.output
        (told[where],) = json.loads(done.stdout)
        assert len(list((tmp_path / where).rglob("gae.json"))) == 1
    times = ("seconds", "cpu_seconds")
    here, there = ({k: v for k, v in row.items() if k not in times} for row in told.values())
    assert here == there


def test_the_nightly_run_goes_to_a_cluster():
    command = ["make", "-n", "nightly", "HOURS=1", "BACKEND=ray", "ADDRESS=head:6379"]
    printed = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=True).stdout
    lines = [line for line in printed.splitlines() if "check --all" in line]
    assert [" --replication next " in line for line in lines] == [False, True]
    for line in lines:
        assert "--record --minutes $((1 * 60)) --jobs 2 --backend ray --address head:6379" in line
