"""Objects of the user's own, by the name of a module or of a file."""

import importlib
import importlib.machinery
import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any


def load_object(name: str, argument: str) -> Any:
    """What ``module:object`` or ``file.py:object`` names.

    A file is loaded by its path, whatever its name: a ``signal.py`` of the user's is not the standard library's.

    Arguments:
        name: As given.
        argument: What it is given for, for errors.

    Raises:
        ValueError: if there is no such file, module or object.
    """
    where, _, attribute = name.rpartition(":")
    module = _file(Path(where), argument) if where.endswith(".py") else _module(where, argument)
    found = getattr(module, attribute, None)
    if found is None:
        defined = [n for n, v in vars(module).items() if n[0] != "_" and not isinstance(v, ModuleType)]
        raise ValueError(f"{argument}: {where} has no {attribute!r}; it has {', '.join(defined[:20]) or 'nothing'}")
    return found


def _file(path: Path, argument: str) -> ModuleType:
    if not path.is_file():
        raise ValueError(f"{argument}: there is no file {path}")
    path = path.resolve()
    with _importing_from(path.parent):
        # Under its own name where that leads to it, so that other processes find what it defines.
        found = importlib.machinery.PathFinder.find_spec(path.stem)
        own = found is not None and found.origin is not None and Path(found.origin).resolve() == path
        loaded = sys.modules.get(path.stem)
        if own and (loaded is None or getattr(loaded, "__file__", None) == str(path)):
            return importlib.import_module(path.stem)
        spec = importlib.util.spec_from_file_location(f"{path.stem}_by_path", path)
        assert spec is not None  # the name ends in .py
        assert spec.loader is not None
        module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module


def _module(name: str, argument: str) -> ModuleType:
    with _importing_from(Path.cwd()):
        try:
            return importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name is None or not f"{name}.".startswith(f"{error.name}."):
                raise
            raise ValueError(f"{argument}: there is no module {name!r} here or among the installed ones") from error


@contextmanager
def _importing_from(folder: Path) -> Iterator[None]:
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))
