"""A plain function, a budget, failures, and a run that was killed."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from attractor import Gradient, minimize_blackbox
from attractor.blackbox import ConsensusHopping, ZerothOrderDescent
from attractor.registry import Choice, LogUniform

HOPPING = ConsensusHopping(spread=0.1, particles=5)
SEARCHES = ["random", "differential-evolution", "cma-es", HOPPING, ZerothOrderDescent(0.05, 0.01)]
BOX = [(-1.0, 2.0), (0.0, 5.0)]


def bowl(x):
    return float((x[0] - 0.25) ** 2 + (x[1] - 1.5) ** 2)


class Counted:
    """How often it is called, and a kill at one of the calls."""

    def __init__(self, kill_at=None):
        self.calls, self.kill_at = 0, kill_at

    def __call__(self, x):
        self.calls += 1
        if self.calls == self.kill_at:
            raise KeyboardInterrupt
        return bowl(x)


@pytest.mark.parametrize("method", SEARCHES, ids=str)
def test_calls_are_what_is_paid_for_and_a_killed_run_goes_on(method, tmp_path):
    whole = Counted()
    expected = minimize_blackbox(whole, BOX, method=method, budget=60, seed=2)
    assert whole.calls == len(expected.evaluations) == 60
    assert expected.value == expected.evaluations["value"].min() == bowl(expected.x) < 1.0
    assert all(low <= v <= high for v, (low, high) in zip(expected.x, BOX, strict=True))

    killed, journal = Counted(kill_at=38), tmp_path / "journal.jsonl"
    with pytest.raises(KeyboardInterrupt):
        minimize_blackbox(killed, BOX, method=method, budget=60, seed=2, checkpoint=journal)
    journal.write_text(journal.read_text() + '{"u": [0.1')  # what a kill in the middle of a line leaves
    again = Counted()
    resumed = minimize_blackbox(again, BOX, method=method, budget=50, seed=2, checkpoint=journal)
    assert again.calls == 50 - 37
    extended = minimize_blackbox(again, BOX, method=method, budget=60, seed=2, checkpoint=journal)
    assert again.calls == 60 - 37
    assert resumed.evaluations.equals(expected.evaluations[:50])
    assert extended.evaluations.equals(expected.evaluations)


@pytest.mark.parametrize("method", SEARCHES, ids=str)
def test_failures_are_infinitely_bad(method):
    def fragile(x):
        if x[0] > 0.5:
            raise ArithmeticError("too far right")
        return np.nan if x[1] > 4.5 else bowl(x)

    found = minimize_blackbox(fragile, BOX, method=method, budget=80)
    table = found.evaluations
    failed = (table["x0"] > 0.5) | (table["x1"] > 4.5)
    assert 0 < found.failures == failed.sum()
    assert np.isinf(table["value"][failed]).all()
    assert set(table["error"][failed]) <= {"ArithmeticError: too far right", "no finite number: nan"}
    assert found.value == bowl(found.x) == found.best_so_far()[-1]


def test_named_bounds_of_every_kind_and_threads():
    def train(settings):
        assert set(settings) == {"rate", "kind", "width"}
        return (np.log10(settings["rate"]) + 3) ** 2 + {"a": 1.0, "b": 0.0}[settings["kind"]] + settings["width"]

    bounds = {"rate": LogUniform(1e-5, 1.0), "kind": Choice(("a", "b")), "width": (0.0, 1.0)}
    alone, together = (minimize_blackbox(train, bounds, budget=150, workers=n) for n in (1, 3))
    assert alone.evaluations.equals(together.evaluations)
    assert list(alone.evaluations) == ["rate", "kind", "width", "value", "error"]
    assert alone.x["kind"] == "b"
    assert alone.value < 0.1
    assert "after 150 calls (cma-es)" in repr(alone)
    assert [curve.name for curve in alone.plot().data] == ["each call", "best so far"]  # pyright: ignore


def test_a_function_may_use_jax_itself():
    traced = []

    @jax.jit
    def compiled(x):
        traced.append(x.dtype)
        return jnp.sum((x - 0.25) ** 2)

    assert minimize_blackbox(compiled, BOX, method=HOPPING, budget=20).value < 1
    # Compiled once, in the caller's precision, though the search runs one operation after another, in double.
    assert traced == [jnp.float32]


def test_a_function_that_always_fails_ends_the_run_early():
    calls = []
    with pytest.raises(RuntimeError, match="all of its first 10 points; at the first: TypeError: no number"):
        minimize_blackbox(lambda x: calls.append(x) or (_ for _ in ()).throw(TypeError("no number")), BOX, budget=500)
    assert len(calls) == 10


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"bounds": []}, "bounds: expected at least one dimension"),
        ({"bounds": [(0, 1), (2, 1)]}, r"bounds\[1\]: expected \(low, high\), finite with low < high"),
        ({"bounds": {"rate": 3}}, r"bounds\['rate'\]: expected"),
        ({"budget": 0}, "budget"),
        ({"seed": -1}, "seed"),
        ({"workers": 0}, "workers"),
        ({"method": "cma"}, "unknown method 'cma', did you mean 'cma-es'"),
        ({"method": Gradient(optax.sgd(0.1))}, "needs gradients; expected one of cma-es"),
    ],
)
def test_what_cannot_be_used_is_refused_by_name(wrong, words):
    with pytest.raises(ValueError, match=words):
        minimize_blackbox(**{"f": bowl, "bounds": BOX, "budget": 10, **wrong})


def test_a_journal_of_another_run_is_refused(tmp_path):
    journal = tmp_path / "journal.jsonl"
    minimize_blackbox(bowl, BOX, budget=5, checkpoint=journal, method="random")
    before = journal.read_bytes()
    with pytest.raises(ValueError, match=r"of another run \(other method, seed\)"):
        minimize_blackbox(bowl, BOX, budget=5, seed=1, checkpoint=journal)
    lines = journal.read_text().splitlines()
    lines[2] = json.dumps({**json.loads(lines[2]), "u": [0.5, 0.5]})
    journal.write_text("\n".join(lines) + "\n")
    with pytest.raises(ValueError, match="has other points than random asks for"):
        minimize_blackbox(bowl, BOX, budget=5, checkpoint=journal, method="random")
    journal.write_bytes(b"not\na journal\n")
    with pytest.raises(ValueError, match="no journal of minimize_blackbox"):
        minimize_blackbox(bowl, BOX, budget=5, checkpoint=journal)
    assert before
