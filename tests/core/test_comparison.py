"""Comparisons: equal budgets, fresh paired seeds, honest statistics, a report that works offline."""

import contextlib
import dataclasses
import functools
import json
import math
import os
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import t as student

from attractor import Choice, LogUniform, Minimization, Probe, Uniform, compare, problems, registry
from attractor.checkpoint import CheckpointError
from attractor.comparison import TUNING_SEEDS, Incomplete, Interrupted, tune
from attractor.engine import run
from attractor.plots import axis_of
from attractor.progress import heard_by, interruptible, stop_if_asked
from attractor.report import render, reproduce, sentence


def bowl():
    return Minimization(lambda x: jnp.sum(jnp.asarray([1.0, 30.0]) * x**2), init=lambda key: jr.normal(key, (2,)))


@pytest.fixture(scope="module")
def found():
    methods = {"sgd": "sgd", "heavy ball": functools.partial(optax.sgd, momentum=0.9), "frozen": optax.sgd(0.0)}
    return compare(bowl(), methods, steps=200, seeds=5, budget=8, target=1e-3)


def test_every_method_gets_the_same_budget_and_fresh_shared_seeds(found):
    assert found["sgd"].tuning.dataset.sizes["config"] == 8
    assert found["heavy ball"].tuning.dataset.sizes["config"] == 8
    assert found["frozen"].tuning.dataset.sizes["config"] == 1  # nothing to tune
    for entry in found.entries.values():
        assert entry.trace.dataset["seed"].values.tolist() == [0, 1, 2, 3, 4]
        assert not set(TUNING_SEEDS) & set(entry.trace.dataset["seed"].values.tolist())
        np.testing.assert_array_equal(entry.trace["loss"].values[0, :, 0], found["sgd"].trace["loss"].values[0, :, 0])


def test_the_winner_is_the_best_tuned_configuration(found):
    tuning = found["sgd"].tuning
    hits = [
        np.mean(
            [
                next((s for s, v in zip(tuning.dataset["step"].values, seed, strict=True) if v <= 1e-3), np.inf)
                for seed in c
            ]
        )
        for c in tuning["loss"].values
    ]
    assert hits[found["sgd"].chosen] == min(hits)
    assert found["sgd"].winner == tuning.configuration(found["sgd"].chosen)


def test_statistics_and_their_units(found):
    steps = found.statistic("steps_to_target", "sgd")
    np.testing.assert_allclose(found.statistic("flops_to_target", "sgd"), steps * found["sgd"].flops_per_step)
    assert np.isinf(found.statistic("steps_to_target", "frozen")).all()
    assert found.ratio("steps_to_target", "sgd", "frozen").high == 0
    assert found.ratio("steps_to_target", "sgd", "sgd").value == 1
    difference = found.difference("frozen", "sgd")
    assert difference.value == pytest.approx((found["frozen"].final - found["sgd"].final).mean())
    assert difference.low < difference.value < difference.high
    assert found.ranking[-1] == "frozen"
    assert sum(found.probability_best().values()) == pytest.approx(1)
    assert found.probability_best()["frozen"] == 0
    assert "never" not in sentence(found)
    with pytest.raises(ValueError, match="did you mean 'sgd'"):
        found["sdg"]


def test_the_report_is_one_offline_page_with_everything_to_do_it_again(found, tmp_path):
    page = render(found)
    assert not re.search(r'(?:src|href)="(?:https?:)?//', page.split("</script>", 1)[1])
    assert '<script src="http' not in page
    for text in ("heavy ball", "Convergence", "Tuning", "learning_rate", "compare(problem, {", "LogUniform(low=0.001"):
        assert text in page
    settings = re.findall(r"<pre>(\{.*?\})</pre>", page, re.S)[0].replace("&quot;", '"').replace("&#x27;", "'")
    assert json.loads(settings)["winners"]["sgd"] == found["sgd"].winner
    assert (tmp_path / "r.html").samefile(found.report(str(tmp_path / "r.html")))


def test_a_metric_to_maximize():
    methods = {"sgd": optax.sgd, "frozen": optax.sgd(0.0)}
    how = {"steps": 60, "seeds": 2, "budget": 4}
    c = compare(problems.digits_logistic(32), methods, metric="test_accuracy", target=0.8, **how)
    assert c.goal == "max"
    assert c.ranking == ["sgd", "frozen"]
    assert c["sgd"].final.mean() > 0.8
    assert np.isfinite(c["sgd"].steps_to_target).all()
    assert render(c)


def test_structural_choices_and_diverging_methods():
    space = {"learning_rate": LogUniform(1e-2, 1e3), "nesterov": Choice([False, True])}
    c = compare(bowl(), {"sgd": (functools.partial(optax.sgd, momentum=0.5), space)}, steps=30, seeds=2, budget=6)
    assert c["sgd"].tuning.diverged.any()
    assert not c["sgd"].trace.diverged.any()
    assert isinstance(c["sgd"].winner["nesterov"], bool)
    assert "nesterov" in render(c)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seeds": 0}, "seeds"),
        ({"budget": 0}, "budget"),
        ({"metric": "accuracy"}, "metric: expected one of loss"),
        ({"methods": ["adamm"]}, "did you mean 'adam"),
        ({"methods": []}, "methods"),
        ({"methods": "adam"}, "methods"),
        ({"methods": {"x": lambda a, b: None}}, "no search space"),
    ],
)
def test_bad_arguments_are_named(change, message):
    with pytest.raises(ValueError, match=message):
        compare(bowl(), **({"methods": ["sgd"], "steps": 3} | change))


def test_goal_of_a_probe():
    with pytest.raises((ValueError, TypeError), match="goal"):  # a TypeError from the type checker of the tests
        Probe(lambda p, x, key: x, goal="up")  # pyright: ignore[reportArgumentType]


@given(st.integers(1, 40), st.integers(0, 5))
def test_samples_stay_in_their_ranges_and_repeat(n, seed):
    space = {"a": LogUniform(1e-4, 1.0), "b": Uniform(-2.0, 3.0), "c": Choice(["x", "y"])}
    configs = registry.sample(space, n, seed)
    assert len(configs) == n
    assert configs == registry.sample(space, n, seed)
    for c in configs:
        assert 1e-4 <= c["a"] <= 1
        assert -2 <= c["b"] <= 3
        assert c["c"] in "xy"


@pytest.mark.parametrize(
    "build", [lambda: LogUniform(0, 1), lambda: LogUniform(2, 1), lambda: Uniform(1, 1), lambda: Choice([])]
)
def test_impossible_ranges_are_refused(build):
    with pytest.raises(ValueError, match="expected"):
        build()


def test_registered_partials_lose_what_they_fix():
    assert set(registry.space_of(optax.adamw)) == {"learning_rate", "weight_decay"}
    assert set(registry.space_of(functools.partial(optax.adamw, weight_decay=0.1))) == {"learning_rate"}
    assert registry.space_of(functools.partial(optax.adam, 0.1)) == {}


def test_an_interruption_keeps_what_was_measured():
    def update(updates, state, params=None):
        raise KeyboardInterrupt

    def stopped(learning_rate):
        return optax.GradientTransformation(lambda params: (), update)

    methods = {"first": optax.sgd, "second": stopped, "third": optax.adam}
    with pytest.raises(Interrupted, match="third") as caught:
        compare(bowl(), methods, steps=5, seeds=2, budget=2)
    assert list(caught.value.comparison.entries) == ["first"]
    assert caught.value.missing == ["second", "third"]
    with pytest.raises(KeyboardInterrupt):
        compare(bowl(), {"only": stopped}, steps=5, seeds=2, budget=2)


INTERRUPTED = """
import sys
from attractor.cli import main
from attractor.progress import heard_by

def listen(label, done, total, unit):
    if label == "compare" and done == 1:
        print("the second method begins", file=sys.stderr, flush=True)

sys.argv = "attractor compare logistic-regression sgd lazy-newton psgd --steps 400 --budget 26 --json".split()
with heard_by(listen):
    main()
"""


def test_ctrl_c_keeps_what_was_measured(tmp_path):
    """While the second method is compiled, or tried: JAX may lose an exception that is raised then, or crash."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    # With the one thread of a test's process, batched decompositions wait for each other (docs/upstream).
    env = {name: value for name, value in os.environ.items() if name != "PJRT_NPROC"}
    child = subprocess.Popen([sys.executable, "-c", INTERRUPTED], cwd=tmp_path, env=env, **pipes)
    assert child.stderr is not None
    assert any("the second method begins" in line for line in child.stderr)
    child.send_signal(signal.SIGINT)
    told, errors = child.communicate(timeout=300)
    assert child.returncode == 130, errors
    assert "stopping where nothing is lost" in errors
    assert "stopped before lazy-newton, psgd; the rest is kept" in errors
    assert [row["method"] for row in json.loads(told)["table"]] == ["sgd"]
    assert (tmp_path / "comparison.html").stat().st_size > 1_000_000


STUCK = """
import ctypes, sys
from attractor.cli import app, main

@app.command()
def stuck():
    print("begun", flush=True)
    mutex = ctypes.create_string_buffer(64)
    for _ in range(2):  # the second time it waits for itself, in C, where Python hears nothing
        ctypes.CDLL(None).pthread_mutex_lock(mutex)

sys.argv = ["attractor", "stuck"]
main()
"""


def test_pressed_again_ctrl_c_ends_what_does_not_hear_it():
    child = subprocess.Popen([sys.executable, "-c", STUCK], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    assert child.stdout.readline() == "begun\n"
    for _ in range(2):
        child.send_signal(signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):  # two that come at once are one
            child.wait(5)
    assert child.returncode == 130


def press():
    os.kill(os.getpid(), signal.SIGINT)


def test_ctrl_c_is_held_back_until_it_is_asked_for():
    done = []

    def asks():
        with interruptible():
            stop_if_asked()
            press()
            with interruptible():  # the outer one counts
                done.append("goes on")
            stop_if_asked()
            done.append("never")

    def is_pressed_twice():
        with interruptible():
            press()
            done.append("first")
            press()
            done.append("never")

    def does_not_ask():
        with interruptible():
            press()
            done.append("last")

    for function in (asks, is_pressed_twice, does_not_ask, press):
        with pytest.raises(KeyboardInterrupt):
            function()
        stop_if_asked()  # nothing is left of it
    assert done == ["goes on", "first", "last"]


def test_a_run_stops_between_two_calls_of_its_program():
    told = []

    def listen(label, done, total, unit):
        told.append(done)
        if len(told) == 3:
            press()

    with heard_by(listen), pytest.raises(KeyboardInterrupt):
        run(bowl(), optax.sgd(0.1), steps=1_000, every=100, seeds=1)
    assert 0 < told[-1] < 1_000
    assert len(told) == 3


def test_a_program_that_runs_for_long_is_not_waited_for():
    """Ctrl-C comes from within a step, which does not end before it is heard."""
    heard, pressed = threading.Event(), []

    def slow(x):
        if not pressed:
            pressed.append(True)
            press()
        heard.wait(60)
        return x

    def update(updates, state, params=None):
        return jax.pure_callback(slow, updates, updates, vmap_method="expand_dims"), state

    method = optax.GradientTransformation(lambda params: (), update)
    try:
        with pytest.raises(KeyboardInterrupt):
            run(bowl(), method, steps=2)
        assert pressed
        assert not heard.is_set()
    finally:
        heard.set()


def test_another_handler_is_left_alone():
    seen, before = [], signal.signal(signal.SIGINT, lambda *_: seen.append("mine"))
    try:
        with interruptible():
            press()
        assert seen == ["mine"]
    finally:
        signal.signal(signal.SIGINT, before)


def test_what_is_tuned_is_what_is_ranked():
    """A method that reaches the target first is the best, whatever its final loss."""

    def jumps(learning_rate):  # at the target in one step, and then away from the minimum
        def update(updates, state, params=None):
            return jax.tree.map(lambda x: jnp.where(state == 0, 0.001 - x, learning_rate), params), state + 1

        return optax.GradientTransformation(lambda params: jnp.zeros((), int), update)

    methods = {"jumps": (jumps, {"learning_rate": LogUniform(0.1, 0.2)}), "sgd": "sgd"}
    c = compare(bowl(), methods, steps=100, seeds=4, budget=4, target=1e-3)
    assert c["jumps"].final.mean() > 10 * c["sgd"].final.mean()
    assert c.criterion == "steps_to_target"
    assert c.ranking == ["jumps", "sgd"]
    assert c.probability_best()["jumps"] > 0.95
    assert "final loss (not tuned for)" in c.table().columns
    assert re.match(r"jumps is best, reaching a loss of 0.001 in 1 steps", sentence(c))
    assert "not for the final loss" in sentence(c)
    unreachable = compare(bowl(), methods, steps=20, seeds=3, budget=4, target=-1.0)
    assert unreachable.criterion == "final"
    assert unreachable.ranking == ["sgd", "jumps"]
    assert "No method reaches -1" in sentence(unreachable)


def test_a_missed_target_counts_ten_times_the_steps():
    """One lucky seed does not win over a method that always arrives."""
    entry = compare(bowl(), {"sgd": "sgd"}, steps=50, seeds=3, budget=2, target=1e-3)["sgd"]
    entry = dataclasses.replace(entry, steps_to_target=np.array([1.0, np.inf, 5.0]))
    assert entry.penalized_steps.tolist() == [1, 500, 5]
    assert entry.reached.tolist() == [True, False, True]


def test_one_seed_gives_no_probability_and_no_verdict():
    c = compare(bowl(), {"sgd": "sgd", "adam": "adam"}, steps=20, seeds=1, budget=2)
    assert all(math.isnan(p) for p in c.probability_best().values())
    assert "on one seed, which says nothing" in sentence(c)
    assert "probability" not in sentence(c)
    assert math.isinf(c.difference("sgd", "adam").low)
    assert math.isinf(c.difference("sgd", "adam").high)
    assert "–" in render(c) or "—" in render(c)


def test_probabilities_are_those_of_the_paired_t_distribution(found):
    rng = np.random.default_rng(3)
    a, b = rng.normal(size=(2, 5))
    entries = {n: dataclasses.replace(found["sgd"], final=v) for n, v in (("a", a), ("b", b), ("c", b + 100))}
    c = dataclasses.replace(found, entries=entries, target=None)
    d = a - b
    expected = student.cdf(-d.mean() / (d.std(ddof=1) / math.sqrt(5)), 4)
    assert c.probability_best()["a"] == pytest.approx(expected, abs=0.02)
    assert c.probability_best()["c"] == 0


def test_nothing_finite_is_said_and_located():
    data = np.ones((6, 2), np.float32)
    data[4, 1] = np.nan
    problem = Minimization(lambda x, b: jnp.mean((b["rows"] @ x) ** 2), jnp.ones(2), {"rows": data})
    c = compare(problem, ["sgd", "adam"], steps=3, seeds=2, budget=2)
    assert sentence(c) == (
        "Nothing finite was measured: every run of every method diverged; "
        "data['rows'] is nan at [4, 1] (1 such entries)."
    )
    assert render(c)


def test_configurations_are_chosen_on_validation_data_where_there_are_some():
    """The validation loss prefers the smallest rate, the test loss the largest."""

    def size(problem, x, key):
        return jnp.sum(x**2)

    probes = {"test_loss": size, "validation_loss": lambda problem, x, key: -size(problem, x, key)}
    space = {"sgd": (optax.sgd, {"learning_rate": LogUniform(1e-4, 1e-2)})}
    how = {"steps": 20, "seeds": 2, "budget": 4, "probes": probes, "metric": "test_loss"}
    chosen = {on: compare(bowl(), space, tuned_on=on, **how)["sgd"] for on in (None, "test_loss")}
    rates = chosen["test_loss"].tuning.dataset["learning_rate"].values
    assert chosen[None].winner["learning_rate"] == rates.min()
    assert chosen["test_loss"].winner["learning_rate"] == rates.max()
    assert "validation_loss, on data that do not grade them" in render(compare(bowl(), space, **how))
    with pytest.raises(ValueError, match="tuned_on"):
        compare(bowl(), space, tuned_on="nothing", **how)


def test_tune_is_one_method_of_a_comparison(found):
    alone = tune(bowl(), optax.sgd, steps=200, seeds=5, budget=8, target=1e-3)
    assert alone.name == "sgd"
    assert alone.winner == found["sgd"].winner
    np.testing.assert_array_equal(alone.final, found["sgd"].final)
    named = tune(bowl(), "sgd", steps=5, seeds=[7, 9], budget=2, tuning_seeds=[3], name="mine")
    assert named.name == "mine"
    assert named.trace.dataset["seed"].values.tolist() == [7, 9]
    assert named.tuning.dataset["seed"].values.tolist() == [3]
    with pytest.raises(ValueError, match="tuning_seeds"):
        tune(bowl(), "sgd", steps=5, seeds=3, budget=2, tuning_seeds=[2])


KILLED = """
import json, os, signal, sys
from core.test_comparison import bowl
from attractor import compare
from attractor.progress import heard_by

told = {"sgd": [], "adam": [], "compare": []}

def listen(label, done, total, unit):
    told[label].append(done)
    if sys.argv[1] == "die" and label == "adam" and done >= total / 4:
        os.kill(os.getpid(), signal.SIGKILL)

how = {"steps": 600, "every": 1, "seeds": 2, "budget": 2, "target": 1e-3}
with heard_by(listen):
    found = compare(bowl(), ["sgd", "adam"], **how, checkpoint="kept")
whole = compare(bowl(), ["sgd", "adam"], **how)
same = [
    found[n].winner == whole[n].winner
    and found[n].tuning.dataset.identical(whole[n].tuning.dataset)
    and found[n].trace.dataset.identical(whole[n].trace.dataset)
    for n in ("sgd", "adam")
]
print(json.dumps({"told": told, "same": same, "seconds": found["sgd"].seconds_per_step}))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="signals as on POSIX")
def test_killed_in_the_middle_it_goes_on_where_it_was(tmp_path):
    path = os.pathsep.join([str(Path(__file__).parents[1]), *sys.path])
    how = {"cwd": tmp_path, "env": {**os.environ, "PYTHONPATH": path}, "timeout": 300, "capture_output": True}
    killed, again = (
        subprocess.run([sys.executable, "-c", KILLED, what], check=False, **how) for what in ("die", "go on")
    )
    assert killed.returncode == -signal.SIGKILL
    assert again.returncode == 0, again.stderr.decode()
    result = json.loads(again.stdout)
    assert result["told"]["sgd"] == [0, 600, 1200, 0, 600]  # two programs of tuning and the winner's, each at once
    assert 300 <= result["told"]["adam"][1] < 600
    assert result["same"] == [True, True]
    assert 0 < result["seconds"] < math.inf  # as measured before it was killed


def test_the_folder_of_another_comparison_is_refused(tmp_path):
    compare(bowl(), ["sgd"], steps=5, seeds=2, budget=2, checkpoint=tmp_path)
    with pytest.raises(CheckpointError, match="belongs to another run"):
        compare(bowl(), ["sgd"], steps=5, seeds=2, budget=2, tuning_seeds=[5, 7], checkpoint=tmp_path)


def test_a_comparison_is_extended(tmp_path):
    how = {"every": 1, "seeds": 2, "budget": 4}
    # Far from the minimum the largest rate is ahead at first, and diverges.
    space = {"sgd": (optax.sgd, {"learning_rate": LogUniform(1e-3, 0.04)})}
    for steps in (1, 2, 5, 40):
        kept = compare(bowl(), space, steps=steps, checkpoint=tmp_path, **how)["sgd"]
        fresh = compare(bowl(), space, steps=steps, **how)["sgd"]
        assert kept.winner == fresh.winner
        assert kept.trace.dataset.identical(fresh.trace.dataset)


def fails(learning_rate):
    """A method of a user's, with a fault."""

    def update(updates, state, params=None):
        raise ZeroDivisionError("a fault of one's own")

    return optax.GradientTransformation(lambda params: (), update)


def test_a_method_that_raises_loses_nothing():
    how = {"steps": 5, "seeds": 2, "budget": 2}
    with pytest.raises(Incomplete, match=r"second: ZeroDivisionError: a fault.*\n.*keeps first") as caught:
        compare(bowl(), {"first": optax.sgd, "second": fails, "third": optax.adam}, **how)
    assert list(caught.value.comparison.entries) == ["first"]
    assert caught.value.missing == ["second", "third"]
    assert isinstance(caught.value.__cause__, ZeroDivisionError)
    with pytest.raises(ZeroDivisionError):
        compare(bowl(), {"only": fails}, **how)


def test_a_method_that_does_not_fit_is_refused_before_any_is_run():
    with pytest.raises(TypeError, match="Game"):
        compare(bowl(), ["sgd", "extragradient"], steps=5, seeds=2, budget=2)


def test_ties_are_said_as_ties_and_steps_are_whole():
    methods = {"a": optax.sgd(0.01), "b": optax.sgd(0.01), "slow": optax.sgd(1e-3)}
    c = compare(bowl(), methods, steps=60, seeds=4, target=1.0, every=1)
    assert c.tied == ["a", "b"]
    assert re.match(r"a and b tie \(equal means over 4 seeds\), a reaching a loss of 1 in \d+ steps", sentence(c))
    assert "Their lead over every other" in sentence(c) or "slow cannot be told apart from a" in sentence(c)
    entries = {"a": dataclasses.replace(c["a"], steps_to_target=np.array([6.0, 9.0, 1.0, 7.0]))}
    uneven = dataclasses.replace(c, entries=entries)
    assert uneven.table()["steps to target"].tolist() == [7]
    assert "in 7 steps" in sentence(uneven)
    assert "is best" in sentence(uneven)
    final = compare(bowl(), {"a": optax.sgd(0.0), "b": optax.sgd(0.0)}, steps=3, seeds=2)
    assert sentence(final).startswith("a and b tie")


def own_space(learning_rate):
    return optax.sgd(learning_rate)


def test_what_is_to_be_pasted_runs_and_gives_the_same():
    methods = {
        "adam": "adam",
        "heavy ball": functools.partial(optax.sgd, momentum=0.9),
        "mine": (own_space, {"learning_rate": LogUniform(1e-3, 0.1)}),
        "made": optax.sgd(0.01),
        "lambda": (lambda k: optax.sgd(k), {"k": Choice([0.01, 0.02])}),
    }
    how = {"steps": 20, "seeds": [3, 5], "budget": 2, "tuning_seeds": [7], "every": 5, "goal": "min"}
    c = compare(bowl(), methods, probes={"size": lambda p, x, k: jnp.sum(x**2)}, **how)
    text = reproduce(c)
    own = re.findall(r"^# (\w+): .*define it here$", text, re.M)
    assert set(own) == {"my_made", "my_lambda", "problem", "probes"}
    assert "functools.partial(optax.sgd, momentum=0.9)" in text
    assert f"({__name__}.own_space, {{'learning_rate': LogUniform(0.001, 0.1)}})" in text
    *_, call = text.splitlines()
    space = {"problem": bowl(), "my_made": methods["made"], "my_lambda": methods["lambda"]}
    space["probes"] = {"size": lambda p, x, k: jnp.sum(x**2)}
    exec("\n".join([*text.splitlines()[:-1], f"again = {call}"]), space)
    for name in methods:
        assert space["again"][name].winner == c[name].winner
        np.testing.assert_array_equal(space["again"][name].final, c[name].final)
    page = render(c)
    for part in (f"jax {jax.__version__}", "attractor 0", "python 3", "cores", "<details>"):
        assert part in page


def test_axes_have_few_labels():
    wide, narrow = axis_of(np.geomspace(1e-12, 1e3, 9), True), axis_of(np.array([0.4, 1.1]), True)
    assert (wide["type"], wide["dtick"]) == ("log", 3)
    assert (narrow["type"], narrow["nticks"]) == ("log", 6)
    assert axis_of(np.array([-1.0]), False) == {"type": "linear"}
