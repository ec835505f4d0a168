"""The benchmarks run; what they measure is not asserted here."""

import importlib.util
import json
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from attractor import problems, registry, run

FOLDER = Path(__file__).parents[1] / "benchmarks"


def load(name):
    spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def optimizers(monkeypatch):
    module = load("optimizers")
    monkeypatch.setattr(module, "million", lambda: {"w": jnp.ones((4, 3)), "b": jnp.ones(3)})
    monkeypatch.setattr(module, "ROUNDS", 1)
    return module


def test_adam_keeps_two_numbers_per_parameter_and_sgd_none(optimizers):
    adam, sgd = optimizers.measure("adam"), optimizers.measure("sgd")
    assert adam["state_bytes_per_parameter"] == pytest.approx(8, abs=0.1)
    assert sgd["state_bytes_per_parameter"] == pytest.approx(0, abs=0.1)
    assert sgd["gradients_per_step"] == 1
    assert adam["reference"] == "adam"


def test_methods_with_oracles_can_be_timed_and_whole_methods_are_not(optimizers):
    assert optimizers.measure("adahessian")["gradients_per_step"] > 1.5
    assert "step_ms" not in optimizers.measure("output-normalized-gradient")


def test_what_is_on_record_belongs_to_registered_methods():
    assert set(registry.costs()) <= set(registry.methods())


def test_steps_to_target_are_kept_as_they_come(monkeypatch, tmp_path):
    module = load("steps_to_target")
    monkeypatch.setattr(module, "OUT", tmp_path / "out.json")
    monkeypatch.setattr(module, "BUDGET", 2)
    monkeypatch.setattr(module, "SEEDS", 3)
    row = module.measure(("rosenbrock", "adam"))
    assert row["seeds"] == 3
    assert len(row["at"]) == len(row["curve"])
    assert "error" in module.measure(("bilinear-game", "adam"))
    assert not module.fits("bilinear-game", "adam")
    module.save({"rosenbrock": {"adam": row}})
    assert json.loads((tmp_path / "out.json").read_text())["rosenbrock"]["adam"] == row


def test_second_order_steps_are_timed_beside_steps_that_do_the_same():
    module = load("second_order")
    problem = problems.digits_mlp(width=4, batch_size=2)
    ours, dense = module.GaussNewton(0.1), module.DenseGaussNewton(0.1, 1e-2, 0.0, False)
    ends = [run(problem, method, steps=2, seeds=1).final for method in (ours, dense)]
    for a, b in zip(*map(jax.tree.leaves, ends), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4)
    row = module.measure(lambda: problem, ours, dense, 1)
    assert row["speed_up"] == pytest.approx(row["reference_ms"] / row["ms"], rel=0.05)


@pytest.fixture
def planted(monkeypatch):
    pytest.importorskip("torch", reason="an extra")
    monkeypatch.syspath_prepend(str(FOLDER))
    return load("planted_faults")


def test_every_fault_can_be_planted_and_every_program_runs(planted):
    import faulty_programs as programs
    import torch

    makers = [*programs.FITTED.values(), *programs.HELD_OUT.values(), *programs.LATER.values()]
    for i, fault in enumerate(programs.FAULTS.values()):
        torch.manual_seed(0)
        program = makers[i % len(makers)]()
        fault.plant(program)
        assert len(programs.train(replace(program, steps=2), 0)) == 2


def test_a_planted_fault_is_placed_and_tabled(planted, monkeypatch):
    import faulty_programs as programs

    monkeypatch.setattr(
        planted, "FAULTS", {name: programs.FAULTS[name] for name in ("frozen layer", "unscaled inputs")}
    )
    monkeypatch.setattr(planted, "train", lambda p, *args, **how: programs.train(replace(p, steps=40), *args, **how))
    found = planted.measure(planted.ours, {"recurrent": programs.lstm})
    assert found["places"] == {("recurrent", "frozen layer"): 1, ("recurrent", "unscaled inputs"): 1}
    assert set(found["alarms"]) == {("recurrent", 0), ("recurrent", 1)}
    table = planted.table({"fitted": found}, {"peer": {"fitted": found}})
    assert "| attractor, programs fitted | 2 of 2 (100%) | 2 of 2 (100%) |" in table
    assert "| frozen layer | 1 |" in table


def test_what_a_peer_says_counts_where_it_could_mean_the_fault(planted):
    said = [("Loss plateau detected",) * 2 + (False,), ("Update ratio too low",) * 2 + (True,)]
    assert planted.place(said, "step too small") == 2
    assert planted.place(said, "unpaired targets") == 1
    assert planted.place(said, "bad batch") == 0


def test_credit_has_a_row_per_estimator_and_network(monkeypatch):
    module = load("credit")
    monkeypatch.setattr(module, "ESTIMATORS", {"exact": module.ESTIMATORS["backpropagation"]})
    monkeypatch.setattr(module, "SIZES", (64, 4, 10))
    [[name, bias, variance, cosine]] = module.quality(0, 2)
    assert (name, cosine) == ("exact", "1, 1")
    assert all(float(v) < 1e-5 for v in f"{bias}, {variance}".split(", "))
    rows = module.memory()
    assert len(rows) == 3
    assert all(float(row[1]) > float(row[2]) for row in rows)
