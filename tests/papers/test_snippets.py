"""The usage example of every written paper runs."""

import importlib

import pytest

from attractor.papers import catalogue, rows, written

WRITTEN = [slug for slug in catalogue() if written(slug)]


@pytest.mark.parametrize("slug", WRITTEN)
def test_the_usage_snippet_runs(slug, capsys):
    snippet = rows.snippet(slug)
    assert "import" in snippet
    exec(compile(snippet, f"<usage of {slug}>", "exec"), {"__name__": "snippet"})


@pytest.mark.parametrize("slug", WRITTEN)
def test_the_parts_in_the_catalogue_can_be_imported(slug):
    for part in catalogue()[slug].parts:
        module, _, name = part.rpartition(".")
        assert hasattr(importlib.import_module(f"attractor.{module}"), name), part
