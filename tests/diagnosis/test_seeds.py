"""Runs that are done: a trace of `run` and monitors of several seeds, against the rules on the same curves."""

import jax.numpy as jnp
import numpy as np
import optax
import pytest

import attractor
from attractor import Minimization, Monitor, diagnose_run
from attractor.diagnosis import Signs, judge
from attractor.problems import rotated_quadratic


@pytest.fixture(scope="module")
def trace():
    sweep = {"learning_rate": [0.1, 1e-4, 300.0]}
    return attractor.run(rotated_quadratic(), optax.sgd, steps=60, seeds=3, sweep=sweep)


def test_the_best_configuration_of_a_trace_is_looked_at(trace):
    found = diagnose_run(trace)
    best = trace.best("loss")
    assert list(found.signs.runs) == ["seed 0", "seed 1", "seed 2"]
    np.testing.assert_array_equal(found.signs.runs["seed 1"].curves["loss"], trace["loss"].values[best, 1])
    np.testing.assert_array_equal(found.signs.steps, trace.dataset["step"].values)
    assert any(f"of 3 configurations this is {trace.label(best)}" in note for note in found.signs.notes)
    ends = trace["loss"].values[best, :, -6:].mean(1)
    assert found.signs.numbers["seed spread"] == pytest.approx(ends.std(ddof=1) / ends.mean(), rel=1e-5)


def test_a_configuration_that_diverges_is_named(trace):
    found = diagnose_run(trace, config=2)
    assert {"step too large", "not finite"} & set(found.names)
    assert "In 3 of 3 runs" in found.findings[0].sentence


def test_the_finding_of_one_seed_is_that_of_its_curve():
    problem = Minimization(lambda x: jnp.sum(x**2) + 1, jnp.ones(3))
    trace = attractor.run(problem, optax.sgd(1.5), steps=20, probes={"objective": lambda p, x, key: p.loss(x, None)})
    found = diagnose_run(trace)
    curve = trace["objective"].values[0, 0].astype(float)
    assert found.names == judge(Signs("log", trace.dataset["step"].values.astype(float), {"loss": curve})).names
    assert found.names[0] == "step too large"


def test_monitors_of_several_seeds_tell_their_spread():
    monitors = []
    for end in (1.0, 2.0, 3.0):
        monitor = Monitor(clock=lambda: 0.0)  # steps of microseconds would be kept in part
        for step in range(50):
            monitor(end + 5 * np.exp(-step / 5))
        monitors.append(monitor)
    found = diagnose_run(*monitors)
    assert found.signs.numbers["seeds"] == 3
    assert found.signs.numbers["seed spread"] == pytest.approx(0.5, rel=1e-2)
    assert found["luck of the seed"].sentence.startswith("Over 3 seeds the final loss spreads by 50%")
    assert list(found.signs.runs) == ["run 0", "run 1", "run 2"]


def test_bad_input_is_refused_by_name(trace):
    with pytest.raises(ValueError, match="runs: expected at least one"):
        diagnose_run()
    with pytest.raises(TypeError, match=r"runs: expected what attractor\.run gave, or monitors, got list"):
        diagnose_run([trace])
    with pytest.raises(ValueError, match="config: expected one of 0 to 2, got 3"):
        diagnose_run(trace, config=3)
    with pytest.raises(ValueError, match="loss: expected the name of one of the metrics loss, got 'reward'"):
        diagnose_run(trace, loss="reward")
