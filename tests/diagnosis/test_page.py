"""The page, the notebook's piece and the terminal's: what is on them, and that nothing on them is markup."""

import io
import json
import math
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from rich.console import Console

from attractor.diagnosis import Layer, Signs, Trial, judge
from attractor.diagnosis.drawing import bar, figures, judged, layer_table, thinned
from attractor.diagnosis.findings import Diagnosis, Finding
from attractor.diagnosis.page import fragment, render, show, summary

EVIL = '<img src=x onerror="alert(1)">[bold]&'


def finding(number=40.0, threshold=4.0, confidence=0.95, **more):
    return Finding("spike", "It jumps.", number, threshold, confidence, **more)


def run(n=400):
    steps = np.arange(n) * 10.0
    loss = 2.0 - steps / steps[-1]
    loss[200] = 50.0
    layers = {"first": Layer(size=12, trained=True, reached=True, gradient=1e-3, update=1e-3, dead=0.25), EVIL: Layer()}
    curves = {"loss": loss, "gradient norm": np.ones(n)}
    return Signs("run", steps, curves, layers, {"batch size": 32.0}, notes=[EVIL])


class Tags(HTMLParser):
    """All tags of a page, outside scripts."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.attributes, self.open = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [name for name, _ in attrs]
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_the_page_has_findings_curves_layers_numbers_and_notes():
    diagnosis = judge(run())
    diagnosis["spike"].trial = Trial("clipped norm", 2.0, 1.0, 30)
    text = render(diagnosis)
    body = text.partition("<body>")[2]
    for part in ("At step 2000 the loss jumps", "Try", "clipped norm: loss 1 after 30 steps", "Loss", "Gradient norm",
                 "Layers", "25%", "batch size", "Not looked at"):  # fmt: skip
        assert part in body, part
    assert not re.search(r"""(src|href)=["'](?!#|https://(arxiv|doi))""", body)  # all of it is in the page


def test_no_text_is_taken_for_markup():
    evil = finding(where=EVIL, remedy=EVIL, follows=[EVIL], trial=Trial(EVIL, 1.0, 0.5, 3))
    evil.name = evil.sentence = EVIL
    diagnosis = Diagnosis([evil], run())
    for text in (render(diagnosis), fragment(diagnosis)):
        tags = Tags(text)
        assert "img" not in tags.tags
        assert "onerror" not in tags.attributes
        assert tags.open == []  # every tag is closed
    shown = io.StringIO()
    show(diagnosis, Console(file=shown, width=200))
    assert EVIL in shown.getvalue()


def test_the_terminal_keeps_to_its_width():
    long = finding(remedy="word " * 60, where="layer", follows=["plateau"])
    shown = io.StringIO()
    show(Diagnosis([long], run()), Console(file=shown, width=80))
    lines = shown.getvalue().splitlines()
    assert max(map(len, lines)) <= 80
    assert any("1. spike" in line and "sure" in line and "layer" in line for line in lines)
    assert any("after  plateau" in line for line in lines)


def test_nothing_found_is_said():
    healthy = Diagnosis([], Signs("log"))
    shown = io.StringIO()
    show(healthy, Console(file=shown, width=80))
    assert "Nothing stands out." in shown.getvalue()
    assert "Nothing stands out." in render(healthy)
    assert "plotly" not in render(healthy)  # without plots no library


def test_the_summary_names_causes_and_counts_the_rest():
    causes = [finding(), finding(confidence=0.7)]
    rest = finding(follows=["spike"])
    assert summary(Diagnosis([causes[0], rest], run())) == "Spike (sure); 1 more may follow from it."
    assert (
        summary(Diagnosis([*causes, rest], run())) == "Spike (sure) and spike (likely); 1 more may follow from these."
    )


def test_the_bar_is_a_logarithmic_scale():
    """From a tenth of the threshold to a hundred times: three decades."""

    def width(number):
        found = re.search(r"width:([\d.]+)%", bar(finding(number, 4.0)))
        assert found is not None
        return float(found[1])

    assert [width(4.0 * r) for r in (1, 10, 100, 1e5)] == pytest.approx([33.3, 66.7, 100, 100], abs=0.1)
    assert width(math.inf) == 100
    assert judged(finding(8.0, 4.0)) == "8, 2 times the threshold of 4"
    assert judged(finding(8.0, 1.0)) == "8 times the threshold"
    assert judged(finding(7888.9, 100.0)) == "7,890, 78.9 times the threshold of 100"
    # Of what is too small, in the other direction.
    assert [width(4.0 / r) for r in (1, 10, 100)] == pytest.approx([33.3, 66.7, 100], abs=0.1)
    assert width(0.0) == width(-1.0) == 100
    assert judged(finding(2.0, 4.0)) == "2, below the threshold of 4"


def test_what_is_so_or_not_has_no_scale():
    fact = finding(math.nan, math.nan)
    assert bar(fact) == judged(fact) == ""
    assert json.loads(json.dumps(fact.to_dict(), allow_nan=False))["threshold"] is None
    console = Console(width=80, record=True, file=io.StringIO())
    show(Diagnosis([fact], run()), console)
    assert "judged" not in console.export_text()


def test_a_thinned_curve_keeps_its_extremes():
    rng = np.random.default_rng(0)
    x, y = np.arange(50_000.0), rng.normal(size=50_000)
    y[31_337], y[40_000] = 1e3, np.nan
    kept, values = thinned(x, y)
    assert len(kept) <= 2020
    assert (np.diff(kept) > 0).all()
    assert np.nanmax(values) == 1e3
    assert values[np.isfinite(values)].min() == np.nanmin(y)
    assert 40_000 in kept


def test_spikes_are_marked_in_every_plot():
    drawn = figures(run())
    assert set(drawn) == {"Loss", "Gradient norm"}
    for figure in drawn.values():
        assert [shape.x0 for shape in figure.layout.shapes] == [2000]


def test_every_run_of_a_log_is_drawn():
    runs = {
        name: Signs("log", np.arange(3.0), {"loss": np.array([3.0, 2.0, end])}) for name, end in [("a", 1), (EVIL, 2)]
    }
    signs = Signs("log", np.arange(3.0), runs["a"].curves, runs=runs)
    drawn = figures(signs)["Loss of every run"]
    assert [list(trace.y) for trace in drawn.data] == [[3, 2, 1], [3, 2, 2]]
    assert EVIL not in drawn.data[1].name  # names in plots are read as markup


def test_labels_of_logarithmic_axes_are_few_and_inside():
    for top in (8.0, 60.0, 1e3, 1e12, 1e30):
        signs = Signs("log", np.arange(5.0), {"loss": np.geomspace(1, top, 5)})
        axis = figures(signs)["Loss"].layout.yaxis
        assert axis.type == "log"
        assert 2 <= len(axis.tickvals) <= 7
        low, high = axis.range
        assert all(low <= math.log10(t) <= high for t in axis.tickvals)
        assert low < 0 < math.log10(top) < high  # nothing of the curve is cut off


def test_far_from_usual_is_in_color():
    layers = {f"l{i}": Layer(size=3, trained=True, reached=True, gradient=1.0, update=1e-3, dead=0.0) for i in range(5)}
    assert "background" not in layer_table(layers)
    layers["l1"].gradient, layers["l2"].update, layers["l3"].dead = 1e-4, 0.5, 0.9
    layers["l4"].trained = False
    row = layer_table(layers).split("<tr>")[2:]
    assert "52,120,200" in row[1]  # blue: too small
    assert "214,69,65" in row[2]  # red: too large
    assert "214,69,65" in row[3]
    assert "(frozen)" in row[4]
    assert "background" not in row[0]


def test_saving(tmp_path):
    diagnosis = judge(run())
    data = json.loads((tmp_path / "d.json").read_text()) if diagnosis.save(str(tmp_path / "d.json")) else {}
    assert data["findings"][0]["name"] == diagnosis.names[0]
    assert diagnosis.save(str(tmp_path / "d.html")).endswith("d.html")
    assert (tmp_path / "d.html").read_text().startswith("<!doctype html>")
    with pytest.raises(ValueError, match=r"ends in \.html or \.json"):
        diagnosis.save(str(tmp_path / "d.pdf"))
