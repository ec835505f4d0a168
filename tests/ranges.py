"""The calls of `in_range` in the sources, read off their syntax, and the ranges that docstrings state."""

import ast
import inspect
import math
import re
from collections.abc import Callable, Iterator
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
    function: str
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
        name, words, arguments, function, at = node.args[0].value, None, {}, "", node
        while at in parents:
            at = parents[at]
            if isinstance(at, ast.FunctionDef) and not arguments:
                function = at.name
                arguments = {a.arg: ast.unparse(a.annotation or at.args) for a in [*at.args.args, *at.args.kwonlyargs]}
            if isinstance(at, ast.FunctionDef | ast.ClassDef):
                words = words or described(ast.get_docstring(at) or "", name)
        limits = tuple(literal(ends[k]) if k in ends else default[k] for k in default)
        where = f"{path.relative_to(SOURCES)}:{node.lineno}"
        yield Check(where, function, name, ast.unparse(node.args[1]).removeprefix("self."), arguments, limits, words)


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


def structure(factory: Callable[..., Any]) -> list[str]:
    """Which hyper-parameters cannot be traced: of ours what has to be an ``int``, of a library's what is no number."""
    parameters = inspect.signature(factory).parameters.values()
    if factory.__module__.startswith("attractor"):
        return [p.name for p in parameters if p.annotation is int]
    return [p.name for p in parameters if isinstance(p.default, int | tuple) or inspect.isroutine(p.default)]
