"""Objects of the user's own, by the name of a module or of a file."""

import importlib
import sys
from pathlib import Path
from typing import Any


def load_object(name: str, argument: str) -> Any:
    """What ``module:object`` or ``file.py:object`` names.

    Arguments:
        name: As given.
        argument: What it is given for, for errors.

    Raises:
        ValueError: if there is no such file, module or object.
    """
    where, _, attribute = name.rpartition(":")
    path = Path(where) if where.endswith(".py") else None
    sys.path.insert(0, str(path.parent.resolve() if path else Path.cwd()))
    if path and not path.exists():
        raise ValueError(f"{argument}: there is no file {where}")
    try:
        module = importlib.import_module(path.stem if path else where)
    except ModuleNotFoundError as error:
        if error.name not in (where, path and path.stem):
            raise
        raise ValueError(f"{argument}: there is no module {where!r} here or among the installed ones") from error
    finally:
        sys.path.pop(0)
    found = getattr(module, attribute, None)
    if found is None:
        raise ValueError(
            f"{argument}: {where} has no {attribute!r}; it has {', '.join(n for n in vars(module) if n[0] != '_')}"
        )
    return found
