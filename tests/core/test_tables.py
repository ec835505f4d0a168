"""Tables for other programs: nothing is lost in CSV and Parquet, and text reads well."""

import math
from pathlib import Path

import pandas as pd
import pytest

from attractor.stats import Interval
from attractor.tables import export, flat

TABLE = pd.DataFrame(
    {
        "final loss": [Interval(0.123456, 0.1, 0.15), Interval(math.inf, math.inf, math.inf)],
        "vs a_1": [None, Interval(2.0, -1.0, 5.0)],
        "ms per step": [math.nan, 0.25],
        "diverged": ["0/8", "8/8"],
        "tuned": ["learning_rate=0.1", "rate=50% | decay=1"],
    },
    index=pd.Index(["a_1", "b"], name="method"),
)


def test_an_interval_is_three_columns():
    found = flat(TABLE)
    assert list(found.columns)[:6] == [
        "final loss", "final loss low", "final loss high", "vs a_1", "vs a_1 low", "vs a_1 high"
    ]  # fmt: skip
    assert found.loc["a_1", "final loss high"] == 0.15
    assert math.isnan(found.loc["a_1", "vs a_1"])
    assert found.loc["b"].tolist()[3:6] == [2.0, -1.0, 5.0]


@pytest.mark.parametrize(("ending", "read"), [("csv", pd.read_csv), ("parquet", pd.read_parquet)])
def test_files_hold_the_numbers_in_full(tmp_path, ending, read):
    where = export(TABLE, tmp_path / "new" / f"table.{ending}")
    pd.testing.assert_frame_equal(read(where).set_index("method"), flat(TABLE), check_dtype=False)


def test_markdown(tmp_path):
    lines = Path(export(TABLE, tmp_path / "t.md")).read_text().splitlines()
    assert lines == [
        "| method | final loss | vs a_1 | ms per step | diverged | tuned |",
        "| --- | ---: | ---: | ---: | --- | --- |",
        "| a_1 | 0.1235 [0.1, 0.15] | – | – | 0/8 | learning_rate=0.1 |",
        r"| b | never | 2 [-1, 5] | 0.25 | 8/8 | rate=50% \| decay=1 |",
    ]


def test_latex(tmp_path):
    export(TABLE, tmp_path / "t.tex")
    assert (tmp_path / "t.tex").read_text() == (
        "\\begin{tabular}{lrrrll}\n\\hline\n"
        "method & final loss & vs a\\_1 & ms per step & diverged & tuned \\\\\n\\hline\n"
        "a\\_1 & 0.1235 [0.1, 0.15] & -- & -- & 0/8 & learning\\_rate=0.1 \\\\\n"
        "b & never & 2 [-1, 5] & 0.25 & 8/8 & rate=50\\% | decay=1 \\\\\n"
        "\\hline\n\\end{tabular}\n"
    )


def test_another_ending_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"path: expected a name that ends in \.csv, \.parquet, \.md, \.tex, got"):
        export(TABLE, tmp_path / "table.xlsx")
    assert not any(tmp_path.iterdir())
