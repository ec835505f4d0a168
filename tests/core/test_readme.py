"""The README's Python runs as printed."""

import re
from pathlib import Path

import pytest

from attractor.papers.catalogue import ROOMS, catalogue
from attractor.papers.claims import written

ROOT = Path(__file__).parents[2]
BLOCKS = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.S)


@pytest.mark.parametrize("block", BLOCKS, ids=lambda b: re.sub(r"\W+", "-", b.splitlines()[-1])[:40])
def test_readme_snippets_run(block, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    if "import torch" in block:
        pytest.importorskip("torch", reason="PyTorch is an optional extra")
    exec(compile(block, "<README>", "exec"), {"__name__": "readme"})


def test_set_up_is_two_commands():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    commands = re.search(r"## Set up\n\n```bash\n(.*?)```", text, re.S)
    assert commands is not None
    assert [line.split("#")[0].strip() for line in commands[1].splitlines()] == ["make demo", "make test"]


def test_the_table_of_rooms_counts_what_has_a_verdict():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (`.*`) \| (\d+) of (\d+) \|", text, re.M)
    listed = [re.findall(r"`(\w+)`", rooms) for rooms, _, _ in rows]
    assert sorted(room for rooms in listed for room in rooms) == sorted(ROOMS)
    for rooms, (_, tried, known) in zip(listed, rows, strict=True):
        papers = [p for p in catalogue().values() if p.room in rooms]
        assert (sum(map(written, (p.slug for p in papers))), len(papers)) == (int(tried), int(known)), rooms
    total = re.search(r"(\d+) of (\d+) papers have a verdict", text)
    assert total is not None
    assert total.groups() == (str(sum(map(written, catalogue()))), str(len(catalogue())))
