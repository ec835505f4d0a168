"""The benchmark of the search runs; its times are not asserted here."""

import importlib.util
from pathlib import Path

from attractor.feed import Library, meaning

FILE = Path(__file__).parents[2] / "benchmarks" / "search.py"


def test_made_up_papers_are_filled_in_once_and_searched(tmp_path, monkeypatch):
    spec = importlib.util.spec_from_file_location("search_benchmark", FILE)
    assert spec is not None
    assert spec.loader is not None
    benchmark = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(benchmark)
    monkeypatch.setattr(benchmark, "BATCH", 250)
    monkeypatch.setattr(meaning, "EXACT", 300)
    with Library(tmp_path / "feed.sqlite") as library:
        benchmark.fill(library, 200)
        benchmark.fill(library, 600)
        assert len(library) == len(meaning.vectors(library)[0]) == 600
        figures = benchmark.measure(library, 4)
        assert meaning.index(library).graph is not None
        assert meaning.search(library, "zq77", 1)[0][0].uid == "made-up:77"
        meaning._indices.clear()
    assert figures["papers"] == 600
    assert figures["recall_at_10"] > 0.9
