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


def test_steps_to_target_are_kept_as_they_come(tmp_path):
    module = load("steps_to_target")
    settings = module.Settings(seeds=3, budget=2)
    row = module.measure(("rosenbrock", "adam"), settings)
    assert (row["seeds"], row["budget"], row["of"]) == (3, 2, registry.find_problem("rosenbrock").steps)
    assert len(row["at"]) == len(row["curve"])
    assert "error" in module.measure(("bilinear-game", "adam"), settings)
    assert not module.fits("bilinear-game", "adam")
    module.save({"rosenbrock": {"adam": row}}, tmp_path / "out.json")
    assert json.loads((tmp_path / "out.json").read_text())["rosenbrock"]["adam"] == row


def test_steps_to_target_are_for_any_size_within_a_time_and_into_any_file(monkeypatch, tmp_path):
    module, seen, out = load("steps_to_target"), [], tmp_path / "out.json"

    def compare(problem, methods, **how):
        seen.append((problem.probes["test_loss"].measure.args[1][0].shape, methods, how))
        raise RuntimeError("seen")

    monkeypatch.setattr(module.comparison, "compare", compare)
    more = "--steps 50 --target 2 --seeds 3 --records 5"
    words = f"--problem text-transformer --methods adamw adamw+cosine --sizes context=16 width=8 --jobs 1 --out {out}"
    monkeypatch.setattr("sys.argv", ["it", *words.split(), *more.split()])
    module.main()
    assert [methods for _, methods, _ in seen] == [["adamw"], ["adamw+cosine"]]
    shape, _, how = seen[0]
    assert shape == (127, 16)
    assert (how["steps"], how["target"], how["seeds"], how["every"]) == (50, 2.0, 3, 10)
    assert json.loads(out.read_text())["text-transformer"]["adamw"] == {"error": "RuntimeError: seen"}
    monkeypatch.setattr("sys.argv", ["it", *words.split(), "--fresh", "--minutes", "-1"])
    module.main()
    assert len(seen) == 2
    monkeypatch.setattr("sys.argv", ["it", "--problem", "rosenbrock", "--steps", "50"])
    with pytest.raises(SystemExit):
        module.main()


def test_learning_rates_are_tried_over_widths():
    module = load("widths")
    how = module.Experiment((8, 16), (1e-3, 1e-2), 4, 1, "loss")
    losses = module.final_losses("digits-wide-mlp", "mup", 16, how)
    assert losses.shape == (2,)
    assert np.isfinite(losses).all()


def test_the_names_of_the_benchmark_are_registered():
    module = load("steps_to_target")
    assert [registry.find_method(name).name for name in module.NAMES] == list(module.NAMES)
    assert set(module.NETWORKS) <= set(registry.problems())


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
    table = planted.table({"fitted": found}, planted.rows("peer", {"fitted": found}))
    assert "| attractor, programs fitted | 2 of 2 (100%) | 2 of 2 (100%) |" in table
    assert "| peer, programs fitted | 2 of 2 (100%) | 2 of 2 (100%) |" in table
    assert "| frozen layer | 1 |" in table


def test_what_a_peer_says_counts_where_it_could_mean_the_fault(planted):
    said = [("Loss plateau detected",) * 2 + (False,), ("Update ratio too low",) * 2 + (True,)]
    assert planted.place(said, "step too small") == 2
    assert planted.place(said, "unpaired targets") == 1
    assert planted.place(said, "bad batch") == 0


def test_targets_of_a_black_box_are_counted():
    module = load("blackbox")
    sphere, far = module.reached("cma-es", 1, 1, 2, 150), module.reached("random", 24, 1, 5, 2)
    assert (sphere[-1], far[-1], sphere.shape, far.shape) == (1, 0, (150,), (2,))
    assert (np.diff(sphere) >= 0).all()
    assert set(np.unique(sphere)) <= {0, 0.25, 0.5, 0.75, 1}
    assert sorted(n for group in module.GROUPS.values() for n in group) == list(range(1, 25))


def test_distributed_runs_are_counted_and_lies_are_told():
    module = load("distributed")
    problem = problems.federated_digits(4)
    bottom = module.least(problem)
    found = module.wire(problem, module.METHODS["gradient descent"], 2, bottom)
    np.testing.assert_allclose(found["kilobits"], [0, 20.8, 41.6])  # 650 numbers of 32 bits
    assert found["gap"][0] > found["gap"][-1] > 0
    np.testing.assert_allclose(found["gap"][0], np.log(10) - bottom, rtol=1e-3)  # from 0, all ten are alike
    told = module.liars(module.RULES["mean"], 4, 2, 1)
    assert list(told) == [*module.LIES, module.FLIPPED]
    round = module.distributed.Round(*(jnp.arange(8.0).reshape(4, 2) + i for i in range(3)))
    for i, lie in enumerate(module.LIES.values()):
        given = round, 3, jax.random.key(0)
        np.testing.assert_array_equal(module._told(jnp.asarray(float(i)), *given), lie(*given))


def test_ratios_of_linear_algebra_are_those_of_two_calls(monkeypatch):
    module = load("linalg")
    pairs = [module.recycling(side=6, count=3), module.exact(module.by_flint, n=4)]
    assert all(module.measure(pair, rounds=1) > 0 for pair in pairs)
    rival, ours = pairs[0]
    assert all(a.converged and b.converged for a, b in zip(rival(), ours(), strict=True))
    fractions = load("continued_fractions")
    assert fractions.polynomial([-3, 0, 2]) == "+2n² -3"


def test_credit_has_a_row_per_estimator_and_network(monkeypatch):
    module = load("credit")
    monkeypatch.setattr(module, "ESTIMATORS", {"exact": module.ESTIMATORS["backpropagation"]})
    monkeypatch.setattr(module, "GUIDED", {"weights": module.GUIDED["`guided_gradient`, weights"]})
    monkeypatch.setattr(module, "NUDGES", {"the limit": module.NUDGES["the limit"]})
    monkeypatch.setattr(module, "SIZES", (64, 4, 10))
    monkeypatch.setattr(module, "SETTLING", (64, 3, 3))
    [start, later], settling = module.quality((0, 1), 2), module.settled(1)
    [[name, bias, variance, cosine], guided] = module.cells(later)
    assert (name, cosine) == ("exact", "1, 1")
    assert all(float(v) < 1e-5 for v in f"{bias}, {variance}".split(", "))
    assert guided[0] == "weights"
    assert any(float(a) != float(b) for a, b in zip(start["weights"].bias, later["weights"].bias, strict=True))
    symmetric, apart = (settling[f"{name}: the limit"] for name in ("symmetric", "not symmetric"))
    assert (symmetric.bias < 0.01).all()  # single precision
    assert apart.bias[0] > 10 * symmetric.bias[0]
    kept = json.loads(module.cosines(start=start, settling=settling))
    assert kept["start"]["exact"] == [1.0, 1.0]
    assert [len(of) for of in kept["settling"].values()] == [3] * 4
    rows = module.memory()
    assert len(rows) == 3
    assert all(float(row[1]) > float(row[2]) for row in rows)


def test_bilevel_methods_get_as_many_gradients(monkeypatch):
    module = load("bilevel")
    monkeypatch.setattr(module, "RECORDS", 2)
    methods = {name: module.METHODS[name] for name in ("ProximalLagrangian", "random search")}
    found = module.measured(methods, gradients=42, configurations=2, splits=2)
    rows = found["rows"]
    assert [rows[name]["steps"] for name in methods] == [10, 2]
    assert all(0 <= row["accuracy"][0] <= 1 for row in rows.values())
    assert rows["wrong labels left out"]["accuracy"][0] > rows["no cleaning"]["accuracy"][0]
    wrong = np.array([False, True, False, True])
    np.testing.assert_array_equal(module.found(wrong, np.array([[1.0, -1, 2, 0], [-1, 5, 0, 1]])), [1.0, 0.0])
    spaces = {key: dimension for entry in module.METHODS.values() for key, dimension in entry.space.items()}
    assert {"learning_rate", "inner_rate"} <= set(spaces)


def test_a_classifier_is_trained_anew_to_its_end():
    module = load("bilevel")
    left = module.refitted(problems.label_cleaning(train=40), jnp.zeros((1, 40)))[2]
    assert float(left[0]) < 2e-3


def test_games_get_as_many_fields_and_samples_are_shown(monkeypatch):
    module = load("ring_gan")
    monkeypatch.setattr(module, "SHOWN", 8)
    methods = {name: module.METHODS[name] for name in ("`adam_descent_ascent`, in turn", "`VarianceReducedHalpern`")}
    found = module.measured(methods, fields=7, configurations=2, seeds=2)
    assert [row["steps"] for row in found["rows"].values()] == [3, 2]
    assert all(np.shape(row["samples"]) == (8, 2) for row in found["rows"].values())
    np.testing.assert_allclose(np.linalg.norm(found["true"], axis=1), 1.0, atol=0.25)


def test_the_lines_whose_change_is_measured_are_there():
    module = load("staleness")
    missing = {
        name: old for name, (file, old, _) in module.CHANGES.items() if old not in (module.ROOT / file).read_text()
    }
    assert missing == {}
