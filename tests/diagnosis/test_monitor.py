"""The monitor of a run: its numbers against NumPy, its budget on a clock of its own, its words for planted spikes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from attractor.diagnosis import Monitor
from attractor.diagnosis.explain import explain
from attractor.diagnosis.signs import Signs

RNG = np.random.default_rng(4)


def tree(scale=1.0):
    return {"one": {"w": jnp.asarray(scale * RNG.normal(size=(3, 4))), "b": jnp.asarray(scale * RNG.normal(size=4))},
            "two": {"w": jnp.asarray(scale * RNG.normal(size=(4, 2)))}}  # fmt: skip


def flat(t):
    return np.concatenate([np.ravel(a) for a in jax.tree.leaves(t)])


def test_curves_and_layers_are_those_of_the_trees():
    ticks = iter(np.arange(0, 1e6, 1.0))
    monitor = Monitor(budget=1.0, clock=lambda: next(ticks))
    given = []
    for step in range(6):
        params, grads, updates, batch = tree(), tree(0.1), tree(0.01), (jnp.full((5, 3), 2.0 + step), jnp.arange(5))
        grads["two"]["w"] *= 0
        updates["two"]["w"] *= 0
        given.append((params, grads, updates))
        monitor.recorder._next = None  # every step is looked at
        monitor(jnp.asarray(1.0 / (step + 1)), params=params, grads=grads, updates=updates, batch=batch,
                validation_loss=float(step))  # fmt: skip
    signs = monitor.signs()
    np.testing.assert_allclose(signs.curves["loss"], 1 / np.arange(1, 7), rtol=1e-6)
    np.testing.assert_allclose(signs.curves["validation loss"], np.arange(6))
    np.testing.assert_allclose(signs.curves["input size"], np.arange(2, 8), rtol=1e-6)
    norms = np.asarray([[np.linalg.norm(flat(t)) for t in trees] for trees in given])
    np.testing.assert_allclose(signs.curves["weight norm"], norms[:, 0], rtol=1e-5)
    np.testing.assert_allclose(signs.curves["gradient norm"], norms[:, 1], rtol=1e-5)
    np.testing.assert_allclose(signs.curves["update ratio"], norms[:, 2] / norms[:, 0], rtol=1e-5)
    one = signs.layers["one"]
    gradients = [np.sqrt(np.mean(flat(g["one"]) ** 2)) for _, g, _ in given]
    moved = [np.linalg.norm(flat(u["one"])) / np.linalg.norm(flat(p["one"])) for p, _, u in given]
    assert one.size == 16
    assert one.gradient == pytest.approx(np.median(gradients), rel=1e-5)
    assert one.update == pytest.approx(np.median(moved), rel=1e-5)
    assert one.weight == pytest.approx(np.sqrt(np.mean(flat(given[-1][0]["one"]) ** 2)), rel=1e-5)
    assert (one.reached, one.trained, signs.layers["two"].reached) == (True, True, False)
    assert signs.numbers["batch size"] == 5
    assert monitor.record["loss"].dims == ("step",)
    assert "disconnected layer" in monitor.diagnosis().names


def test_it_stays_within_its_budget():
    now = [0.0]

    def clock():
        now[0] += 1e-5  # what lies between two readings
        return now[0]

    monitor, params = Monitor(budget=0.05, clock=clock), {"w": jnp.ones((2, 2))}
    monitor(jnp.ones(()), params=params)
    norms = monitor._norms

    def slow(*given):
        now[0] += 5e-3
        return norms(*given)

    monitor._norms, own, begun = slow, 0.0, now[0]
    for _ in range(1000):
        now[0] += 0.02  # the loop's own step
        before = now[0]
        monitor(jnp.ones(()), params=params)
        own += now[0] - before
    assert monitor.looks > 150
    assert own / (now[0] - begun) < 0.0505


def run(loss, **curves):
    steps = np.arange(len(loss), dtype=float)
    return Signs(
        "run", steps, {"loss": np.asarray(loss, float), **{k: np.asarray(v, float) for k, v in curves.items()}}
    )


def spike(n=60, at=40, height=50.0, start=None):
    values = 1 + 0.01 * RNG.normal(size=n)
    values[at if start is None else start : at + 1] *= height
    return values


def test_an_odd_batch_is_told_from_an_instability():
    quiet = spike(height=1.0)
    odd = run(spike(), **{"input size": spike(height=30), "gradient norm": spike()})
    assert "the batch is odd" in explain(odd)
    assert explain(odd).startswith("At step 40 the loss is ")
    grown = run(spike(), **{"input size": quiet, "gradient norm": spike(start=37, height=8), "update ratio": quiet})
    assert "the gradient had grown to 8" in explain(grown)
    assert "an instability" in explain(grown)
    labels = run(spike(), **{"input size": quiet, "gradient norm": spike()})
    assert "quiet until then: look at this batch and its labels" in explain(labels)
    sparse = np.where(np.arange(60) % 30 == 0, 1.0, np.nan)
    assert "No gradient was looked at" in explain(run(spike(), **{"gradient norm": sparse}))


def test_a_step_that_is_not_on_record_is_refused():
    with pytest.raises(ValueError, match="no spike"):
        explain(run(np.ones(50)))
    with pytest.raises(ValueError, match="step: expected one on record"):
        explain(run(np.ones(50)), 77)


def test_trees_that_do_not_fit_are_refused():
    monitor = Monitor()
    with pytest.raises(ValueError, match="grads: expected 3 floating-point arrays, got 1"):
        monitor(jnp.ones(()), params=tree(), grads=jnp.ones(3))


def test_a_loss_alone_will_do():
    monitor = Monitor()
    for _ in range(3):
        monitor(0.5)
    assert len(monitor.signs().steps) == 3
    assert any("give them to the monitor" in note for note in monitor.signs().notes)
