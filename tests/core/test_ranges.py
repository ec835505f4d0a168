"""What functions check with `in_range` is what their docstrings say, end by end; no code of theirs runs here.

Methods that declare their ranges with `hyper` are held to the same in `test_hyper`; `test_contract` tries both at
their ends.
"""

import ast
import math
import re
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import attractor

SOURCES = Path(attractor.__file__).parent
NUMBER = r"-?[\d./]+|-?inf"
UNKNOWN = None  # an end that depends on other arguments


class Check(NamedTuple):
    """A call of `in_range`: where, on which argument, with which ends, and what the docstring says of it."""

    where: str
    name: str
    value: str
    arguments: dict[str, str]
    limits: tuple[Any, ...]
    words: str | None


def literal(node: ast.AST) -> Any:
    """A value that is written out, infinity too; unknown otherwise."""
    try:
        return ast.literal_eval(node)
    except ValueError:
        return {"-math.inf": -math.inf, "math.inf": math.inf}.get(ast.unparse(node), UNKNOWN)


def described(doc: str, name: str) -> str | None:
    section = re.split(r"\n\n|\n\S", doc.partition("Arguments:\n")[2])[0]
    for found in re.finditer(r"(?ms)^    (\w+(?:, \w+)*): (.*?)(?=^    \w+(?:, \w+)*:|\Z)", section):
        if name in found[1].split(", "):
            return " ".join(found[2].split())
    return None


def checks_in(path: Path) -> Iterator[Check]:
    parents: dict[ast.AST, ast.AST] = {}
    for node in ast.walk(ast.parse(path.read_text())):
        parents |= {child: node for child in ast.iter_child_nodes(node)}
        called = isinstance(node, ast.Call) and getattr(node.func, "id", "") == "in_range"
        if not called or not isinstance(node.args[0], ast.Constant):  # the others check a list of names in a loop
            continue
        ends = dict(zip(("low", "high"), node.args[2:], strict=False)) | {k.arg: k.value for k in node.keywords}
        default = {"low": -math.inf, "high": math.inf, "open_low": False, "open_high": False}
        name, words, arguments, at = node.args[0].value, None, {}, node
        while at in parents:
            at = parents[at]
            if isinstance(at, ast.FunctionDef) and not arguments:
                arguments = {a.arg: ast.unparse(a.annotation or at.args) for a in [*at.args.args, *at.args.kwonlyargs]}
            if isinstance(at, ast.FunctionDef | ast.ClassDef):
                words = words or described(ast.get_docstring(at) or "", name)
        limits = tuple(literal(ends[k]) if k in ends else default[k] for k in default)
        where = f"{path.relative_to(SOURCES)}:{node.lineno}"
        yield Check(where, name, ast.unparse(node.args[1]).removeprefix("self."), arguments, limits, words)


def checks() -> list[Check]:
    paths = [p for p in sorted(SOURCES.rglob("*.py")) if p.relative_to(SOURCES).parts[0] not in ("papers", "cli")]
    return [check for path in paths for check in checks_in(path)]


def end(text: str) -> float | None:
    if re.fullmatch(NUMBER, text):
        return float(text) if "inf" in text else float(Fraction(text))
    return UNKNOWN


def stated(words: str) -> tuple[Any, ...] | None:
    """The ends that a description gives, ``(low, high, open_low, open_high)``; `None`: none."""
    if found := re.search(rf"(?<!\bon )([\[(])({NUMBER}), ([^\[\]]+?)([\])])(?:[^)\]]|$)", words):
        low, high = end(found[2]), end(found[3])
        # An infinite end is open in words, and no end at all in a check.
        return low, high, found[1] == "(" and low != -math.inf, found[4] == ")" and high != math.inf
    if found := re.search(r"[Aa]t least (-?\d+(?:\.\d+)?)|(?:>=|≥) (\d+)", words):
        return float(found[1] or found[2]), math.inf, False, False
    if found := re.search(r"(?:>|[Aa]bove|[Mm]ore than|[Gg]reater than) (\d+(?:/\d+)?)", words):
        return float(Fraction(found[1])), math.inf, True, False
    if found := re.search(r"(\d+) (?:…|to) ", words):
        return float(found[1]), UNKNOWN, False, False
    return (0.0, math.inf, True, False) if re.search(r"[Pp]ositive", words) else None


def test_docstrings_state_the_ranges_that_are_checked():
    """A whole number of which nothing is said is at least 1."""
    wrong, seen = [], 0
    for check in checks():
        if check.words is None:
            continue
        said = stated(check.words)
        if said is None and check.arguments.get(check.name, "").split(" ")[0] in ("int", "Count"):
            said = 1.0, UNKNOWN, False, False
        if said is None and (UNKNOWN in check.limits or check.limits[:2] == (-math.inf, math.inf)):
            continue  # in the terms of other arguments, or any finite number
        seen += 1
        pairs = [] if said is None else zip(said, check.limits, strict=True)
        if said is None or any(UNKNOWN not in pair and pair[0] != pair[1] for pair in pairs):
            wrong.append(f"{check.where} {check.name}: {check.limits}, in words {check.words!r}")
    assert not wrong, "\n".join(wrong)
    assert seen > 350


def test_no_argument_is_checked_under_the_name_of_another():
    wrong = [f"{c.where}: {c.value} as {c.name}" for c in checks() if c.value != c.name and c.value in c.arguments]
    assert not wrong, "\n".join(wrong)
