"""What one run of somebody's training loop gave, kept in a file of its own, and what ties it to the code it ran."""

import functools
import hashlib
import inspect
import json
import re
import sysconfig
import types
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from attractor.checkpoint import CheckpointError
from attractor.places import Place, content, write_atomically

# What is installed is not the user's, and changes with its version, not between two calls.
INSTALLED = tuple(sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib"))
OURS = str(Path(__file__).parent)


@dataclass
class Outcome:
    """One run of a loop.

    Attributes:
        at: The recorded steps, increasing.
        values: By measurement, a number per recorded step.
        seconds: Wall seconds since the start, per recorded step.
        failure: Why it ended before its time; "" if it did not.
        place: Where in the user's code, if it raised.
        refused: Whether its first record was none: if no other run does better, no method is to blame.
    """

    at: list[int] = field(default_factory=list)
    values: dict[str, list[float]] = field(default_factory=dict)
    seconds: list[float] = field(default_factory=list)
    failure: str = ""
    place: str = ""
    refused: bool = False

    @property
    def described(self) -> str:
        """The failure, and where."""
        return f"{self.failure} ({self.place})" if self.place else self.failure


def path_of(folder: Place, name: str, identity: dict[str, Any]) -> Place:
    """The file of a run: readable by its method's ``name``, told from others by a hash of its ``identity``."""
    digest = hashlib.sha256(json.dumps(identity, sort_keys=True, default=text_of).encode()).hexdigest()
    return folder / f"{file_name(name)}-{digest[:24]}.json"


def file_name(name: str) -> str:
    """A method's name as part of a file's."""
    plain = re.sub(r"[^\w.+-]+", "_", name)
    return plain if plain == name else f"{plain}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def keep(path: Place, outcome: Outcome, about: dict[str, Any]) -> None:
    """Write an outcome, with words ``about`` it for readers, in one atomic step."""
    text = json.dumps({"about": about, "outcome": asdict(outcome)}, default=str)
    write_atomically(path, lambda file: file.write(text.encode()))


def kept(path: Place) -> Outcome | None:
    """The outcome in a file; `None` where there is no file.

    Raises:
        CheckpointError: if it is damaged.
    """
    if (found := content(path)) is None:
        return None
    try:
        return Outcome(**json.loads(found)["outcome"])
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"checkpoint: {path} is damaged or no outcome of a run ({error}); delete it to run it again"
        ) from error


def text_of(thing: Any) -> str:
    """What a function or class does, as text: its source, and that of everything of the user's own that it uses.

    Followed are functions, classes, modules and plain constants, by name, wherever they are, except in installed
    packages; of those the definition itself is text enough. Data that the code reads is not followed.

    Raises:
        ValueError: if the source of a function of the user's cannot be read.
    """
    return "\n".join(_texts(thing, {}))


def _texts(thing: Any, seen: dict[int, Any]) -> Iterator[str]:
    if thing is None or isinstance(thing, bool | int | float | complex | str | bytes):
        yield repr(thing)
        return
    if id(thing) in seen:
        return
    seen[id(thing)] = thing  # which also keeps it alive, so that no other thing gets its id
    if isinstance(thing, functools.partial):
        yield "partial"
        parts: Any = [thing.func, thing.args, thing.keywords]
    elif isinstance(thing, types.MethodType):
        parts = [thing.__self__, thing.__func__]
    elif isinstance(thing, types.ModuleType):
        parts = [] if _installed(thing) else [inspect.getsource(thing)]
    elif isinstance(thing, types.FunctionType | type):
        yield thing.__qualname__
        yield _source(thing)
        parts = [] if _installed(thing) else list(_used(thing))
        if isinstance(thing, types.FunctionType):
            parts += [cell.cell_contents for cell in thing.__closure__ or () if cell != types.CellType()]
    elif isinstance(thing, dict):
        parts = [part for pair in thing.items() for part in pair]
    elif isinstance(thing, list | tuple):
        parts = list(thing)
    elif isinstance(thing, set | frozenset):
        parts = sorted(thing, key=repr)
    elif hasattr(thing, "__wrapped__"):  # compiled or cached
        parts = [thing.__wrapped__]
    else:
        parts = [type(thing)]
    for part in parts:
        yield from _texts(part, seen)


def _source(thing: Any) -> str:
    try:
        return inspect.getsource(thing)
    except (OSError, TypeError) as error:
        if _installed(thing):
            return ""  # written in C, say
        raise ValueError(
            f"checkpoint: the source of {thing.__qualname__} cannot be read, so that a later version of it could not "
            "be told from this one; define it in a file, or leave checkpoint out"
        ) from error


def _installed(thing: Any) -> bool:
    try:
        file = inspect.getfile(thing)
    except (OSError, TypeError):
        return getattr(thing, "__module__", "builtins") != "__main__"
    return file.startswith((*INSTALLED, OURS))


def _used(thing: Any) -> Iterator[Any]:
    """What the code of a function, or of a class's methods, finds under its names outside of itself."""
    functions = [f for f in vars(thing).values() if inspect.isfunction(f)] if isinstance(thing, type) else [thing]
    yield from thing.__bases__ if isinstance(thing, type) else ()
    for function in functions:
        codes = [function.__code__]
        for code in codes:
            codes += [c for c in code.co_consts if isinstance(c, types.CodeType)]
            yield from (function.__globals__[n] for n in code.co_names if n in function.__globals__)
