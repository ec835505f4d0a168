"""What an extra brings: its absence is said with what to install."""

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def needs(extra: str) -> Iterator[None]:
    """Imports in the block belong to this extra.

    Raises:
        ImportError: if one fails; it says what to install.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("attractor"):
            raise
        raise ImportError(f"{error.name} is not installed: pip install 'attractor[{extra}]'") from error
