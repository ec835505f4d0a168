"""The page on `diagnose` is generated from the rules."""

from pathlib import Path

import findings
import tables

from attractor.diagnosis import RULES, THRESHOLDS

PAGE = Path(__file__).parents[2] / "docs" / "diagnose.md"


def test_every_rule_and_threshold_is_on_the_page():
    text = tables.fill(PAGE.read_text(encoding="utf-8"))
    assert "{{" not in text
    for name in RULES:
        assert f"| **{name}** |" in text
    rows = findings.thresholds().splitlines()[2:]
    assert len(rows) == len(THRESHOLDS)
    for (name, value), row in zip(THRESHOLDS.items(), rows, strict=True):
        number, threshold, about, _ = (cell.strip() for cell in row.strip("|").split("|"))
        assert (number, float(threshold)) == (name, value)
        assert len(about) > 8  # what its line in the source says
