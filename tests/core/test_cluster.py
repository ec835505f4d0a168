"""Work on a Ray cluster: two nodes, one of them killed in the middle; what cannot run is said within seconds."""

import json
import os
import socket
import subprocess
import threading
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from attractor import LogUniform, Loop, cluster, compare
from attractor.backends import spread
from attractor.cli import app
from attractor.engine import run
from attractor.problems import rotated_quadratic

ray = pytest.importorskip("ray", reason="the cluster's library is an extra: pip install 'attractor[ray]'")
cluster_utils = pytest.importorskip("ray.cluster_utils", reason="this Ray has no clusters for tests")


def losses(rate):
    import optax

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
    here = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    # A lost node is noticed after some ten seconds instead of forty; a busy one is not taken for lost.
    soon = {"health_check_initial_delay_ms": 0, "health_check_period_ms": 1000, "health_check_failure_threshold": 10}
    head = {"num_cpus": 1, "include_dashboard": False, "_system_config": soon}
    found = cluster_utils.Cluster(initialize_head=True, head_node_args=head, shutdown_at_exit=True)
    second = found.add_node(num_cpus=1)
    environment = {k: v for k, v in os.environ.items() if k.startswith(cluster.SETTINGS)} | {"PYTHONPATH": here}
    ray.init(found.address, log_to_driver=False, logging_level="ERROR", runtime_env={"env_vars": environment})
    yield found, second
    ray.shutdown()
    found.shutdown()


def test_what_a_killed_node_had_begun_runs_elsewhere_with_the_same_numbers(nodes, tmp_path):
    found, second = nodes
    cluster.alike(ray)
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
    with pytest.raises(ValueError, match="checkpoint: the programs of a problem"):
        compare(rotated_quadratic(), ["sgd"], backend="ray", checkpoint=tmp_path)


def test_a_unit_too_large_for_every_node_is_refused(nodes):
    with pytest.raises(ValueError, match=r"cpus: a unit takes 64 cores, and the largest node of the cluster has 1"):
        list(cluster.spread(losses, [0.1], cpus=64))
    with pytest.raises(ValueError, match=r"cpus: expected a number > 0, got 0"):
        list(cluster.spread(losses, [0.1], cpus=0))


def test_a_node_with_other_versions_is_named(nodes, monkeypatch):
    monkeypatch.setattr(cluster, "SAME", ("jax",))  # here; workers import the module as it is
    with pytest.raises(ValueError, match=r"address: node .* has attractor .* numpy .*, here is attractor .*; install"):
        list(cluster.spread(losses, [0.1]))


def test_an_address_where_nobody_answers_is_said_at_once(monkeypatch):
    with socket.socket() as taken:  # bound and not listening: nobody answers, and nobody else can begin to
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        with pytest.raises(ConnectionError, match=rf"no Ray cluster answers at 127\.0\.0\.1:{port}"):
            cluster._answers(f"127.0.0.1:{port}")
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
