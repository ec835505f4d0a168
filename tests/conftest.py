"""Shape and type annotations of the whole package are checked at run time in every test."""

from jaxtyping import install_import_hook

install_import_hook("attractor", "typecheck.check")

import gc  # noqa: E402
from pathlib import Path  # noqa: E402

import jax  # noqa: E402
import pytest  # noqa: E402

MAPS = Path("/proc/self/maps")


@pytest.fixture(autouse=True)
def own_home(tmp_path, monkeypatch):
    """Every test keeps its results in a folder of its own."""
    monkeypatch.setenv("ATTRACTOR_HOME", str(tmp_path / "home"))


@pytest.fixture(autouse=True)
def drop_programs():
    """Linux lets a process map 65,530 regions; each compiled program takes some, and XLA crashes at the limit."""
    yield
    if MAPS.exists() and len(MAPS.read_bytes().splitlines()) > 20_000:
        jax.clear_caches()
        gc.collect()
