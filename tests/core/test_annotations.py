"""Annotations that a newer release of a library below us cannot read would stop the import of ours."""

import re
from pathlib import Path

import attractor

SOURCES = Path(attractor.__file__).parent


def test_shapes_are_of_jaxs_array_like():
    """NumPy's own, from 2.5 on, has members that are no classes, and jaxtyping refuses to give it a shape."""
    found = [file for file in SOURCES.rglob("*.py") if re.search(r"\[ArrayLike, \"", file.read_text())]
    assert found
    for file in found:
        assert not re.search(r"from numpy\.typing import .*ArrayLike", file.read_text()), file
