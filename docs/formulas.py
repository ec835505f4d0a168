"""Formulas as MathML, which browsers set themselves: no script, and nothing from other servers."""

import html
import re

from latex2mathml.converter import convert

MARKED = re.compile(r'<(span|div) class="arithmatex">\\([(\[])(.*?)\\[)\]]</\1>', re.DOTALL)
# What the converter does not know.
SPELLED = {
    r"\\arg\b": r"\\operatorname{arg}",
    r"\{aligned\}": "{align*}",
    r"\\[bB]igg?[lr]?\s*(?=\\)": "",
    r"\\[;:]": r"\\,",
    r"\\_": "_",  # within \text
}


def typeset(page: str) -> str:
    """A page with its marked formulas as MathML.

    Raises:
        ValueError: for a command that the converter does not know.
    """
    return MARKED.sub(lambda found: formula(html.unescape(found[3]), block=found[2] == "["), page)


def formula(tex: str, block: bool) -> str:
    """One formula, for a line of its own if ``block``."""
    for pattern, spelled in SPELLED.items():
        tex = re.sub(pattern, spelled, tex)
    found = convert(tex.strip(), display="block" if block else "inline")
    if "\\" in found or "<mi>&</mi>" in found:
        raise ValueError(f"formula: the converter does not know a command of {tex!r}")
    return f'<div class="formula">{found}</div>' if block else found
