"""Traces: rates with known answers, best configurations, frames, files, queries."""

import subprocess
import sys

import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given
from hypothesis import strategies as st

from attractor import Minimization, Probe, Trace, run, store
from attractor.stats import Interval, bootstrap, fit_rate, paired_ratio
from attractor.trace import Timing, build

STEPS = list(range(0, 101, 5))


def made(values, **coordinates):
    """A trace with one metric from an array (config, seed, step)."""
    values = np.asarray(values, float)
    configs = [{k: v[i] for k, v in coordinates.items()} for i in range(len(values))]
    finite = np.isfinite(values)
    return build({"loss": values}, finite, STEPS, configs, list(range(values.shape[1])), {}, None, Timing())


def test_a_linear_rate_is_recovered_and_named():
    t = np.asarray(STEPS)
    rate = made([[3 * 0.9**t]]).rate("loss")
    assert rate.law == "linear"
    assert rate.value.value == pytest.approx(0.9, abs=1e-9)


def test_a_power_law_is_recovered_over_seeds_with_an_interval():
    t = np.maximum(np.asarray(STEPS), 0.1)
    noise = np.exp(0.05 * np.random.default_rng(0).standard_normal((6, len(STEPS))))
    rate = made([2 * t**-1.5 * noise]).rate("loss")
    assert rate.law == "power"
    assert rate.value.low <= 1.5 <= rate.value.high
    assert rate.value.high - rate.value.low < 0.1
    assert "power" in str(rate)


def test_a_rate_needs_points():
    with pytest.raises(ValueError, match="metric"):
        fit_rate([0, 1, 2], [1.0, 0.0, np.nan])


def test_best_follows_the_goal_and_ignores_diverged_runs():
    curves = np.ones((3, 2, len(STEPS)))
    curves[:, :, -1] = [[3, 3], [1, np.nan], [2, 2]]
    trace = made(curves, learning_rate=[0.1, 0.2, 0.3])
    assert trace.best("loss") == 2
    trace.dataset["loss"].attrs["goal"] = "max"
    assert trace.best("loss") == 0
    assert trace.configuration(2) == {"learning_rate": 0.3}


def problem():
    probes = {"x": lambda p, x, key: x, "up": Probe(lambda p, x, key: -p.loss(x, None), goal="max")}
    return Minimization(lambda x: jnp.sum(x**2), init=jnp.ones(2), probes=probes)


def test_a_file_gives_back_the_same_trace(tmp_path):
    trace = run(
        problem(), optax.sgd, steps=20, every=7, seeds=[4, 2], sweep={"learning_rate": [0.1, 0.2], "nesterov": [True]}
    )
    trace.save(tmp_path / "a" / "t.parquet")
    again = Trace.load(tmp_path / "a" / "t.parquet")
    assert again.dataset.identical(trace.dataset)
    assert again.timing == trace.timing
    assert again.best("up") == trace.best("up")


def test_other_files_are_refused(tmp_path):
    (tmp_path / "x.parquet").write_bytes(b"no parquet")
    with pytest.raises(ValueError, match="Parquet"):
        Trace.load(tmp_path / "x.parquet")
    import pandas as pd

    pd.DataFrame({"a": [1]}).to_parquet(tmp_path / "y.parquet")
    with pytest.raises(ValueError, match="no trace"):
        Trace.load(tmp_path / "y.parquet")


def test_any_fsspec_url_is_a_place_for_traces():
    trace = run(problem(), optax.sgd(0.1), steps=4)
    trace.save("memory://somewhere/t.parquet")
    assert Trace.load("memory://somewhere/t.parquet").dataset.identical(trace.dataset)


def test_sql_over_all_saved_traces():
    with pytest.raises(FileNotFoundError, match="save one"):
        store.query("select 1 from traces")
    for name, rate in (("slow", 0.01), ("fast", 0.3)):
        store.save(run(problem(), optax.sgd, steps=10, sweep={"learning_rate": [rate]}), name)
    found = store.query("select learning_rate, min(loss) as best from traces group by 1 order by best")
    assert found["learning_rate"].tolist() == [0.3, 0.01]
    with pytest.raises(ValueError, match="name"):
        store.save(run(problem(), optax.sgd(0.1), steps=1), "../escape")


def test_frame_and_plot():
    trace = run(problem(), optax.sgd, steps=10, every=5, seeds=2, sweep={"learning_rate": [0.1, 0.2]})
    frame = trace.frame()
    assert len(frame) == 2 * 2 * 3
    row = frame.query("config == 1 and seed == 1 and step == 10").iloc[0]
    assert row["loss"] == trace["loss"].values[1, 1, -1]
    assert len(row["x"]) == 2
    assert [curve.name for curve in trace.plot("loss").data if curve.name] == ["learning_rate=0.1", "learning_rate=0.2"]
    with pytest.raises(ValueError, match="metric: expected one of loss, x, up"):
        trace["accuracy"]


@given(st.lists(st.floats(0.1, 10), min_size=8, max_size=12))
def test_bootstrap_bounds_enclose_the_estimate(sample):
    interval = bootstrap(lambda s: s.mean(-1), sample, draws=200)
    assert interval.low <= interval.value <= interval.high
    assert min(sample) - 1e-9 <= interval.low
    assert interval.high <= max(sample) + 1e-9


def test_ratios_with_runs_that_never_arrive():
    assert paired_ratio([10, 20, 30], [20, 40, 60]) == Interval(0.5, 0.5, 0.5)  # the pairing keeps every draw at a half
    never = [np.inf] * 3
    assert paired_ratio([1, 1, 1], never).high == 0
    assert paired_ratio(never, [1, 1, 1]).low == np.inf
    assert np.isnan(paired_ratio(never, never).value)
    assert paired_ratio(never, never).high == np.inf
    with pytest.raises(ValueError, match="samples"):
        paired_ratio([1, 2], [1])


def test_a_run_does_not_wait_for_the_plotting_library():
    loaded = "import sys, attractor.engine, attractor.trace; sys.exit('plotly' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", loaded], check=False).returncode == 0
