"""Which of our definitions a claim depends on, and one hash over them."""

import ast
import functools
import hashlib
import importlib.util
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
# What shows results and has no part in them.
IGNORED = {f"attractor.{name}" for name in ("report", "progress", "names", "papers.catalogue")}


def fingerprint(module: str) -> str:
    """SHA-256 over the code of ``module`` and every definition of ours that it uses, directly or not.

    A definition is a top-level function, class, or assignment; what is not used does not count, and neither do
    comments, formatting and docstrings. A module that is imported as a whole counts as a whole. Only names are
    followed: what is looked up at run time (such as the search spaces of the registry) is not.

    Raises:
        ModuleNotFoundError: if there is no such module.
    """
    digest = hashlib.sha256()
    for name, index in sorted(_reached(module)):
        digest.update(f"{name}\n{_code(name, index)}\n".encode())
    return digest.hexdigest()[:16]


def path_of(module: str) -> Path:
    """The file of one of our modules, found without importing it; it need not exist."""
    base = ROOT.joinpath(*module.split(".")[1:])
    return base / "__init__.py" if base.is_dir() else base.with_suffix(".py")


def _reached(module: str) -> set[tuple[str, int]]:
    """Statements, as (module, index in its body), that running ``module`` can reach."""
    reached: set[tuple[str, int]] = set()
    waiting = [(module, i) for i in range(len(_body(module)))]
    while waiting:
        statement = waiting.pop()
        if statement not in reached:
            reached.add(statement)
            waiting += _uses(*statement)
    return reached


@functools.cache
def _body(module: str) -> tuple[ast.stmt, ...]:
    path = path_of(module)
    if not path.is_file():
        raise ModuleNotFoundError(f"no module named {module!r}")
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        documented = isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        if documented and ast.get_docstring(node, clean=False) is not None:
            node.body = node.body[1:]
    return tuple(tree.body)


@functools.cache
def _bindings(module: str) -> dict[str, list[int]]:
    """Which statements of a module bind each of its names."""
    found: dict[str, list[int]] = {}
    for i, statement in enumerate(_body(module)):
        for name in _bound(statement):
            found.setdefault(name, []).append(i)
    return found


def _bound(statement: ast.stmt) -> set[str]:
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return {statement.name}
    if isinstance(statement, ast.Import | ast.ImportFrom):
        return {alias.asname or alias.name.split(".")[0] for alias in statement.names}
    if isinstance(statement, ast.Assign | ast.AnnAssign | ast.AugAssign):
        return {n.id for n in ast.walk(statement) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
    return set()  # anything else, such as a call or a condition, runs with the module: see _uses


@functools.cache
def _uses(module: str, index: int) -> tuple[tuple[str, int], ...]:
    statement = _body(module)[index]
    names = {node.id for node in ast.walk(statement) if isinstance(node, ast.Name)}
    local = _bindings(module)
    inside = {(module, i) for name in names for i in local.get(name, ())}
    inside |= {(module, i) for i, other in enumerate(_body(module)) if not _bound(other)}
    imports = [node for node in ast.walk(statement) if isinstance(node, ast.Import | ast.ImportFrom)]
    return tuple(inside | {place for node in imports for place in _imported(module, node)})


def _imported(module: str, node: ast.Import | ast.ImportFrom) -> Iterator[tuple[str, int]]:
    """The statements of ours that an import statement brings in."""
    package = module if path_of(module).name == "__init__.py" else module.rpartition(".")[0]
    if isinstance(node, ast.Import):
        base, names = None, [alias.name for alias in node.names]
    else:
        relative = "." * node.level + (node.module or "")
        base = importlib.util.resolve_name(relative, package) if node.level else node.module or ""
        names = [alias.name for alias in node.names]
    for name in names:
        whole = name if base is None else f"{base}.{name}"
        if IGNORED & {base, whole}:
            continue
        if whole.startswith("attractor.") and path_of(whole).is_file():
            yield from ((whole, i) for i in range(len(_body(whole))))
        elif base and base.split(".")[0] == "attractor" and base != "attractor":
            yield from ((base, i) for i in _bindings(base).get(name, ()))


@functools.cache
def _code(module: str, index: int) -> str:
    return ast.dump(_body(module)[index])
