"""What an extra brings: its absence is said with what to install."""

from collections.abc import Iterator
from contextlib import contextmanager


class MissingExtra(ModuleNotFoundError):
    """A package is not there; an extra of attractor's brings it, unless the error says otherwise."""


def missing(package: str, extra: str) -> MissingExtra:
    """An error that says what to install.

    Arguments:
        package: What is not there, such as ``"gymnasium"``.
        extra: The extra that brings it, such as ``"rl"``.
    """
    return MissingExtra(f"{package} is not installed, or too old: pip install 'attractor[{extra}]'", name=package)


def missing_package(package: str, what: str) -> MissingExtra:
    """An error that says what to install, where no extra of attractor's brings it.

    Arguments:
        package: What is not there, as it is installed.
        what: What needs it.
    """
    return MissingExtra(f"{what} needs {package}: pip install {package}", name=package)


def command(extra: str, version: str) -> str:
    """The command that installs this version of attractor with an extra."""
    return f"pip install 'attractor[{extra}]=={version}'"


@contextmanager
def needs(extra: str) -> Iterator[None]:
    """Imports in the block belong to this extra.

    Raises:
        MissingExtra: if one fails; it says what to install.
    """
    try:
        yield
    except ImportError as error:
        package = (error.name or "").partition(".")[0]
        if package in ("", "attractor"):  # a fault, and nothing to install
            raise
        raise missing(package, extra) from error
