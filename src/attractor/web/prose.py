"""Text with code in backticks and formulas between dollar signs, as HTML that browsers draw without any script."""

import re
from functools import lru_cache
from xml.etree import ElementTree

from markupsafe import Markup, escape

# As Pandoc reads them: "from $5 to $10" has no formula.
PIECES = re.compile(r"`(?P<code>[^`\n]+)`|\$(?P<formula>(?!\s)[^$\n]{1,400}?(?<!\s))\$(?!\d)")
MATHML = "{http://www.w3.org/1998/Math/MathML}"
ELEMENTS = frozenset([
    "math", "mrow", "mi", "mn", "mo", "ms", "mtext", "mspace", "mfrac", "msqrt", "mroot", "msub", "msup", "msubsup",
    "munder", "mover", "munderover", "mtable", "mtr", "mtd",
])  # fmt: skip
ATTRIBUTES = frozenset(["accent", "columnalign", "display", "linethickness", "mathvariant", "stretchy"])


def prose(text: str) -> Markup:
    """A text of our own or of anybody, safe to put into a page."""
    parts, at = [], 0
    for found in PIECES.finditer(text):
        code, formula = found["code"], found["formula"]
        parts += [escape(text[at : found.start()])]
        parts += [_mathml(formula) if formula else Markup("<code>{}</code>").format(code)]
        at = found.end()
    return Markup("").join([*parts, escape(text[at:])])


@lru_cache(maxsize=4096)
def _mathml(formula: str) -> Markup:
    """A formula as MathML, or as it was written where it cannot be read.

    The converter lets what stands in ``\\text`` through: only elements and attributes of `ELEMENTS` and `ATTRIBUTES`
    leave here, and all text is escaped.
    """
    from latex2mathml.converter import convert

    written = Markup("<code>{}</code>").format(formula)
    try:
        found = convert(formula)
        root = ElementTree.fromstring(found)
    except Exception:  # it fails in many ways, none of which should cost a page
        return written
    if "\\" in found:  # a command that it does not know
        return written
    for element in root.iter():
        name = element.tag.removeprefix(MATHML)
        if name == element.tag or name not in ELEMENTS:
            return written
        element.tag = name
        element.attrib = {k: v for k, v in element.attrib.items() if k in ATTRIBUTES}
    return Markup(ElementTree.tostring(root, encoding="unicode"))
