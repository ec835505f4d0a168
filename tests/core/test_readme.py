"""The README's Python runs as printed."""

import re
from pathlib import Path

import pytest

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
