"""Names and what to say when one is unknown."""

import difflib
from collections.abc import Iterable


def unknown(what: str, name: str, known: Iterable[str], otherwise: str = "") -> ValueError:
    """An error for an unknown name that suggests the nearest known one.

    Arguments:
        what: What is named, such as ``"method"``.
        name: As given.
        known: The accepted names.
        otherwise: What to say when none is near.
    """
    near = difflib.get_close_matches(name.strip().lower().replace("_", "-"), known, 1, 0.5)
    hint = f", did you mean {near[0]!r}?" if near else f"; {otherwise}" if otherwise else ""
    return ValueError(f"unknown {what} {name!r}{hint}")
