"""Checkpoints: the exact bits of a run's state, tied to the program and the data that made it."""

import hashlib
import json
import os
import zipfile
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from attractor.places import Place, opened, require_folder, write_atomically


class CheckpointError(ValueError):
    """A checkpoint that is damaged or belongs to another run."""


def folder_of(checkpoint: str | os.PathLike[str]) -> Place:
    """The folder that was given, local (with ``~`` as in a shell) or at a URL.

    Raises:
        ValueError: if nothing can be written there, before there is anything to write.
        MissingExtra: if the package is not installed that serves a URL.
    """
    return require_folder(checkpoint, "checkpoint")


class State(NamedTuple):
    """What a run needs to go on.

    Attributes:
        carry: Iterates and method states, as they were.
        recorded: Probe values so far.
        next_record: The recording to make next.
        timing: Where the time went so far, as numbers by name.
        at: The steps at which the run that was saved records.
    """

    carry: PyTree
    recorded: dict[str, np.ndarray]
    next_record: int
    timing: dict[str, Any]
    at: list[int]


class Checkpoint:
    """One file that holds one run's state. Nothing is pickled: arrays travel as raw bytes with a JSON header.

    Arguments:
        path: Of the file; its folder is made when needed.
    """

    def __init__(self, path: Place):
        self.path = path
        self.identity = ""

    def identify(self, program: str, inputs: list[Any]) -> None:
        """Tie the file to a lowered program and to the arrays it reads."""
        digest = hashlib.sha256(program.encode())
        for leaf in inputs:
            if isinstance(leaf, jax.Array | np.ndarray):
                digest.update(_bits(leaf).tobytes())
        self.identity = digest.hexdigest()

    def save(
        self,
        carry: PyTree,
        recorded: dict[str, np.ndarray],
        next_record: int,
        timing: dict[str, Any] | None = None,
        at: Sequence[int] = (),
    ) -> None:
        """Replace the file in one atomic step."""
        leaves = [leaf for leaf in jax.tree.leaves(carry) if isinstance(leaf, jax.Array)]
        header = {"identity": self.identity, "next_record": next_record, "recorded": list(recorded)}
        header |= {"timing": timing or {}, "at": list(at)}
        arrays = {f"carry-{i}": _bits(leaf) for i, leaf in enumerate(leaves)}
        arrays |= {f"recorded-{i}": v for i, v in enumerate(recorded.values())}
        text = np.frombuffer(json.dumps(header).encode(), np.uint8)
        write_atomically(self.path, lambda file: np.savez(file, allow_pickle=False, header=text, **arrays))

    def load(self, like: PyTree) -> State | None:
        """The saved state, its carry in the structure of ``like``; `None` when there is no file.

        Raises:
            CheckpointError: if the file is truncated, damaged, or belongs to another run.
        """
        try:
            with opened(self.path) as source, np.load(source, allow_pickle=False) as file:
                arrays = {name: file[name] for name in file.files}
            header = json.loads(arrays.pop("header").tobytes())
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zipfile.LargeZipFile) as error:
            raise CheckpointError(
                f"checkpoint: {self.path} is damaged or no checkpoint ({error}); delete it to start again"
            ) from error
        if header["identity"] != self.identity:
            raise CheckpointError(
                f"checkpoint: {self.path} belongs to another run (problem, data, method, sweep, seeds, probes "
                "or library versions differ); choose another folder, or delete it to start again"
            )
        leaves, structure = jax.tree.flatten(like)
        saved = iter([arrays[f"carry-{i}"] for i in range(sum(isinstance(a, jax.Array) for a in leaves))])
        carry = [_unbits(next(saved), leaf) if isinstance(leaf, jax.Array) else leaf for leaf in leaves]
        recorded = {name: arrays[f"recorded-{i}"] for i, name in enumerate(header["recorded"])}
        carry = jax.tree.unflatten(structure, carry)
        return State(carry, recorded, header["next_record"], header.get("timing", {}), header.get("at", []))


def _bits(leaf: Any) -> np.ndarray:
    """An array as bytes, with a last axis of bytes per entry; PRNG keys as their data."""
    if isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        leaf = jax.random.key_data(leaf)
    array = np.ascontiguousarray(leaf)
    return np.frombuffer(array.tobytes(), np.uint8)


def _unbits(bits: np.ndarray, like: jax.Array) -> jax.Array:
    if jnp.issubdtype(like.dtype, jax.dtypes.prng_key):
        data = jax.random.key_data(like)
        return jax.random.wrap_key_data(_unbits(bits, data), impl=jax.random.key_impl(like))
    return jnp.asarray(np.frombuffer(bits.tobytes(), like.dtype).reshape(like.shape))
