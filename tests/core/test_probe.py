"""Probes: with and without the method's state, and names that a trace has taken."""

import functools

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from attractor import Constrained, Minimization, Probe, Trace, run
from attractor.optim import adadagrad

NOISY = Minimization(
    lambda x, batch: jnp.mean((batch @ x - 1.0) ** 2), init=jnp.zeros(3),
    data=np.random.default_rng(0).standard_normal((60, 3)).astype(np.float32),
)  # fmt: skip
BOWL = Minimization(lambda w: jnp.sum((w - 3) ** 2), jnp.zeros(2))


def batch_size(problem, x, key, state):
    return state.batch


def scaled(scale, problem, x, key, state):
    return scale * state.batch


class Counter(eqx.Module):
    offset: jnp.ndarray

    def __call__(self, problem, x, key, state):
        return state.batch + self.offset


def test_a_probe_sees_the_batch_grow():
    probes = {
        "batch": batch_size,
        "twice": eqx.Partial(scaled, 2),
        "thrice": functools.partial(scaled, 3),
        "more": Probe(Counter(jnp.asarray(1)), "max"),
        "drawn": lambda problem, x, key, state: state.drawn,
    }
    trace = run(NOISY, adadagrad(0.1, eta=0.3, initial=4), steps=20, every=1, probes=probes)
    batch, drawn = trace["batch"].values[0, 0], trace["drawn"].values[0, 0]
    assert batch[0] == 4
    assert batch[-1] > 4
    assert (np.diff(batch) >= 0).all()
    np.testing.assert_array_equal(np.diff(drawn), batch[:-1])  # the state seen is the one after the recorded step
    np.testing.assert_array_equal(trace["twice"].values[0, 0], 2 * batch)
    np.testing.assert_array_equal(trace["thrice"].values[0, 0], 3 * batch)
    np.testing.assert_array_equal(trace["more"].values[0, 0], batch + 1)


def test_an_optax_state_is_seen_as_it_is():
    trace = run(BOWL, optax.adam(0.1), steps=6, every=2, probes={"count": lambda p, x, key, state: state[0].count})
    assert trace["count"].values[0, 0].tolist() == [0, 2, 4, 6]


@pytest.mark.parametrize(
    "measure",
    [
        lambda problem, x, key: x[0],
        lambda problem, x, key, scale=1.0: scale * x[0],  # a default is the probe's own setting
        lambda *arguments: jnp.asarray(len(arguments)),
        eqx.Partial(lambda data, problem, x, key: data + x[0], jnp.ones(())),
    ],
)
def test_others_are_called_with_three_arguments(measure):
    assert not Probe(measure).takes_state
    run(BOWL, optax.sgd(0.1), steps=2, probes={"m": measure})


def test_a_state_with_a_default_is_given():
    probe = Probe(lambda problem, x, key, state=None: jnp.asarray(state is not None))
    assert run(BOWL, optax.adam(0.1), steps=1, probes={"m": probe})["m"].values.all()


@pytest.mark.parametrize("name", ["seed", "config", "step", "diverged_at", "__finite__"])
def test_a_probe_named_like_an_axis_is_refused_before_the_run(name):
    def never(problem, x, key):
        raise AssertionError("the run began")

    with pytest.raises(ValueError, match=rf"probes: '{name}'"):
        run(BOWL, optax.sgd(0.1), steps=3, probes={name: never})


def test_what_files_do_not_know_is_widened(tmp_path):
    problem = Minimization(lambda w: jnp.sum((w - 3) ** 2), jnp.zeros(2, jnp.bfloat16))
    probes = {"loss": problem.probes["loss"], "x": lambda problem, x, key: x}
    trace = run(problem, optax.sgd(0.1), steps=3, probes=probes)
    assert trace["loss"].dtype == np.float32
    trace.save(tmp_path / "x.parquet")
    loaded = Trace.load(tmp_path / "x.parquet")
    for metric in ("loss", "x"):
        np.testing.assert_array_equal(loaded[metric].values, trace[metric].values)
    assert trace.final.dtype == jnp.bfloat16


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_without_constraints_the_conditions_are_the_gradients(dtype):
    problem = Constrained(lambda x: jnp.sum((x - 1) ** 2), lambda x: jnp.zeros(0, x.dtype), jnp.zeros(4, dtype))
    trace = run(problem, optax.sgd(0.1), steps=50)
    assert float(trace["kkt"][0, 0, 0]) == pytest.approx(4.0)
    assert float(trace["kkt"][0, 0, -1]) < 0.1
    assert float(trace["violation"][0, 0, -1]) == 0


def test_the_conditions_are_computed_in_single_precision_at_least():
    problem = Constrained(lambda x: jnp.sum((x - 1) ** 2), lambda x: x[:1], jnp.zeros(2, jnp.bfloat16))
    assert float(run(problem, optax.sgd(0.0), steps=1)["kkt"][0, 0, 0]) == pytest.approx(2.0)
