"""What is drawn lies where the numbers say, and can be read without seeing it."""

import re
from dataclasses import replace

import pytest

from attractor.papers import Verdict
from attractor.papers.record import Record
from attractor.web.drawing import Axis, color, curves, margin, skyline, ticks, verdict

V = Verdict(
    slug="gae", claim="c", statement="s", source="ours", verdict="holds", value=0.3, low=0.2, high=0.4, threshold=0.5,
    direction="at most", broken=[{"name": "a <b>", "verdict": "fails", "value": 0.9, "informative": True}], seconds=1.0,
)  # fmt: skip


def places(svg, kind, attribute):
    return [float(x) for x in re.findall(rf'class="{kind}"[^>]* {attribute}="([\d.]+)%"', svg)]


def test_value_bar_and_interval_are_in_order():
    svg = verdict(V, "holds", [replace(V, value=0.35)])
    (value,), (bar,), (again,) = places(svg, "value", "cx"), places(svg, "bar", "x1"), places(svg, "again", "cx")
    (low,), (high,) = places(svg, "interval", "x1"), places(svg, "interval", "x2")
    assert low < value < again < high < bar
    assert '<rect class="zone" x="0.00%"' in svg  # at most: the left of the bar
    assert "a &lt;b&gt;" in svg
    assert 'aria-label="measured 0.3, between 0.2 and 0.4; at most 0.5 was needed: holds"' in svg


@pytest.mark.parametrize(
    "changes",
    [
        {"threshold": 0.3, "low": 0.3, "high": 0.3},
        {"value": 0.0, "low": 0.0, "high": 0.0, "threshold": 0.0},
        {"value": 1e-300, "low": 0.0, "high": None, "threshold": 1e300},
        {"low": None, "high": None},
        {"threshold": [-1.0, 1.0], "direction": "within"},
        {"value": -3.0, "low": -4.0, "high": -2.0, "threshold": 0.0, "direction": "at least"},
    ],
)
def test_any_finite_verdict_is_drawn_inside(changes):
    svg = verdict(replace(V, **changes), "holds")
    assert all(0 <= float(x) <= 100 for x in re.findall(r'="([-\d.einfa]+)%"', svg))


def test_nothing_is_drawn_where_nothing_was_measured():
    assert verdict(replace(V, value=None), "error") == ""
    assert verdict(replace(V, threshold=None), "void") == ""
    assert skyline([]) == ""
    assert curves({}, True, "loss") == ""


def test_a_claim_at_its_line_is_seen():
    near = Record("gae", quick={"c": replace(V, value=0.5, low=0.5, high=0.5)})
    tip = re.search(r'class="holds" d="M0.5 60.0V([\d.]+)', skyline([near]))
    assert 55 < float(tip[1]) < 58  # a few of 120 pixels above


def test_axis_is_logarithmic_over_decades():
    axis = Axis([1e-8, 1.0])
    assert axis.log
    assert axis.percent(1e-4, 0) == pytest.approx(50)
    assert not Axis([-1.0, 1.0]).log


def test_margin_is_positive_where_a_claim_holds():
    assert margin(V)[0] == pytest.approx(0.4)
    assert margin(replace(V, direction="at least"))[0] == pytest.approx(-0.4)
    assert margin(replace(V, threshold=[0.2, 0.6], direction="within"))[0] == pytest.approx(0.5)
    assert margin(replace(V, value=None)) is None


def test_ticks_are_round_and_inside():
    assert ticks(0.0, 300.0) == [0, 100, 200, 300]
    assert ticks(-1.0, 1.0) == pytest.approx([-1, -0.5, 0, 0.5, 1])
    assert ticks(0.0013, 108.0, log=True) == pytest.approx([0.01, 0.1, 1, 10, 100])
    assert ticks(1e-12, 1.0, log=True) == pytest.approx([1e-12, 1e-9, 1e-6, 1e-3, 1])
    assert ticks(3.1, 4.2, log=True) == pytest.approx([3.5, 4.0])  # less than a decade: as if it were not
    assert ticks(2.0, 2.0) == [2.0]


def test_curves_have_a_scale_and_more_than_eight_can_be_told_apart():
    named = {
        f"run {i}": [(x, 10.0 ** (1 - x) + i, 10.0 ** (1 - x) + i, 20.0 + i) for x in (0.0, 1.0)] for i in range(9)
    }
    svg = curves(named, log=False, title="loss")
    scale = [(float(y), float(told)) for y, told in re.findall(r'y="([\d.]+)" dy=.*?>([\d.]+)</text>', svg)]
    assert [told for _, told in scale] == [10, 20]
    assert scale[0][0] > scale[1][0]  # more is higher
    assert re.findall(r'class="tick" x="[\d.]+%" y="297" text-anchor="\w+">([\d.]+)<', svg) == ["0", "0.5", "1"]
    assert color(8) == "c0 dashed"
    assert len(set(re.findall(r'class="curve ([\w ]+)"', svg))) == 9
