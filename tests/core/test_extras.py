"""What is not installed is said in the same words everywhere, with what to install."""

import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

import attractor
from attractor import problems
from attractor.cli import app, common
from attractor.diagnosis import callbacks
from attractor.dynamics import chaos_registry
from attractor.extras import MissingExtra, needs
from attractor.feed import bibliographies, digest, mcp, plain, schedule
from attractor.feed.sources import document, oai

CALLS = {
    "feedparser feed": lambda: document.feed("<rss/>"),
    "nh3 feed": lambda: plain.plain("<b>x</b>"),
    "defusedxml feed": lambda: oai.read("<OAI-PMH/>", datetime.now(UTC)),
    "bibtexparser feed": lambda: bibliographies.read_bibtex("@misc{a}"),
    "rispy feed": lambda: bibliographies.read_ris("TY  - JOUR"),
    "apscheduler feed": lambda: schedule.run(None),
    "jinja2 feed": digest._templates.__wrapped__,
    "css_inline feed": lambda: digest._html("digest.html", {}),
    "uvicorn web": lambda: app(["serve"], standalone_mode=False),
    "mcp mcp": mcp.server,
    "gymnasium rl": problems.cartpole,
    "dysts dynamics": chaos_registry.__wrapped__,
    "lightning.pytorch or pytorch_lightning lightning": callbacks.LightningMonitor,
    "transformers transformers": callbacks.TrainerMonitor,
}


@pytest.mark.parametrize("case", CALLS)
def test_a_missing_package_is_named_with_its_extra(case, monkeypatch):
    package, _, extra = case.rpartition(" ")
    callbacks._over.cache_clear()
    for name in package.split(" or "):
        for loaded in [n for n in sys.modules if n == name or n.startswith(f"{name}.")]:
            monkeypatch.setitem(sys.modules, loaded, None)
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingExtra) as caught:
        CALLS[case]()
    assert str(caught.value) == f"{package} is not installed, or too old: pip install 'attractor[{extra}]'"
    assert (caught.value.name, isinstance(caught.value, ModuleNotFoundError)) == (package, True)


def test_a_package_that_lacks_a_name_is_too_old_and_a_fault_of_ours_stays_one():
    with pytest.raises(MissingExtra, match=r"^json is not installed, or too old: pip install"), needs("feed"):
        exec("from json import nothing_of_the_kind")
    with pytest.raises(ModuleNotFoundError, match=r"^No module named 'attractor\.nothing'"), needs("feed"):
        exec("import attractor.nothing")


def test_the_command_line_says_it_in_one_line(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    monkeypatch.setattr(sys, "argv", ["attractor", "serve"])
    with pytest.raises(SystemExit) as ended:
        common.main()
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert said == "attractor: uvicorn is not installed, or too old: pip install 'attractor[web]'\n"


def test_nobody_says_it_in_words_of_their_own():
    package = Path(attractor.__file__).parent
    assert [p.name for p in package.rglob("*.py") if "pip install" in p.read_text("utf-8")] == ["extras.py"]


def test_the_feed_waits_for_no_table_and_no_compiler():
    heavy = "{'pandas', 'duckdb', 'pyarrow', 'fsspec', 'jax'}"
    code = f"import sys; import attractor.cli, attractor.feed.sync; print(sorted({heavy} & set(sys.modules)))"
    asked = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert asked.stdout == "[]\n"
