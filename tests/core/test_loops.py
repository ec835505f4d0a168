"""Any training loop is a problem: what its runs yield, what fails, what is kept, and where they run."""

import functools
import inspect
import math
import os
import re
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import optax
import pandas as pd
import pytest

from attractor import LogUniform, Loop, compare, outcomes, units
from attractor.checkpoint import CheckpointError
from attractor.comparison import TUNING_SEEDS
from attractor.loops import MakeOptimizer, execute, goal_of
from attractor.report import render, sentence
from attractor.results import Interrupted

RATE = {"rate": LogUniform(1e-2, 1.0)}
CURVATURE = 2.0


def shrink(x, rate):
    return x - rate * CURVATURE * x


def bowl(make_optimizer, seed):
    """Descent on x² from a point that only the seed decides; ``rate`` above 1 would diverge."""
    x = 1 + np.random.default_rng(seed).random()
    for _ in range(10):
        x = shrink(x, **make_optimizer.config)
        yield {"loss": x**2}


def yields(*records):
    """A loop that yields these, whatever the method."""

    def loop(make_optimizer, seed):
        yield from (r(make_optimizer, seed) if callable(r) else r for r in records)

    return loop


def one(loop, method=None, **how):
    """The only method's entry, with an empty configuration unless it brings a space."""
    found = compare(Loop(loop), {"it": method or (dict, {})}, **{"seeds": 2, "budget": 2} | how)
    return found["it"]


def test_methods_are_tuned_alike_and_measured_on_shared_seeds():
    methods = {"wide": (shrink, RATE), "slow": (shrink, {"rate": LogUniform(1e-4, 1e-3)})}
    found = compare(Loop(bowl), methods, seeds=4, budget=4, target=0.01)
    for entry in found.entries.values():
        assert dict(entry.tuning.dataset.sizes) == {"config": 4, "seed": 2, "step": 10}
        assert entry.tuning.dataset["seed"].values.tolist() == list(TUNING_SEEDS)
        assert dict(entry.trace.dataset.sizes) == {"config": 1, "seed": 4, "step": 10}
        assert entry.trace.dataset["seed"].values.tolist() == [0, 1, 2, 3]
    assert found.ranking == ["wide", "slow"]
    assert found.settings["metric"] == "loss"
    wide, rate = found["wide"], found["wide"].winner["rate"]
    starts = np.array([1 + np.random.default_rng(seed).random() for seed in range(4)])
    expected = (starts[:, None] * (1 - rate * CURVATURE) ** np.arange(1, 11)) ** 2
    np.testing.assert_allclose(wide.trace["loss"].values[0], expected)
    np.testing.assert_array_equal(wide.steps_to_target, 1 + (expected <= 0.01).argmax(1))
    assert np.isinf(found["slow"].steps_to_target).all()
    columns = set(found.table().columns)
    assert {"steps to target", "seconds to target", "ms per step"} <= columns
    assert not {"MFLOP per step", "flops to target", "diverged"} & columns
    page = render(found)
    assert "FLOPs" not in page.split("</script>", 1)[1]
    assert re.search(r"compare\(Loop\([\w.]*bowl\), {", page)
    assert "wide is best" in sentence(found)


def test_records_become_a_trace_with_their_own_steps_clock_and_gaps():
    records = [
        {"step": 5, "loss": 3, "wall_seconds": 0.5},
        {"step": 9, "loss": 2.0, "accuracy": np.float32(0.25), "wall_seconds": 1.5},
        {"step": 20, "loss": 1.0, "wall_seconds": 7},
    ]
    trace = one(yields(*records)).trace
    assert trace.metrics == ["loss", "accuracy", "wall_seconds"]
    assert trace.dataset["step"].values.tolist() == [5, 9, 20]
    assert trace["loss"].values[0].tolist() == [[3, 2, 1]] * 2
    np.testing.assert_array_equal(trace["accuracy"].values[0, 0], [np.nan, 0.25, 0.25])
    assert trace["wall_seconds"].values[0].tolist() == [[0.5, 1.5, 7]] * 2
    assert {m: trace[m].attrs["goal"] for m in trace.metrics[:2]} == {"loss": "min", "accuracy": "max"}
    assert trace.timing.seconds_per_step == 7 / 20
    assert not trace.failures


def test_a_run_that_ends_early_keeps_its_last_value():
    def patient(make_optimizer, seed):
        for step in range(2 if seed == 1 else 4):
            yield {"loss": 10.0 - step - seed}

    entry = one(patient)
    assert entry.trace["loss"].values[0].tolist() == [[10, 9, 8, 7], [9, 8, 8, 8]]
    assert entry.final.tolist() == [7, 8]
    assert not entry.trace.diverged.any()


def test_steps_cut_the_generator_and_close_it():
    closed = []

    def endless(make_optimizer, seed):
        try:
            while True:
                yield {"loss": 1.0}
        finally:
            closed.append(seed)

    assert one(endless, steps=3).trace.dataset["step"].values.tolist() == [1, 2, 3]
    assert sorted(closed) == [0, 1, *TUNING_SEEDS]


@pytest.mark.parametrize(
    ("metric", "goal"),
    [("loss", "min"), ("val/acc", "max"), ("test_accuracy", "max"), ("F1", "max"), ("macro", "min"), ("reward", "max")],
)
def test_the_goal_follows_from_the_name(metric, goal):
    assert goal_of(metric) == goal


def test_metric_and_goal_are_the_loops_unless_the_call_says_otherwise():
    loop = Loop(yields({"loss": 2.0, "test_x": 1.0, "validation_x": 3.0}), metric="test_x", goal="max")
    found = compare(loop, {"it": (dict, {})}, seeds=2, budget=1)
    assert (found.metric, found.goal, found.settings["tuned_on"]) == ("test_x", "max", "validation_x")
    found = compare(loop, {"it": (dict, {})}, seeds=2, budget=1, metric="loss")
    assert (found.metric, found.goal) == ("loss", "min")


def sometimes(make_optimizer, seed):
    """Fails at larger rates: raises, is not a number, or yields nothing."""
    rate = make_optimizer.config["rate"]
    if rate > 0.8:
        return
    yield {"loss": 4.0}
    yield {"loss": math.nan if 0.3 < rate <= 0.5 else 3.0}
    if rate > 0.5:
        raise ValueError("too\nlarge")
    yield {"loss": 2.0}


def test_failures_are_results_with_their_reason():
    space = {"rate": LogUniform(0.01, 1.0)}
    entry = one(sometimes, (shrink, space), budget=16)
    rates = entry.tuning.dataset["rate"].values
    assert entry.winner["rate"] <= 0.3
    reasons = {f["config"]: (f["reason"], f["place"]) for f in entry.tuning.failures}
    line = next(i for i, text in enumerate(Path(__file__).read_text().splitlines(), 1) if "too\\nlarge" in text)
    for config, rate in enumerate(rates):
        expected = (
            ("sometimes yielded nothing", "")
            if rate > 0.8
            else ("ValueError: too", f"{__file__}:{line}")
            if rate > 0.5
            else ("loss is nan", "")
            if rate > 0.3
            else None
        )
        assert reasons.get(config) == expected
    assert {r[0].split(":")[0] for r in reasons.values()} == {"sometimes yielded nothing", "ValueError", "loss is nan"}
    curves = entry.tuning["loss"].values[:, 0]
    expected = [[math.nan] * 3 if r > 0.8 else [4, 3, math.nan] if r > 0.5 else [4, math.nan, math.nan] for r in rates]
    expected = [[4, 3, 2] if rate <= 0.3 else row for row, rate in zip(expected, rates, strict=True)]
    np.testing.assert_array_equal(curves, expected)  # a failed run does not keep its last value
    at = entry.tuning.dataset["diverged_at"].values[:, 0]
    np.testing.assert_array_equal(at, [1 if r > 0.8 else 3 if r > 0.5 else 2 if r > 0.3 else np.nan for r in rates])


def test_a_method_whose_winner_fails_shows_why_and_does_not_win():
    """Its runs are short, and a missed target costs it as many steps as it costs the others."""
    methods = {"bad": (shrink, {"rate": LogUniform(0.6, 0.7)}), "slow": (shrink, {"rate": LogUniform(0.01, 0.02)})}
    found = compare(Loop(sometimes), methods, seeds=3, budget=2, target=2.5)
    assert found.ranking == ["slow", "bad"]
    assert found["bad"].penalized_steps.tolist() == [30, 30, 30]
    assert found.table().loc["bad", "diverged"] == "3/3: ValueError: too"
    page = render(found)
    assert "What failed" in page
    assert re.search(r"7 of 7.*ValueError: too.*test_loops.py", page)
    assert np.isinf(found["bad"].final).all()


def test_a_fault_that_every_run_meets_is_an_error_with_its_place():
    def faulty(make_optimizer, seed):
        yield {"loss": 1.0}
        raise KeyError("epochs")

    methods = {"a": (shrink, RATE), "b": (shrink, RATE)}
    with pytest.raises(
        ValueError, match=r"every run of every method .*KeyError: 'epochs' \(.*test_loops.py:\d+\).* a \(rate"
    ):
        compare(Loop(faulty), methods, seeds=2, budget=2)
    with pytest.raises(ValueError, match="yielded nothing"):
        compare(Loop(yields()), methods, seeds=2, budget=2)
    found = compare(Loop(yields({"loss": math.nan})), methods, seeds=2, budget=2)  # that is no fault of the loop's
    assert sentence(found).endswith("every run of every method diverged; most often: loss is nan.")


def test_a_missing_metric_is_told_after_the_first_record_of_the_first_run():
    taken = []

    def loop(make_optimizer, seed):
        for step in range(5):
            taken.append(step)
            yield {"loss": 1.0, "accuracy": 0.5}

    with pytest.raises(ValueError, match=r"metric: expected one of loss, accuracy, got 'acc'.* it \(\), seed 1000003"):
        one(loop, metric="acc")
    assert taken == [0]


@pytest.mark.parametrize(
    ("loop", "message"),
    [
        (yields({"loss": "low"}), "number for 'loss', got 'low'"),
        (yields(3.0), "dicts of numbers, got float"),
        (yields(None), "dicts of numbers, got NoneType"),
        (yields({"seed": 1, "loss": 2.0}), "'seed' is the name of an axis"),
        (yields({"rate": 1, "loss": 2.0}), "'rate' is the name of an axis or of a hyper-parameter"),
        (lambda make, seed: {"loss": 1.0}, "generator of dicts, got dict"),
        (lambda make, seed: None, "generator of dicts, got NoneType"),
        (yields({"loss": 1.0, "step": 2}, {"loss": 1.0, "step": 2}), "step: expected whole numbers, increasing, got 2"),
        (yields({"loss": 1.0, "step": 0.5}), "step: expected whole numbers"),
    ],
)
def test_what_is_no_loop_is_refused(loop, message):
    with pytest.raises(ValueError, match=message):
        one(loop, (shrink, RATE))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"probes": {}}, "probes"),
        ({"every": 2}, "every"),
        ({"by": "flops"}, "by"),
        ({"goal": "up"}, "goal"),
        ({"steps": 0}, "steps"),
        ({"jobs": 0}, "jobs"),
        ({"checkpoint": "foo://here/there"}, "checkpoint: unknown protocol"),
        ({"methods": [(shrink, RATE), (shrink, RATE)]}, "two are called 'shrink'"),
        ({"methods": [shrink]}, "no search space"),
    ],
)
def test_bad_arguments_are_named(change, message):
    with pytest.raises((ValueError, TypeError), match=message):  # a TypeError from the type checker of the tests
        compare(Loop(bowl), **({"methods": [(shrink, RATE)], "seeds": 2, "budget": 1} | change))
    with pytest.raises(ValueError, match=r"train\(make_optimizer, seed\)"):
        Loop(lambda seed: None)
    with pytest.raises((ValueError, TypeError), match="goal"):  # a TypeError from the type checker of the tests
        Loop(bowl, goal="up")  # pyright: ignore[reportArgumentType]


def test_seconds_to_target_are_measured_in_each_run_and_may_rank():
    """The one needs fewer steps, the other less time."""

    def clocked(make_optimizer, seed):
        cost = make_optimizer.config["cost"] * (1 + seed % 10)
        for step in range(1, 9):
            yield {"loss": 1.0 - step * (0.1 if cost < 50 else 0.4), "wall_seconds": step * cost}

    methods = {"cheap": (dict, {"cost": LogUniform(0.9, 1.1)}), "dear": (dict, {"cost": LogUniform(90, 110)})}
    how = {"seeds": [1, 2, 3], "budget": 1, "target": 0.45}
    by_steps, by_seconds = (compare(Loop(clocked), methods, by=by, **how) for by in ("steps", "seconds"))
    assert by_steps.ranking == ["dear", "cheap"]
    assert by_seconds.ranking == ["cheap", "dear"]
    cost = by_steps["dear"].winner["cost"]
    np.testing.assert_allclose(by_steps.statistic("seconds_to_target", "dear"), 2 * cost * np.array([2, 3, 4]))
    np.testing.assert_array_equal(by_steps.statistic("steps_to_target", "dear"), 2)
    assert next(iter(by_seconds.table().columns)) == "seconds to target"
    ratio = by_seconds.table()["times the seconds of cheap"]["dear"]
    assert ratio.value == pytest.approx(2 * cost / (6 * by_seconds["cheap"].winner["cost"]))
    assert re.search(r"reaching a loss of 0.45 in [\d.]+ seconds", sentence(by_seconds))
    assert "seconds" in render(by_seconds)
    missed = compare(
        Loop(clocked), methods, by="seconds", **{**how, "target": 0.25}
    )  # within eight steps, both reach it
    assert missed["cheap"].reached.all()


def test_tuning_by_seconds_takes_the_fastest_on_the_clock():
    def loop(make_optimizer, seed):  # larger rates take fewer steps of more seconds
        rate = make_optimizer.config["rate"]
        for step in range(1, 101):
            yield {"loss": 1 - step * rate, "wall_seconds": step * rate**2}

    space = (shrink, {"rate": LogUniform(0.02, 0.5)})
    how = {"target": 0.0, "budget": 8}
    rates = one(loop, space, **how).tuning.dataset["rate"].values
    assert one(loop, space, **how).winner["rate"] == rates.max()
    assert one(loop, space, by="seconds", **how).winner["rate"] < rates.max() / 2


def test_a_problem_in_jax_refuses_what_is_for_loops():
    from attractor import problems

    for name, value in (("jobs", 2), ("stop_hopeless", True), ("by", "seconds")):
        with pytest.raises(ValueError, match=f"{name}: .*for a Loop"):
            compare(problems.digits_logistic(32), ["sgd"], **{name: value})


def test_an_interruption_keeps_the_methods_that_were_measured():
    def stopped(make_optimizer, seed):
        if make_optimizer.name == "second" and seed == 1:
            raise KeyboardInterrupt
        yield {"loss": 1.0}

    methods = dict.fromkeys(("first", "second", "third"), (shrink, RATE))
    with pytest.raises(Interrupted) as caught:
        compare(Loop(stopped), methods, seeds=2, budget=2)
    assert list(caught.value.comparison.entries) == ["first"]
    assert caught.value.missing == ["second", "third"]
    assert caught.value.comparison.metric == "loss"
    with pytest.raises(KeyboardInterrupt):
        compare(Loop(stopped), {"second": (shrink, RATE)}, seeds=2, budget=2)


def test_hopeless_configurations_are_stopped_while_tuning_and_in_the_same_way_for_all():
    runs = Counter()

    def loop(make_optimizer, seed):
        rate = make_optimizer.config["rate"]
        for step in range(1, 9):
            runs[make_optimizer.name, rate, seed] = step
            yield {"loss": 1 - rate * step / 10 + 0.5 * (step == 5)}  # the best so far counts, not the last

    methods = dict.fromkeys(("a", "b"), (shrink, RATE))
    found = compare(Loop(loop), methods, seeds=3, budget=8, stop_hopeless=True)
    rates = found["a"].tuning.dataset["rate"].values
    bar = np.median(np.repeat(1 - rates[:4] * 2 / 10, 2))
    lengths = [8] * 4 + [2 if 1 - r * 2 / 10 > bar else 8 for r in rates[4:]]
    assert set(lengths) == {2, 8}
    for name in methods:
        assert [[runs[name, r, s] for s in TUNING_SEEDS] for r in rates] == [[n, n] for n in lengths]
        assert [runs[name, found[name].winner["rate"], s] for s in range(3)] == [8, 8, 8]
        assert {f["reason"] for f in found[name].tuning.failures} == {"stopped as hopeless"}
    assert found["a"].winner["rate"] == rates.max()
    assert found.settings["stop_hopeless"] is True


def test_what_is_kept_is_not_run_again_unless_its_code_or_setting_changed(tmp_path, monkeypatch):
    runs = []
    monkeypatch.setattr(units, "execute", lambda loop, unit, how: runs.append(unit) or execute(loop, unit, how))
    how = {"seeds": 3, "budget": 4, "checkpoint": tmp_path}

    def ran(methods=None, loop=bowl, **change):
        runs.clear()
        found = compare(Loop(loop), methods or {"it": (shrink, RATE)}, **how | change)
        return len(runs), found

    first, found = ran()
    assert first == 4 * 2 + 3
    assert len(list(tmp_path.glob("it-*.json"))) == first
    again, same = ran()
    assert again == 0
    assert same["it"].trace.dataset.equals(found["it"].trace.dataset)  # the clock included
    assert same["it"].seconds_per_step == found["it"].seconds_per_step
    assert ran(seeds=5)[0] == 2
    assert ran(steps=9)[0] == first
    assert ran(metric="loss")[0] == first
    assert ran({"it": (shrink, {"rate": LogUniform(1e-2, 0.9)})})[0] == first
    assert ran({"other": (shrink, RATE)})[0] == first
    assert ran({"it": (functools.partial(shrink), RATE)})[0] == first
    monkeypatch.setitem(globals(), "CURVATURE", 1.5)  # a constant of the file that the factory's code uses
    assert ran()[0] == first
    damaged = next(iter(sorted(tmp_path.glob("it-*.json"))))
    for path in tmp_path.glob("*.json"):
        path.write_text(path.read_text()[:-20])
    with pytest.raises(CheckpointError, match=f"{damaged.parent}.*damaged.*delete it"):
        ran()


def test_the_text_of_code_follows_what_it_uses():
    def inner(x):
        return x + CURVATURE

    def outer(x, y=np.mean):
        return [inner(v) for v in np.atleast_1d(y(x))]

    text = outcomes.text_of(outer)
    assert inspect.getsource(inner) in text  # by closure
    assert repr(CURVATURE) in text  # by name, within it
    assert "def average" not in text  # NumPy's own is not followed
    assert outcomes.text_of(functools.partial(shrink, rate=1.0)) != outcomes.text_of(
        functools.partial(shrink, rate=2.0)
    )
    assert outcomes.text_of(optax.sgd(0.1)) != outcomes.text_of(optax.sgd(0.2))  # made: the rate is in a closure
    assert outcomes.text_of(optax.sgd(0.1)) == outcomes.text_of(optax.sgd(0.1))
    space: dict = {}
    exec("def typed(make_optimizer, seed):\n    yield {'loss': 1.0}", space)
    with pytest.raises(ValueError, match="source of typed cannot be read"):
        outcomes.text_of(space["typed"])


MODULE = """
import os, signal
import numpy as np

def shrink(x, rate):
    return x - rate * x

def train(make_optimizer, seed):
    log = os.environ["LOG"]
    with open(log, "a") as file:
        file.write(f"{make_optimizer.name} {make_optimizer.config} {seed}\\n")
    x = 1 + np.random.default_rng(seed).random()
    for step in range(20):
        x = shrink(x, **make_optimizer.config)
        yield {"loss": x**2}
        if os.environ.get("KILL") and step == 10 and len(open(log).readlines()) >= 5:
            os.kill(os.getppid(), signal.SIGKILL)
"""
SCRIPT = """
from attractor import Loop, LogUniform, compare
import killed_loop

if __name__ == "__main__":
    space = {"rate": LogUniform(1e-2, 1.0)}
    methods = {n: (killed_loop.shrink, space) for n in ("a", "b")}
    compare(Loop(killed_loop.train), methods, seeds=3, budget=4, jobs=2, checkpoint="kept")
"""


FAULTS = """
import os, signal
import numpy as np

def shrink(x, rate):
    return x - rate * x

def train(make_optimizer, seed):
    x, name = 1 + seed % 7, make_optimizer.name
    if seed == 1 and name == "empty":
        return
    for step in range(3):
        x = shrink(x, **make_optimizer.config)
        if seed == 1 and step == 1:
            if name == "raise":
                raise RuntimeError("no more data")
            if name == "memory":
                np.empty(10**15)
            if name == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
        if seed == 1 and name == "keys":
            yield {"accuracy": 1.0}
        else:
            yield {"loss": float("nan") if seed == 1 and name == "nan" else x**2}
"""
REASONS = {
    "sound": None, "raise": "RuntimeError: no more data", "memory": ".*MemoryError: Unable to allocate .*",
    "nan": "loss is nan", "empty": "train yielded nothing", "keys": "metric: train yielded accuracy, and no loss.*",
    "kill": "its process ended: SIGKILL, out of memory perhaps",
}  # fmt: skip


@pytest.mark.skipif(sys.platform == "win32", reason="signals as on POSIX")
def test_whatever_ends_a_run_of_one_seed_ends_no_other(tmp_path, monkeypatch):
    (tmp_path / "faults.py").write_text(FAULTS)
    monkeypatch.syspath_prepend(str(tmp_path))
    import faults  # pyright: ignore[reportMissingImports]

    methods = {name: (faults.shrink, RATE) for name in REASONS}
    how = {"seeds": 3, "budget": 1, "tuning_seeds": [90], "checkpoint": tmp_path / "kept"}
    found = compare(Loop(faults.train), methods, jobs=2, **how)
    for name, reason in REASONS.items():
        failures = found[name].trace.failures
        assert [f["seed"] for f in failures] == [1] * (reason is not None)
        assert all(re.fullmatch(reason, f["reason"]) for f in failures), failures
        np.testing.assert_array_equal(np.isfinite(found[name].final), [True, reason is None, True])
    assert found.ranking[0] == "sound"
    kept = Counter(path.name.split("-")[0] for path in (tmp_path / "kept").glob("*.json"))
    assert kept == {name: 4 - (name == "kill") for name in REASONS}  # another time there may be more memory


def test_the_first_runs_metric_decides_and_one_that_does_not_yield_it_has_failed(tmp_path):
    def loop(make_optimizer, seed):
        yield {"accuracy" if seed == 1 else "loss": 1.0}

    for metric in ("loss", None):
        entry = one(loop, metric=metric)
        assert [f["seed"] for f in entry.trace.failures] == [1]
        assert entry.trace.failures[0]["reason"].startswith("metric: ")
        assert entry.final.tolist() == [1.0, np.inf]
    with pytest.raises(ValueError, match=r"expected one of accuracy, got 'loss'; met in the run of it \(\), seed 1$"):
        compare(Loop(loop), {"it": (dict, {})}, seeds=[0], budget=1, tuning_seeds=[1], metric="loss")


@pytest.mark.skipif(sys.platform == "win32", reason="signals as on POSIX")
def test_killed_in_the_middle_and_started_again_it_repeats_only_what_was_in_flight(tmp_path, monkeypatch):
    (tmp_path / "killed_loop.py").write_text(MODULE)
    (tmp_path / "script.py").write_text(SCRIPT)
    log = tmp_path / "log"
    environment = {**os.environ, "LOG": str(log), "KILL": "yes"}
    killed = subprocess.run([sys.executable, "script.py"], cwd=tmp_path, env=environment, timeout=300, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert len(log.read_text().splitlines()) < 2 * (4 * 2 + 3)
    assert list((tmp_path / "kept").glob("*.json"))
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("LOG", str(log))
    import killed_loop  # pyright: ignore[reportMissingImports]

    how = {"methods": {n: (killed_loop.shrink, RATE) for n in ("a", "b")}, "seeds": 3, "budget": 4}
    found = compare(Loop(killed_loop.train), **how, checkpoint=tmp_path / "kept")
    started = Counter(log.read_text().splitlines())
    assert len(started) == 2 * (4 * 2 + 3)
    assert sum(started.values()) - len(started) <= 2  # two processes
    monkeypatch.setenv("LOG", str(tmp_path / "other"))
    whole = compare(Loop(killed_loop.train), **how)
    for name in ("a", "b"):
        assert found[name].winner == whole[name].winner
        for part in ("tuning", "trace"):
            ours, theirs = (getattr(c[name], part).dataset.drop_vars("wall_seconds") for c in (found, whole))
            assert ours.identical(theirs)


def test_what_other_processes_cannot_find_is_refused_by_name(monkeypatch):
    with pytest.raises(ValueError, match=r"jobs: train \(loop\) cannot be sent to .*top level.*jobs=1"):
        compare(Loop(yields({"loss": 1.0})), {"it": (shrink, RATE)}, jobs=2)
    with pytest.raises(ValueError, match="jobs: it cannot be sent to another process"):
        compare(Loop(math.dist), {"it": (lambda rate: rate, RATE)}, jobs=2)
    typed = Loop(functools.wraps(bowl)(lambda make_optimizer, seed: bowl(make_optimizer, seed)))
    monkeypatch.setattr(typed.train, "__module__", "__main__")
    monkeypatch.setattr(sys.modules["__main__"], "bowl", typed.train, raising=False)
    monkeypatch.delattr(sys.modules["__main__"], "__file__", raising=False)
    with pytest.raises(ValueError, match=r"jobs: train \(bowl\) .*typed into a notebook"):
        compare(typed, {"it": (shrink, RATE)}, jobs=2)


def test_make_optimizer_makes_what_the_loop_asks_for():
    transformation = MakeOptimizer("mine", {"learning_rate": 0.5}, optax.sgd)()
    assert isinstance(transformation, optax.GradientTransformation)
    from sklearn.linear_model import SGDClassifier

    made = MakeOptimizer("sk", {"alpha": 0.5}, SGDClassifier)(loss="log_loss")
    assert (made.alpha, made.loss) == (0.5, "log_loss")
    with pytest.raises(TypeError, match="'extragradient' needs an attractor Problem"):
        compare(Loop(bowl), ["extragradient"])


def test_in_pytorch_it_is_a_torch_optimizer():
    torch = pytest.importorskip("torch", reason="PyTorch is an optional extra")

    def train(make_optimizer, seed):
        torch.manual_seed(seed)
        model = torch.nn.Linear(2, 1)
        optimizer = make_optimizer(model.named_parameters())
        assert isinstance(optimizer, torch.optim.Optimizer)
        for _ in range(3):
            optimizer.zero_grad()
            loss = (model(torch.ones(4, 2)) - 1).square().mean()
            loss.backward()
            optimizer.step()
            yield {"loss": loss.detach()}

    methods = {
        "ours": ("sgd", {"learning_rate": LogUniform(0.01, 0.011)}),
        "optax": (optax.sgd, {"learning_rate": LogUniform(0.01, 0.011)}),
        "torch": (torch.optim.SGD, {"lr": LogUniform(0.01, 0.011)}),
    }
    found = compare(Loop(train), methods, seeds=2, budget=1)
    curves = [found[name].trace["loss"].values for name in methods]
    np.testing.assert_allclose(curves[0], curves[2], rtol=1e-5)
    np.testing.assert_allclose(curves[1], curves[2], rtol=1e-5)
    assert (curves[0][..., -1] < curves[0][..., 0]).all()


def test_failures_travel_with_a_saved_trace(tmp_path):
    entry = one(sometimes, (shrink, {"rate": LogUniform(0.01, 1.0)}), budget=16)
    entry.tuning.save(tmp_path / "t.parquet")
    loaded = type(entry.tuning).load(tmp_path / "t.parquet")
    assert loaded.failures == entry.tuning.failures != []


def scheduled_loop(make_optimizer, seed):
    optimizer = make_optimizer(steps=4)
    x, state = np.full(2, 1.0 + seed % 3), None
    state = optimizer.init(x)
    for _ in range(4):
        updates, state = optimizer.update(2 * x, state, x)
        x = x + np.asarray(updates)
        yield {"loss": float(x @ x)}


def test_a_loop_says_how_many_steps_a_schedule_has():
    found = compare(Loop(scheduled_loop), ["sgd", "sgd+cosine"], seeds=2, budget=2, tuning_seeds=[90], progress=False)
    rate = found["sgd+cosine"].winner["learning_rate"]
    x = np.full(2, 1.0)
    for t in range(4):
        x = x - rate * (1 + np.cos(np.pi * t / 4)) / 2 * 2 * x
    np.testing.assert_allclose(found["sgd+cosine"].final[0], x @ x, rtol=1e-5)
    rate = found["sgd"].winner["learning_rate"]
    np.testing.assert_allclose(found["sgd"].final[0], 2 * (1 - 2 * rate) ** 8, rtol=1e-5)


def test_a_comparison_is_exported_and_shown_in_notebooks(tmp_path):
    found = compare(Loop(scheduled_loop), ["sgd", "adam"], seeds=3, budget=2, tuning_seeds=[90], progress=False)
    table = pd.read_csv(found.export(tmp_path / "table.csv")).set_index("method")
    best = found.ranking[0]
    assert table.loc[best, "final loss"] == pytest.approx(found[best].final.mean())
    assert (table["final loss low"] <= table["final loss"]).all()
    shown = found._repr_html_()
    assert shown.count("<tr") == 2 * 3  # results, then costs
    assert best in shown.partition("<table>")[0]
