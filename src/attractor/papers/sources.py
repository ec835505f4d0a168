"""Which of our definitions a claim depends on, and one hash over what they mean.

A definition is a top-level function, class, or assignment; what a claim does not use does not count. Neither does
what has no meaning for its numbers: comments, formatting, docstrings, annotations, ``raise`` statements and the checks
before them, notes, reasons, and what a registration says besides a search space.

The core (the loop, problems, comparison, statistics and what shows and stores results) touches every claim, so its
source does not count at all: golden runs stand in for it, see `attractor.papers.golden`.
"""

import ast
import hashlib
import importlib.metadata
import importlib.util
import os
import threading
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[1]
PARSING = threading.RLock()  # CPython 3.11 counts the depth of all threads' syntax trees together, and may raise
# Modules beside the rooms that only some claims use, and that count as the rooms do.
FOLLOWED = {"attractor.bilevel", "attractor.decision", "attractor.objectives", "attractor.trees"}
# Of the core, what shows and stores results and has no part in them: not even the golden runs need to look at it.
SHOWN = (
    "report", "tables", "plots", "progress", "names", "places", "store", "torch", "cli", "backends", "cluster",
    "checks", "extras",
)  # fmt: skip
REGISTRATIONS = {"method", "problem", "part"}
RANGES = {"low", "high", "open_low", "open_high", "choices", "optional"}  # of a hyper-parameter: what is refused
TOLD = {"note", "reason", "paper", "bad", "room", "example"}  # keywords that say something and change nothing


def fingerprint(module: str) -> str:
    """A hash over the meaning of ``module``, of every definition of ours that it uses, and of the core's golden runs.

    Only names are followed: what is looked up at run time (such as the search spaces of the registry) is not.

    Raises:
        ModuleNotFoundError: if there is no such module.
    """
    with PARSING:
        file, known = _remembered()
        if module not in known:
            from attractor.papers import golden

            known[module] = _digest(ROOT, module, golden.state())
            file.parent.mkdir(parents=True, exist_ok=True)
            with file.open("a", encoding="ascii") as lines:  # one write, which other processes' do not cut in two
                lines.write(f"{module} {known[module]}\n")
        return known[module]


@cache
def _remembered() -> tuple[Path, dict[str, str]]:
    """Where fingerprints of just these files are kept, and those that are: to parse all sources takes seconds."""
    state = hashlib.sha256(importlib.metadata.version("jax").encode())
    for path in sorted([*ROOT.rglob("*.py"), ROOT / "papers" / "golden.json"]):
        found = path.stat()
        state.update(f"{path} {found.st_size} {found.st_mtime_ns}\n".encode())
    root = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    file = root / "attractor" / "fingerprints" / state.hexdigest()[:32]
    lines = file.read_text(encoding="ascii").splitlines() if file.exists() else []
    return file, {name: found for name, _, found in (line.partition(" ") for line in lines) if found}


@cache
def _digest(root: Path, module: str, core: str) -> str:
    return _sources(root).fingerprint(module, core)


@cache
def _sources(root: Path) -> "Sources":
    return Sources(root)  # what papers share is read once


def path_of(module: str) -> Path:
    """The file of one of our modules, found without importing it; it need not exist."""
    return _file(ROOT, module)


def _file(root: Path, module: str) -> Path:
    base = root.joinpath(*module.split(".")[1:])
    return base / "__init__.py" if base.is_dir() else base.with_suffix(".py")


def core_code(root: Path = ROOT) -> str:
    """A hash over the meaning of the core's modules, those that only show or store results left out."""
    files = [p for p in sorted(root.glob("*.py")) if p.stem not in SHOWN and f"attractor.{p.stem}" not in FOLLOWED]
    files += [root / "papers" / f"{name}.py" for name in ("evidence", "setting", "words", "golden")]
    digest = hashlib.sha256()
    for path in files:
        code = _syntax(meaning(path.read_text(encoding="utf-8"))) if path.exists() else ""
        digest.update(f"{path.stem}\n{code}\n".encode())
    return digest.hexdigest()[:16]


def meaning(text: str) -> ast.Module:
    """A module's syntax tree without all that has no meaning for a claim's numbers."""
    tree = ast.parse(text)
    checks = {
        alias.asname or alias.name
        for node in (ast.walk(tree) if "attractor.checks" in text else ())
        if isinstance(node, ast.ImportFrom) and node.module == "attractor.checks"
        for alias in node.names
    }
    return _Strip(checks).visit(tree)


# What trees share, as before and after a change, is parsed, walked and written out once.
_statements = cache(lambda text: meaning(text).body)
_nodes = cache(lambda statement: list(ast.walk(statement)))
_text = cache(lambda statement: _syntax(statement))


def _syntax(node: object) -> str:
    """A syntax tree as text: what `ast.dump` of Python 3.11 gives, whose own text changes with Python's releases."""
    if isinstance(node, list):
        return f"[{', '.join(map(_syntax, node))}]"
    if not isinstance(node, ast.AST):
        return repr(node)
    # What may be left out is: but a constant's value may well be None.
    named = {name: getattr(node, name) for name in node._fields}
    if not named.get("type_params"):
        named.pop("type_params", None)
    constant = isinstance(node, ast.Constant)
    said = [f"{n}={_syntax(v)}" for n, v in named.items() if v is not None or (constant and n == "value")]
    return f"{type(node).__name__}({', '.join(said)})"


class _Strip(ast.NodeTransformer):
    def __init__(self, checks: set[str]):
        self.checks = checks

    def visit_Module(self, node: ast.Module) -> ast.AST:
        return self._documented(node)

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        return self._documented(node)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        node.returns = None
        return self._documented(node)

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> ast.AST:
        node.returns = None
        return self._documented(node)

    def _documented(self, node: ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) -> ast.AST:
        if ast.get_docstring(node, clean=False) is not None:
            node.body = node.body[1:]
        self.generic_visit(node)
        if not node.body and not isinstance(node, ast.Module):
            node.body = [ast.Pass()]
        return node

    def visit_arg(self, node: ast.arg) -> ast.AST:
        node.annotation = None
        return node

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
        node.annotation = ast.Constant("")  # a field stays a field, whatever its type is said to be
        self.generic_visit(node)
        return node

    def visit_Raise(self, node: ast.Raise) -> None:
        return None

    def visit_If(self, node: ast.If) -> ast.AST | list[ast.stmt] | None:
        guards = all(isinstance(s, ast.Raise) for s in node.body)
        self.generic_visit(node)
        if guards:  # only refuses something
            return node.orelse or None
        node.body = node.body or [ast.Pass()]
        return node

    def visit_Expr(self, node: ast.Expr) -> ast.AST | None:
        call = node.value
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id in self.checks:
            return None
        self.generic_visit(node)
        return node

    def visit_Call(self, node: ast.Call) -> ast.AST:
        self.generic_visit(node)
        ranged = isinstance(node.func, ast.Name) and node.func.id == "hyper"
        node.keywords = [k for k in node.keywords if k.arg not in (RANGES if ranged else TOLD)]
        return node


class Sources:
    """The definitions below a folder, read once.

    Arguments:
        root: The folder of the package.
    """

    def __init__(self, root: Path):
        self.root = root
        self._bodies: dict[str, list[ast.stmt]] = {}
        self._names: dict[str, dict[str, list[int]]] = {}
        self._free: dict[str, set[tuple[str, int]]] = {}
        self._used: dict[tuple[str, int], set[tuple[str, int]]] = {}
        self._whole: dict[str, dict[str, str]] = {}
        self._dumped: dict[tuple[str, int], bytes] = {}

    def fingerprint(self, module: str, core: str) -> str:
        """See `fingerprint`; ``core`` stands for the core."""
        digest = hashlib.sha256(core.encode())
        for name, index in sorted(self._reached(module)):
            if (name, index) not in self._dumped:
                self._dumped[name, index] = f"{name}\n{_text(self._body(name)[index])}\n".encode()
            digest.update(self._dumped[name, index])
        return digest.hexdigest()[:16]

    def is_core(self, module: str) -> bool:
        """Whether a module's source does not count, as golden runs stand in for it."""
        parts = module.split(".")
        if parts[:2] == ["attractor", "papers"]:
            return len(parts) <= 3 and not (len(parts) == 3 and (self.root / "papers" / parts[2]).is_dir())
        return len(parts) == 1 or (len(parts) == 2 and module not in FOLLOWED and not (self.root / parts[1]).is_dir())

    def _reached(self, module: str) -> set[tuple[str, int]]:
        """Statements, as (module, index in its body), that running ``module`` can reach."""
        reached: set[tuple[str, int]] = set()
        waiting = [(module, i) for i in range(len(self._body(module)))]
        while waiting:
            statement = waiting.pop()
            if statement not in reached:
                reached.add(statement)
                if statement not in self._used:
                    self._used[statement] = self._uses(*statement)
                waiting += self._used[statement]
        return reached

    def _body(self, module: str) -> list[ast.stmt]:
        if module not in self._bodies:
            path = _file(self.root, module)
            if not path.is_file():
                raise ModuleNotFoundError(f"no module named {module!r}")
            self._bodies[module] = _statements(path.read_text(encoding="utf-8"))
        return self._bodies[module]

    def _bindings(self, module: str) -> dict[str, list[int]]:
        """Which statements of a module bind each of its names; a bare registration belongs to what it registers."""
        if module not in self._names:
            found: dict[str, list[int]] = {}
            for i, statement in enumerate(self._body(module)):
                for name in _bound(statement) or _registered(statement):
                    found.setdefault(name, []).append(i)
            self._names[module] = found
        return self._names[module]

    def _uses(self, module: str, index: int) -> set[tuple[str, int]]:
        statement = self._body(module)[index]
        nodes = _nodes(statement)
        names = {node.id for node in nodes if isinstance(node, ast.Name)}
        local = self._bindings(module)
        inside = {(module, i) for name in names for i in local.get(name, ())} | self._running(module)
        imports = [node for node in nodes if isinstance(node, ast.Import | ast.ImportFrom)]
        inside |= {place for node in imports for place in self._imported(module, node)}
        whole = {alias: of for alias, of in self._modules(module).items() if alias in names}
        return inside | {place for alias, of in whole.items() for place in self._of_module(nodes, alias, of)}

    def _running(self, module: str) -> set[tuple[str, int]]:
        """Statements that bind no name, such as a call or a condition: they run with the module, whatever is used."""
        if module not in self._free:
            body = enumerate(self._body(module))
            self._free[module] = {(module, i) for i, other in body if not _bound(other) and not _registered(other)}
        return self._free[module]

    def _modules(self, module: str) -> dict[str, str]:
        """What a module imports of our modules, ``from attractor.optim import adaptive as lib``, by its name there."""
        if module not in self._whole:
            nodes = [node for node in self._body(module) if isinstance(node, ast.ImportFrom)]
            pairs = [(a.asname or a.name, f"{self._base(module, node)}.{a.name}") for node in nodes for a in node.names]
            self._whole[module] = {name: whole for name, whole in pairs if self._counts(whole)}
        return self._whole[module]

    def _counts(self, module: str) -> bool:
        return module.startswith("attractor.") and _file(self.root, module).is_file() and not self.is_core(module)

    def _of_module(self, nodes: list[ast.AST], alias: str, module: str) -> Iterator[tuple[str, int]]:
        """What a statement's nodes use of a module: ``alias.name``, or all of it where the alias stands alone."""
        named = [n for n in nodes if isinstance(n, ast.Name) and n.id == alias]
        used = [n.attr for n in nodes if isinstance(n, ast.Attribute) and n.value in named]
        known = self._bindings(module)
        if len(used) == len(named) and all(name in known for name in used):
            yield from ((module, i) for name in used for i in known[name])
        else:
            yield from ((module, i) for i in range(len(self._body(module))))

    def _imported(self, module: str, node: ast.Import | ast.ImportFrom) -> Iterator[tuple[str, int]]:
        """The statements of ours that an import statement brings in."""
        base = self._base(module, node) if isinstance(node, ast.ImportFrom) else None
        if base is not None and base.startswith("attractor.") and self.is_core(base):
            return
        for name in (alias.name for alias in node.names):
            whole = name if base is None else f"{base}.{name}"
            if whole.startswith("attractor.") and _file(self.root, whole).is_file():
                # At the top of a module, what is used of it counts; see `_of_module`.
                if self._counts(whole) and not (isinstance(node, ast.ImportFrom) and node in self._body(module)):
                    yield from ((whole, i) for i in range(len(self._body(whole))))
            elif base and base.split(".")[0] == "attractor" and base != "attractor":
                yield from ((base, i) for i in self._bindings(base).get(name, ()))

    def _base(self, module: str, node: ast.ImportFrom) -> str:
        """The module that a ``from`` import names."""
        package = module if _file(self.root, module).name == "__init__.py" else module.rpartition(".")[0]
        relative = "." * node.level + (node.module or "")
        return importlib.util.resolve_name(relative, package) if node.level else node.module or ""


def _bound(statement: ast.stmt) -> set[str]:
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return {statement.name}
    if isinstance(statement, ast.Import | ast.ImportFrom):
        return {alias.asname or alias.name.split(".")[0] for alias in statement.names}
    if isinstance(statement, ast.Assign | ast.AnnAssign | ast.AugAssign):
        return {n.id for n in ast.walk(statement) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
    return set()  # anything else, such as a call or a condition, runs with the module


def _registered(statement: ast.stmt) -> set[str]:
    """What a bare registration, ``method("name", …)(factory)``, registers: its first name."""
    call = statement.value if isinstance(statement, ast.Expr) else None
    if not (isinstance(call, ast.Call) and isinstance(call.func, ast.Call) and isinstance(call.func.func, ast.Name)):
        return set()
    if call.func.func.id not in REGISTRATIONS or not call.args:
        return set()
    first = next((n for n in ast.walk(call.args[0]) if isinstance(n, ast.Name)), None)
    return {first.id} if first else set()
