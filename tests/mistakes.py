"""The single-line mistakes that a good programmer makes, found in a module's source by its syntax; see `mutants`."""

import ast
import random
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGE, TESTS = Path("src/attractor"), ROOT / "tests"
ROOMS = (
    "optim", "second_order", "games", "blackbox", "distributed", "credit", "operators", "physics", "dynamics", "rl",
    "generative", "categories", "representation", "nn", "linalg", "landscape",
)  # fmt: skip
SWAPS = {"argmin": "argmax", "minimum": "maximum", "min": "max", "any": "all"}
SWAPS |= {b: a for a, b in SWAPS.items()}
COMPARED = {
    ast.Lt: ("<", ">"), ast.Gt: (">", "<"), ast.LtE: ("<=", ">="), ast.GtE: (">=", "<="), ast.Eq: ("==", "!="),
    ast.NotEq: ("!=", "=="),
}  # fmt: skip
VALIDATION = {"in_range", "hyper", "part", "method", "refuse_complex", "finfo"}
OLD = {"x", "y", "z", "flat"}
FRESH = re.compile(r"^(new|after|moved|candidate|trial|tried|following)$|^new_|_new$")


@dataclass(frozen=True)
class Mutant:
    """One change of one line."""

    path: Path  # below the root of the project
    line: int
    operator: str
    before: str = field(compare=False)
    after: str


class Finder(ast.NodeVisitor):
    """Collects the mutants of a module; columns of `ast` count bytes."""

    def __init__(self, path: Path, source: str):
        self.path, self.lines, self.found = path, [line.encode() for line in source.splitlines()], []
        self.parents: dict[ast.AST, ast.AST] = {}
        tree = ast.parse(source)
        for node in ast.walk(tree):
            self.parents |= {child: node for child in ast.iter_child_nodes(node)}
        self.examples: set[str] = set()  # what only registrations use, and what only that uses
        for _ in range(3):
            used = [n for n in tree.body if getattr(n, "name", "") not in self.examples and not registers(n)]
            names = {n.id for statement in used for n in ast.walk(statement) if isinstance(n, ast.Name)}
            private = {n.name for n in used if isinstance(n, ast.FunctionDef) and n.name.startswith("_")}
            self.examples |= private - names
        self.keys_by = "jnp.broadcast_to" if "jax.numpy as jnp" in source else "jax.numpy.broadcast_to"
        self.visit(tree)

    def visit(self, node: ast.AST) -> None:
        if isinstance(node, ast.Raise | ast.Assert | ast.JoinedStr | ast.AnnAssign | ast.Import | ast.ImportFrom):
            return
        if isinstance(node, ast.If) and any(isinstance(statement, ast.Raise) for statement in node.body):
            return
        if isinstance(node, ast.Call) and name_of(node.func) in VALIDATION:
            return
        if isinstance(node, ast.FunctionDef):
            if (
                not re.search(r"example|_error$|^plot|__check_init__|__repr__", node.name)
                and node.name not in self.examples
            ):
                self.stale(node)
                for statement in node.body:
                    self.visit(statement)
            return
        if isinstance(node, ast.ClassDef | ast.Module):  # of what stands in between, only formulas in tables
            for child in node.body:
                formulas = [
                    n.body for n in ast.walk(child) if isinstance(n, ast.Lambda) and isinstance(child, ast.Assign)
                ]
                for part in [child] if isinstance(child, ast.FunctionDef | ast.ClassDef) else formulas:
                    self.visit(part)
            return
        handler = getattr(self, type(node).__name__.lower(), None)
        if handler is not None and node.lineno == node.end_lineno:  # pyright: ignore[reportAttributeAccessIssue]
            handler(node)
        self.generic_visit(node)

    def text(self, node: ast.expr) -> str:
        return self.lines[node.lineno - 1][node.col_offset : node.end_col_offset].decode()

    def edit(self, operator: str, line: int, start: int, end: int | None, new: str) -> None:
        old = self.lines[line - 1]
        mutated = old[:start] + new.encode() + old[end:]
        if mutated != old:
            self.found.append(Mutant(self.path, line, operator, old.decode().strip(), mutated.decode()))

    def replace(self, operator: str, node: ast.expr, new: str) -> None:
        self.edit(operator, node.lineno, node.col_offset, node.end_col_offset, new)

    def between(self, left: ast.expr, right: ast.expr, symbol: str) -> int | None:
        """The column of an infix operator."""
        if left.end_lineno != right.lineno:
            return None
        at = self.lines[right.lineno - 1].find(symbol.encode(), left.end_col_offset, right.col_offset)
        return at if at >= 0 else None

    def binop(self, node: ast.BinOp) -> None:
        symbol = {ast.Add: "+", ast.Sub: "-", ast.Pow: "**"}.get(type(node.op))
        at = None if symbol is None else self.between(node.left, node.right, symbol)
        if symbol is None or at is None:
            return
        at_end = len(self.lines[node.lineno - 1][:at].rstrip())
        right, without = number(node.right), (node.lineno, at_end, node.right.end_col_offset, "")
        if symbol == "**":
            if right in (2, 0.5):
                self.edit("root" if right == 0.5 else "power", *without)
        elif right == 1:
            self.edit("off by one", *without)
        elif number(node.left) == 1 and isinstance(node.right, ast.BinOp) and isinstance(node.right.op, ast.Pow):
            self.edit("bias correction", *without)
        else:
            self.edit("sign", node.lineno, at, at + 1, "-" if symbol == "+" else "+")

    def unaryop(self, node: ast.UnaryOp) -> None:
        operator = {ast.USub: "sign", ast.Invert: "mask", ast.Not: "mask"}.get(type(node.op))
        if operator and not isinstance(node.operand, ast.Constant):
            self.replace(operator, node, self.text(node.operand))

    def constant(self, node: ast.Constant) -> None:
        value, parent = number(node), self.parents[node]
        if value is None or re.search(rb"finfo|\beps \*|\* eps\b", self.lines[node.lineno - 1]):
            return
        if value == 1 and isinstance(parent, ast.Call) and name_of(parent.func) == "where":
            return  # in place of a zero that is divided by and then left out
        reduces = isinstance(parent, ast.Call) and name_of(parent.func) in {"mean", "sum", "norm", "std", "var", "prod"}
        if (reduces and value in (0, 1)) or (isinstance(parent, ast.keyword) and parent.arg == "axis"):
            self.replace("axis", node, "0" if value else "1")
        elif isinstance(parent, ast.BinOp) and isinstance(parent.op, ast.Mult | ast.Div) and value:
            self.replace("factor", node, repr(2 * value))
        elif isinstance(value, float) and 1e-4 < value < 1e4 and not isinstance(getattr(parent, "op", None), ast.Pow):
            self.replace("constant", node, repr(10 * value))

    def compare(self, node: ast.Compare) -> None:
        for left, right, op in zip([node.left, *node.comparators], node.comparators, node.ops, strict=False):
            symbol, opposite = COMPARED.get(type(op), ("", ""))
            at = self.between(left, right, symbol) if symbol else None
            if at:
                self.edit("mask", node.lineno, at, at + len(symbol), opposite)

    def attribute(self, node: ast.Attribute) -> None:
        if node.attr == "T":
            self.replace("transposed", node, self.text(node.value))

    def call(self, node: ast.Call) -> None:
        name, args = name_of(node.func), [self.text(a) if a.lineno == node.lineno else "" for a in node.args]
        if name in SWAPS:
            end = node.func.end_col_offset or 0
            self.edit("min for max", node.lineno, end - len(name), end, SWAPS[name])
        elif name == "where" and len(args) == 3:
            first, last = node.args[1], node.args[2]
            gap = self.lines[node.lineno - 1][first.end_col_offset : last.col_offset].decode()
            self.edit("mask", node.lineno, first.col_offset, last.end_col_offset, args[2] + gap + args[1])
        elif name == "sqrt" and args:
            self.replace("root", node, f"({args[0]})")
        elif name == "bias_correction":
            self.replace("bias correction", node, args[0])
        elif name == "fold_in":
            self.replace("key reused", node, args[0])
        elif name == "split" and args and "key" in args[0]:
            self.replace("key reused", node, f"{self.keys_by}({args[0]}, {args[1] if len(args) > 1 else 2})")

    def stale(self, function: ast.FunctionDef) -> None:
        """What was there before in place of what was just computed from it."""
        before: dict[str, tuple[int, str]] = {}
        for node in ast.walk(function):
            if not isinstance(node, ast.Assign) or len(node.targets) != 1 or node.lineno != node.end_lineno:
                continue
            targets = node.targets[0].elts if isinstance(node.targets[0], ast.Tuple) else node.targets
            used = [n for n in ast.walk(node.value) if isinstance(n, ast.Name | ast.Attribute)]
            for target in (t for t in targets if isinstance(t, ast.Name)):
                if any(isinstance(n, ast.Name) and n.id == target.id for n in used) and len(targets) == 1:
                    self.replace("stale", node.value, target.id)
                olds = [n for n in used if isinstance(n, ast.Attribute) and n.attr == target.id]
                olds += [n for n in used if isinstance(n, ast.Name) and FRESH.search(target.id) and n.id in OLD]
                if olds:
                    before[target.id] = node.lineno, self.text(olds[0])
        for node in ast.walk(function):
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load) and node.id in before:
                line, old = before[node.id]
                if node.lineno > line:
                    self.replace("stale", node, old)


def name_of(function: ast.expr) -> str:
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


def registers(statement: ast.stmt) -> bool:
    calls = (n for n in ast.walk(statement) if isinstance(n, ast.Call))
    return isinstance(statement, ast.Expr) and any(name_of(call.func) in {"part", "method"} for call in calls)


def number(node: ast.AST) -> int | float | None:
    value = node.value if isinstance(node, ast.Constant) else None
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def equivalent() -> set[tuple[str, ...]]:
    """``(module, operator, changed line)`` of the changes that are known to make no difference."""
    lines = (TESTS / "mutants_equivalent.txt").read_text().splitlines()[1:]
    return {tuple(line.split(" | ")[:3]) for line in lines}


def key(mutant: Mutant) -> tuple[str, ...]:
    return mutant.path.relative_to(PACKAGE).as_posix(), mutant.operator, mutant.after.strip()


def mutants(path: Path) -> list[Mutant]:
    """All mutants of a module."""
    return list(dict.fromkeys(Finder(path, (ROOT / path).read_text()).found))


def sample(seed: int, only: str | None) -> Iterator[Mutant]:
    """All mutants but the equivalent ones, in an even mixture: a room, a module of it, an operator, a place."""
    rng, rooms, known = random.Random(seed), defaultdict(list), equivalent()
    for room in ROOMS:
        for path in sorted((ROOT / PACKAGE / room).rglob("*.py")):
            left = [m for m in mutants(path.relative_to(ROOT)) if key(m) not in known]
            if left and (only is None or only in path.as_posix()):
                rooms[room].append(left)
    while rooms:
        # Rooms in proportion to the root of their size: the large ones count more, the small ones are not forgotten.
        room = rng.choices(list(rooms), [len(modules) ** 0.5 for modules in rooms.values()])[0]
        left = rooms[room].pop(rng.randrange((len(rooms[room]) + 1) // 2))
        operator = rng.choice(sorted({m.operator for m in left}))
        yield left.pop(left.index(rng.choice([m for m in left if m.operator == operator])))
        rooms[room] += [left] if left else []  # to the end of the line: other modules come first
        if not rooms[room]:
            del rooms[room]
