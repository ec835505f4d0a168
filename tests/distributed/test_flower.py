"""The robust rules in Flower: a strategy that no reply brings down, and a federation of real processes."""

import json
import os
import shutil
import socket
import subprocess
import sys
import threading
from pathlib import Path
from unittest.mock import create_autospec

import jax.numpy as jnp
import numpy as np
import pytest

from attractor.distributed import aggregate, coordinate_median, mean, nearest_neighbors, trimmed_mean

WHY = "flwr excludes versions that are pinned here: `make test-flower` runs this in an environment of its own"
OWN = {"w": np.arange(6.0).reshape(2, 3), "b": np.zeros(2)}
LIMIT = float(os.environ.get("ATTRACTOR_FLOWER_LIMIT", "300"))  # seconds, for all processes together


def replies(*shifts):
    return [{name: array + shift for name, array in OWN.items()} for shift in shifts]


def test_a_rule_for_vectors_aggregates_models():
    made = aggregate(trimmed_mean(1), replies(-5.0, 1.0, 2.0, 900.0), OWN)
    np.testing.assert_allclose(made["w"], OWN["w"] + 1.5, rtol=1e-6)
    np.testing.assert_allclose(made["b"], OWN["b"] + 1.5, rtol=1e-6)
    near = aggregate(nearest_neighbors(1), replies(1.0, 2.0, 10.0), replies(9.0)[0])  # of one's own: 10 and 2
    np.testing.assert_allclose(near["b"], OWN["b"] + 6.0, rtol=1e-6)
    mixed = {"count": jnp.asarray(3), "w": jnp.asarray([1.0, 2.0], jnp.bfloat16)}
    made = aggregate(mean, [mixed, {"count": jnp.asarray(6), "w": jnp.asarray([3.0, 2.0])}], mixed)
    assert (made["w"].dtype, made["w"].tolist()) == (jnp.bfloat16, [2.0, 2.0])
    with pytest.raises(ValueError, match="received: expected one or more"):
        aggregate(mean, [], OWN)
    with pytest.raises(ValueError, match="received: expected one or more"):
        aggregate(mean, [{"b": np.zeros(2), "w": np.zeros((3, 2))}], OWN)
    with pytest.raises(ValueError, match="trimmed_mean of 2 vectors"):
        aggregate(trimmed_mean(1), replies(1.0, 2.0), OWN)


def strategy_after(sent, rule=coordinate_median, metrics=None):
    """What a strategy makes of replies that carry these records, and of one error."""
    flwr = pytest.importorskip("flwr.app", reason=WHY)
    from attractor.distributed import flower

    identity = pytest.importorskip("flwr.supercore.task_identity", reason=WHY).TaskIdentity
    identity.task_id = identity.run_id = identity.node_id = 1  # as where a server app runs
    strategy = flower.RobustFedAvg(rule, min_train_nodes=1, min_available_nodes=1)

    grid = create_autospec(flower.Grid, instance=True)
    grid.get_node_ids.return_value = range(1, len(sent) + 2)
    model = flwr.ArrayRecord({name: flwr.Array(array) for name, array in OWN.items()})
    asked = list(strategy.configure_train(1, model, flwr.ConfigRecord(), grid))
    answers = [flwr.Message(flwr.Error(1, "it is out of memory"), reply_to=asked[-1])]
    for number, (message, records) in enumerate(zip(asked, sent, strict=False)):
        arrays = {
            f"arrays-{i}": flwr.ArrayRecord({n: flwr.Array(a) for n, a in r.items()}) for i, r in enumerate(records)
        }
        given = {"num-examples": 1, "loss": float(number)} if metrics is None else metrics[number]
        content = flwr.RecordDict({**arrays, "metrics": flwr.MetricRecord(given)})
        answers.append(flwr.Message(content, reply_to=message))
    arrays, measured = strategy.aggregate_train(1, answers)
    return arrays and {name: array.numpy() for name, array in arrays.items()}, measured


def test_the_strategy_aggregates_by_its_rule_in_double_precision():
    made, metrics = strategy_after([[r] for r in replies(1.0, 1.0 + 1e-12, 1e9)])
    np.testing.assert_array_equal(made["b"], OWN["b"] + (1.0 + 1e-12))
    assert (made["w"].dtype, made["w"].shape, metrics["loss"]) == (np.float64, (2, 3), 1.0)
    assert list(made) == ["w", "b"]  # as in the model, and not sorted


@pytest.mark.parametrize(
    "bad",
    [
        [],
        replies(1.0, 2.0),
        [{"b": OWN["b"]}],
        [{**OWN, "w": OWN["w"].T}],
        [{**OWN, "b": np.array([np.nan, 0.0])}],
        [{**OWN, "b": np.array([np.inf, 0.0])}],
        [{**OWN, "b": np.array(["a", "b"])}],
    ],
    ids=["nothing", "two records", "an array missing", "a shape", "nan", "inf", "text"],
)
def test_replies_that_are_no_models_are_left_out(bad):
    good = replies(1.0, 3.0)
    made, metrics = strategy_after([[good[0]], bad, [good[1]]], mean)
    np.testing.assert_allclose(made["b"], 2.0)
    assert metrics["loss"] == 1.0  # of clients 0 and 2


def test_the_model_stays_where_too_few_are_left():
    assert strategy_after([[r] for r in replies(1.0, 2.0)], trimmed_mean(1)) == (None, None)
    assert strategy_after([[], []]) == (None, None)


def test_metrics_that_do_not_fit_are_left_out():
    for odd in ({"loss": 1.0}, {"num-examples": [1, 2], "loss": 1.0}, {"num-examples": -1, "loss": 1.0}):
        metrics = [{"num-examples": 1, "loss": 2.0}, odd]
        made, measured = strategy_after([[r] for r in replies(1.0, 3.0)], mean, metrics)
        np.testing.assert_allclose(made["b"], 2.0)
        assert measured is None


def free_port():
    with socket.socket() as used:
        used.bind(("127.0.0.1", 0))
        return used.getsockname()[1]


def test_a_federation_of_processes_survives_a_liar_and_a_client_that_is_killed(tmp_path):
    """Four clients, each a node of its own; in round 2 one of them is killed while it trains."""
    pytest.importorskip("flwr", reason=WHY)
    programs, port = Path(sys.executable).parent, free_port()
    app = Path(shutil.copytree(Path(__file__).parent / "federation", tmp_path / "app"))
    report = tmp_path / "report.json"
    os.mkfifo(report)  # reading it waits for the server app, without looking again and again
    (tmp_path / "config.toml").write_text(
        f'[superlink]\ndefault = "here"\n\n[superlink.here]\naddress = "127.0.0.1:{port}"\ninsecure = true\n'
    )
    here = {
        "FLWR_HOME": str(tmp_path), "HOME": str(tmp_path), "FLWR_TELEMETRY_ENABLED": "0",
        "FLWR_DISABLE_UPDATE_CHECK": "1",
        "PATH": f"{programs}:{os.environ['PATH']}", "PYTHONPATH": os.pathsep.join(sys.path),
    }  # fmt: skip
    processes, said, found, up = [], [], [], threading.Event()

    def start(*command):
        processes.append(subprocess.Popen(
            [programs / command[0], "--insecure", *command[1:]], env={**os.environ, **here}, cwd=tmp_path, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
        ))  # fmt: skip
        threading.Thread(target=listen, args=[processes[-1].stdout], daemon=True).start()

    def listen(lines):
        for line in lines:
            said.append(line)
            if f"Uvicorn running on http://127.0.0.1:{port}" in line:
                up.set()

    def read():
        found.extend(json.loads(report.read_text()))

    reader = threading.Thread(target=read, daemon=True)
    try:
        start("flower-superlink", "--port", str(port), "--disable-runtime-dependency-installation")
        assert up.wait(LIMIT), "".join(said)
        for number in range(4):
            own = ("--port", str(free_port()), "--node-config", f"number={number}")
            start("flower-supernode", "--superlink", f"127.0.0.1:{port}", *own)
        begun = subprocess.run(
            [programs / "flwr", "run", app, "here", "--run-config", f'report="{report}" timeout={LIMIT / 10}'],
            env={**os.environ, **here}, cwd=tmp_path, capture_output=True, text=True, timeout=LIMIT, check=False,
        )  # fmt: skip
        assert begun.returncode == 0, begun.stdout + begun.stderr + "".join(said)
        reader.start()
        reader.join(LIMIT)
        assert found, "".join(said)
        assert processes[1].wait(LIMIT) == -9  # the node of client 0, killed by its client
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
    targets = np.array([[4.0, -1.0, 2.0], [1.0, 0.5, 3.0], [2.0, 2.5, -1.0]])
    model = np.zeros(3)
    for round, made in enumerate(found[1:], 1):
        honest = (model + targets[(round > 1) :]) / 2  # the first is dead in round 2
        model = np.sort([*honest, np.full(3, 1e6)], 0)[1:-1].mean(0)
        np.testing.assert_allclose(made, model, rtol=1e-12)
    assert len(found) == 4
