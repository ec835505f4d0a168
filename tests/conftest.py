"""Shape and type annotations of the whole package are checked at run time in every test."""

from jaxtyping import install_import_hook

install_import_hook("attractor", "typecheck.check")

import pytest  # noqa: E402


@pytest.fixture(autouse=True)
def own_home(tmp_path, monkeypatch):
    """Every test keeps its results in a folder of its own."""
    monkeypatch.setenv("ATTRACTOR_HOME", str(tmp_path / "home"))
