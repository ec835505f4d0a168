"""Code and formulas in a text become HTML, and nothing that somebody else wrote does."""

import re

import pytest

from attractor.web.prose import ATTRIBUTES, ELEMENTS, prose


def test_code_and_formulas_are_set():
    text = prose(r"`adam` steps by $x_{t+1} = x_t - \eta g$, a < b")
    assert text.startswith("<code>adam</code> steps by <math")
    assert "<msub><mi>x</mi><mrow><mi>t</mi><mo>+</mo><mn>1</mn></mrow></msub>" in text
    assert "<mi>η</mi>" in text
    assert text.endswith("</math>, a &lt; b")


@pytest.mark.parametrize("text", ["from $5 to $10", "$ x $", "a `b", "$x", "costs 3$ or 4$", ""])
def test_dollars_and_ticks_that_mark_nothing_stay(text):
    assert prose(text) == text


@pytest.mark.parametrize("formula", [r"\frac", "x^", r"\nosuchcommand x", "{" * 60, r"\text{<b>x</b>}", r"\text{&}"])
def test_what_cannot_be_read_stays_as_it_was_written(formula):
    assert re.fullmatch(r"<code>.+</code>", prose(f"${formula}$"))


@pytest.mark.parametrize(
    "formula",
    [
        r"\text{<script>alert(1)</script>}", r"\text{<img src=x onerror=alert(1)>}", r"\href{javascript:alert(1)}{x}",
        r"\style{background:url(//evil)}{x}", r"\class{copy}{x}", r"\color{red}x", r"<script>", "\\text{\"'>}",
        r"\text{</math><script>alert(1)</script><math>}", r"\mathrm{<a href='//evil'>}",
    ],
)  # fmt: skip
def test_no_markup_but_mathematics_leaves(formula):
    found = prose(f"a ${formula}$ b `<i>` <u>")
    for tag, attributes in re.findall(r"<([a-z!/]+)([^>]*)>", found):
        assert tag.lstrip("/") in ELEMENTS | {"code"}
        assert set(re.findall(r"([\w-]+)=", attributes)) <= ATTRIBUTES
