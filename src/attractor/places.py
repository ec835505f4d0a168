"""Where files are: on a local disk, at any URL that fsspec knows, or in memory with a unit of work on its way.

All results are written, read and listed through here.
"""

import io
import os
import secrets
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from attractor.extras import missing_package
from attractor.names import unknown

PACKAGES = {"smbclient": "smbprotocol", "git": "pygit2"}  # modules whose package has another name


@dataclass(frozen=True)
class Url(os.PathLike[str]):
    """A file or a folder at a URL (``s3://bucket/runs``), with as much of a `pathlib.Path` as results need."""

    url: str

    def __fspath__(self) -> str:
        return self.url

    def __str__(self) -> str:
        return self.url

    @property
    def filesystem(self) -> Any:
        """Of fsspec."""
        return _filesystem(self.url)[0]

    def __truediv__(self, name: str) -> "Url":
        return Url(f"{self.url}{'' if self.url.endswith('/') else '/'}{name}")


@dataclass(frozen=True)
class Carried(os.PathLike[str]):
    """A file or a folder in memory: a checkpoint that travels with a unit of work, and back.

    Attributes:
        shown: Where its files lie at home, which is what errors name.
        files: By name, what is in them.
        name: Of the file or folder in it; "" for the whole.
    """

    shown: str
    files: dict[str, bytes] = field(default_factory=dict, repr=False)
    name: str = ""

    def __fspath__(self) -> str:
        return f"{self.shown}/{self.name}" if self.name else self.shown

    def __str__(self) -> str:
        return self.__fspath__()

    def __truediv__(self, name: str) -> "Carried":
        return Carried(self.shown, self.files, f"{self.name}/{name}" if self.name else name)


Place = Path | Url | Carried


def place(path: str | os.PathLike[str], argument: str = "path") -> Place:
    """Where ``path`` is: a local path, with ``~`` as in a shell, or a URL. ``file://`` is a local path, too.

    Arguments:
        path: As given.
        argument: What it was given as, for errors.

    Raises:
        ValueError: for a URL of a kind that fsspec does not know, or that is not one.
        MissingExtra: if the package is not installed that serves the URL; it says what to install.
    """
    if isinstance(path, Carried):
        return path
    text = os.fspath(path)
    if "://" not in text:
        return Path(text).expanduser()
    filesystem, local = _filesystem(text, argument)
    return Path(local) if _is_local(filesystem) else Url(text)


def _filesystem(url: str, argument: str = "path") -> tuple[Any, str]:
    import fsspec

    protocol = url.partition("://")[0].rpartition("::")[2]
    known = [*fsspec.available_protocols(), *fsspec.registry]  # those it knows of, and those a program has added
    if protocol not in known:
        told = unknown("protocol", protocol, known, "fsspec has file, s3, gs, abfs, sftp, hdfs, memory and more")
        raise ValueError(f"{argument}: {told}, in {url}")
    try:
        return fsspec.core.url_to_fs(url)
    except ImportError as error:
        module = getattr(error.__cause__, "name", None) or error.name or protocol
        raise missing_package(PACKAGES.get(module, module), f"{argument}: {url}") from error
    except ValueError as error:
        raise ValueError(f"{argument}: {url} cannot be used ({error})") from error


def _is_local(filesystem: Any) -> bool:
    from fsspec.implementations.local import LocalFileSystem

    return isinstance(filesystem, LocalFileSystem)


def write_atomically(path: str | os.PathLike[str], write: Callable[[IO[bytes]], Any]) -> None:
    """Call ``write(file)`` so that ``path`` holds either what it held before or all of the new content.

    On a local disk: a temporary file beside it, flushed to the disk, then renamed. At a URL: a local file first, which
    is uploaded when it is whole; an object store (``s3://…``) replaces what it had when the upload is.
    """
    target = place(path)
    if isinstance(target, Carried):
        write(buffer := io.BytesIO())
        target.files[target.name] = buffer.getvalue()
        return
    if isinstance(target, Url):
        filesystem, there = _filesystem(target.url)
        with tempfile.TemporaryDirectory() as folder:
            whole = Path(folder) / "whole"
            with whole.open("wb") as file:
                write(file)
            filesystem.put_file(str(whole), there)
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def opened(path: str | os.PathLike[str]) -> Any:
    """A binary file to be read, from anywhere; close it.

    Raises:
        FileNotFoundError: if there is none.
    """
    source = place(path)
    if isinstance(source, Path):
        return source.open("rb")
    if isinstance(source, Url):
        filesystem, there = _filesystem(source.url)
        return filesystem.open(there, "rb")
    if source.name not in source.files:
        raise FileNotFoundError(f"no such file: {source}")
    return io.BytesIO(source.files[source.name])


def content(path: str | os.PathLike[str]) -> bytes | None:
    """All of a file; `None` where there is none."""
    try:
        with opened(path) as file:
            return file.read()
    except FileNotFoundError:
        return None


def names(folder: str | os.PathLike[str]) -> list[str]:
    """The files in a folder and those below it, as names with ``/``, sorted; none where there is no folder.

    Hidden ones are left out, such as what a process was writing when it was killed.
    """
    source = place(folder)
    if isinstance(source, Path):
        found = [p.relative_to(source).as_posix() for p in source.rglob("*") if p.is_file()]
    elif isinstance(source, Url):
        filesystem, there = _filesystem(source.url)
        filesystem.invalidate_cache()  # others write there, too
        root = there.rstrip("/") + "/"
        listed = [str(p) for p in filesystem.find(there)] if filesystem.isdir(there) else []
        found = [p.removeprefix(root) for p in listed]
    else:
        root = f"{source.name}/" if source.name else ""
        found = [name.removeprefix(root) for name in source.files if name.startswith(root)]
    return sorted(name for name in found if not name.rpartition("/")[2].startswith("."))


def require_writable(path: str | os.PathLike[str], argument: str, endings: Sequence[str] = ()) -> None:
    """Refuse a file that could not be written, before the work rather than after it.

    Arguments:
        path: Where it would go; folders that are missing would be made.
        argument: What names it, for errors.
        endings: Those that it may have; default: any.

    Raises:
        ValueError: for another ending, if there is a folder of this name, or if nothing can be written there.
        MissingExtra: if the package is not installed that serves a URL.
    """
    target = place(path, argument)
    if endings and Path(os.fspath(target)).suffix.lower() not in endings:
        raise ValueError(f"{argument}: expected a name that ends in {', '.join(endings)}, got {path}")
    if isinstance(target, Path) and target.is_dir():
        raise ValueError(f"{argument}: {path} is a folder; name a file")
    _try(target, argument, path)  # an object store has no folders, and a file may have the name of one
    if isinstance(target, Path) and target.exists():
        with _told(argument, path):
            target.open("ab").close()


def require_folder(path: str | os.PathLike[str], argument: str) -> Place:
    """The folder, once it is known that files can be written into it; it is made with the first.

    Raises:
        ValueError: if nothing can be written there.
        MissingExtra: if the package is not installed that serves a URL.
    """
    folder = place(path, argument)
    _try(folder / "file", argument, path)
    return folder


def _try(target: Place, argument: str, path: str | os.PathLike[str]) -> None:
    """Write something beside the target, and take it away: permissions say little."""
    if isinstance(target, Path):
        folder = target.resolve().parent
        while not folder.exists():
            folder = folder.parent
        with _told(argument, path):  # to root, on a disk that is read-only, in /proc
            tempfile.TemporaryFile(dir=folder).close()
    elif isinstance(target, Url):
        with _told(argument, path):
            filesystem, there = _filesystem(target.url)
            beside = f"{there.rpartition('/')[0]}/.attractor-{secrets.token_hex(8)}"
            filesystem.pipe_file(beside, b"a file may be written here")
        with suppress(Exception):  # who may write and not delete keeps a few bytes
            filesystem.rm_file(beside)


@contextmanager
def _told(argument: str, path: str | os.PathLike[str]) -> Iterator[None]:
    """What goes wrong inside is an error that names the argument."""
    try:
        yield
    except Exception as error:  # a store raises what its own library does
        why = getattr(error, "strerror", None) or str(error) or type(error).__name__
        where = "at a URL where you may write" if "://" in os.fspath(path) else "in a folder of your own"
        raise ValueError(f"{argument}: cannot write {os.fspath(path)} ({why}); name one {where}") from error


def shown(path: str | os.PathLike[str]) -> str:
    """A place as a reader wants it: a URL as it is, a local path in full."""
    found = place(path)
    return str(found.resolve() if isinstance(found, Path) else found)
