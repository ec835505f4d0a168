"""Hyper-parameters that are declared with `hyper`: what they accept, and that their docstrings say so."""

import contextlib
import importlib
import inspect
import math
import pkgutil
import re
from fractions import Fraction

import jax
import jax.numpy as jnp
import pytest

import attractor
from attractor import Method, registry
from attractor.extras import MissingExtra
from attractor.method import hyper, ranges


class Descent(Method):
    """Descent; for these tests."""

    learning_rate: float | jax.Array = hyper(low=0.0, open_low=True)
    momentum: float = hyper(0.9, low=0.0, high=1.0, open_high=True)
    radius: float | None = hyper(None, low=1.0)
    floor: float | None = hyper(2.0, low=0.0, optional=True)
    rule: str = hyper("mean", choices=("mean", "median"), kw_only=True)

    def step(self, problem, x, state, key):
        return x - self.learning_rate, state


def test_fields_are_taken_in_order_and_by_name():
    method = Descent(0.1, 0.5, 2.0, rule="median")
    assert (method.learning_rate, method.momentum, method.radius, method.floor, method.rule) == (
        0.1, 0.5, 2.0, 2.0, "median",
    )  # fmt: skip
    assert Descent(0.1).radius is None
    assert Descent(0.1, floor=None).floor is None
    with pytest.raises(TypeError):
        Descent()
    with pytest.raises(TypeError):
        Descent(0.1, 0.5, 2.0, 2.0, "median")


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"learning_rate": 0.0}, r"learning_rate: .*\(0, inf\)"),
        ({"learning_rate": math.nan}, "learning_rate"),
        ({"learning_rate": math.inf}, "learning_rate"),
        ({"momentum": 1.0}, r"momentum: .*\[0, 1\)"),
        ({"momentum": -0.1}, "momentum"),
        ({"radius": 0.5}, r"radius: .*\[1, inf\)"),
        ({"rule": "mode"}, "rule: expected 'mean' or 'median', got 'mode'"),
    ],
)
def test_a_value_out_of_range_is_refused_by_name(bad, message):
    with pytest.raises(ValueError, match=message):
        Descent(**({"learning_rate": 0.1} | bad))


def test_the_ends_of_closed_ranges_are_accepted():
    assert Descent(1e-9, 0.0, 1.0).momentum == 0.0


def test_traced_numbers_and_schedules_pass():
    moved = jax.jit(lambda rate: Descent(rate).step(None, jnp.zeros(2), None, None)[0])(-1.0)
    assert float(moved[0]) == 1.0
    assert Descent(1.0 / (1.0 + jnp.arange(2.0))).momentum == 0.9
    with pytest.raises(ValueError, match="learning_rate"):
        Descent(jnp.asarray([0.1, -0.1]))


def test_a_subclass_inherits_ranges_and_may_narrow_them():
    class Slow(Descent):
        """Slow; for this test."""

        momentum: float = hyper(0.1, high=0.5)

    assert Slow(0.1).momentum == 0.1
    with pytest.raises(ValueError, match="momentum"):
        Slow(0.1, 0.6)
    with pytest.raises(ValueError, match="learning_rate"):
        Slow(0.0)


def test_what_a_method_refuses_is_read_off_its_ranges(monkeypatch):
    monkeypatch.setattr(registry, "_methods", {})
    entry_of = registry.method("descent", bad={"momentum": -1.0})(Descent)
    assert entry_of is Descent
    bad = registry._methods["descent"].bad
    assert set(bad) == {"learning_rate", "momentum", "radius", "floor", "rule"}
    assert bad["momentum"] == -1.0
    for name, value in bad.items():
        with pytest.raises(ValueError, match=name):
            Descent(**{"learning_rate": 0.1, name: value})


def all_methods():
    for module in pkgutil.walk_packages(attractor.__path__, "attractor."):
        if not module.name.startswith(("attractor.papers", "attractor.__main__")):
            with contextlib.suppress(MissingExtra):  # flwr excludes versions that are pinned here
                importlib.import_module(module.name)
    found, left = [], [Method]
    while left:
        children = left.pop().__subclasses__()
        found += [c for c in children if c.__module__.startswith("attractor.") and ".papers" not in c.__module__]
        left += children
    return sorted(set(found), key=lambda c: c.__name__)


NUMBER = r"-?[\d./]+|-?inf"


def stated(doc):
    """The ends that one argument's description gives, ``(low, high, open_low, open_high)``; `None`: none."""
    if found := re.search(rf"([\[(])({NUMBER}), ({NUMBER})([\])])", doc):
        left, low, high, right = found.groups()
        low, high = (float(n) if "inf" in n else float(Fraction(n)) for n in (low, high))
        # An infinite end is open in words, and no end at all for `hyper`.
        return low, high, left == "(" and math.isfinite(low), right == ")" and math.isfinite(high)
    if found := re.search(r"[Aa]t least (\d+)|(?:>=|≥) (\d+)", doc):
        return float(found[1] or found[2]), math.inf, False, False
    if found := re.search(r"> (\d+)", doc):
        return float(found[1]), math.inf, True, False
    return None


def described(method):
    section = (inspect.getdoc(method) or "").partition("Arguments:\n")[2]
    section = re.split(r"\n\n|\n\S", section)[0]
    return {m[1]: m[2] for m in re.finditer(r"(?ms)^    (\w+): (.*?)(?=^    \w+:|\Z)", section)}


def test_docstrings_state_the_ranges_that_are_checked():
    wrong, seen = [], 0
    for method in all_methods():
        words = described(method)
        for name, accepted in ranges(method).items():
            limits = (accepted.low, accepted.high, accepted.open_low, accepted.open_high)
            if limits == (-math.inf, math.inf, False, False):
                continue
            seen += 1
            if name not in words or stated(words[name]) != limits:
                wrong.append(f"{method.__name__}.{name}: {limits}, in words {words.get(name)!r}")
    assert not wrong, "\n".join(wrong)
    assert seen >= 60
