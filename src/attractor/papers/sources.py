"""Which of our source files a claim depends on, and one hash over them."""

import ast
import functools
import hashlib
import importlib.util
from pathlib import Path

ROOT = Path(__file__).parents[1]


def fingerprint(module: str) -> str:
    """SHA-256 over the code of ``module`` and all of ours that it imports, directly or not.

    Comments, formatting and docstrings do not count. ``from attractor.x import y`` depends on ``x`` (and on ``x.y``
    where that is a module), not on the packages above.

    Raises:
        ModuleNotFoundError: if there is no such module.
    """
    seen: set[str] = set()
    waiting = [module]
    while waiting:
        name = waiting.pop()
        if name not in seen:
            seen.add(name)
            waiting += _imports(name)
    digest = hashlib.sha256()
    for name in sorted(seen):
        digest.update(f"{name}\n{_code(name)}\n".encode())
    return digest.hexdigest()[:16]


def path_of(module: str) -> Path:
    """The file of one of our modules, found without importing it; it need not exist."""
    base = ROOT.joinpath(*module.split(".")[1:])
    return base / "__init__.py" if base.is_dir() else base.with_suffix(".py")


@functools.cache
def _tree(module: str) -> ast.Module:
    path = path_of(module)
    if not path.is_file():
        raise ModuleNotFoundError(f"no module named {module!r}")
    return ast.parse(path.read_text(encoding="utf-8"))


@functools.cache
def _imports(module: str) -> tuple[str, ...]:
    package = module if path_of(module).name == "__init__.py" else module.rpartition(".")[0]
    found: set[str] = set()
    for node in ast.walk(_tree(module)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            relative = "." * node.level + (node.module or "")
            base = importlib.util.resolve_name(relative, package) if node.level else node.module or ""
            inner = {f"{base}.{alias.name}" for alias in node.names}
            modules = {name for name in inner if name.startswith("attractor.") and path_of(name).is_file()}
            found |= modules
            if len(modules) < len(inner):  # something defined in the package itself
                found.add(base)
    return tuple(
        sorted(n for n in found if n.split(".")[0] == "attractor" and n != "attractor" and path_of(n).is_file())
    )


@functools.cache
def _code(module: str) -> str:
    tree = _tree(module)
    for node in ast.walk(tree):
        documented = isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        if documented and ast.get_docstring(node, clean=False) is not None:
            node.body = node.body[1:]
    return ast.dump(tree)
