"""``attractor diagnose`` as a script and as a person meets it."""

import json
import os
import sys

import numpy as np
import pytest
from typer.testing import CliRunner

import attractor.diagnosis
from attractor.cli import app, main
from attractor.diagnosis import Signs, judge

GOOD = "step,loss\n" + "".join(f"{i},{np.exp(-i / 30):.5f}\n" for i in range(100))
BAD = "step,loss\n" + "".join(f"{i},{np.exp(i / 30):.5f}\n" for i in range(100))
TRAINING = """
def state():
    return {"loss": max, "params": {"w": 1.0}, "batches": [2.0], "optimizer": "adam", "learning_rate": 0.5}

def three():
    return min, 1.0, [3.0]

def lacking():
    return {"loss": max, "batches": []}

def misspelled():
    return {"loss": max, "params": 1.0, "batches": [], "optimiser": "adam"}

number = 5
"""


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "good.csv").write_text(GOOD)
    (tmp_path / "bad.csv").write_text(BAD)
    (tmp_path / "my_training.py").write_text(TRAINING)
    yield
    sys.modules.pop("my_training", None)


@pytest.fixture
def calls(monkeypatch):
    """The arguments that `diagnose` was called with."""
    seen = []

    def diagnose(loss, params, batches, *, optimizer=None, learning_rate=None, confirm=False):
        seen.append((loss, params, batches, optimizer, learning_rate, confirm))
        return judge(Signs("state"))

    monkeypatch.setattr(attractor.diagnosis, "diagnose", diagnose, raising=False)
    return seen


def invoke(*arguments):
    return CliRunner().invoke(app, ["diagnose", *arguments], catch_exceptions=False)


def test_the_exit_code_says_whether_something_is_likely_wrong():
    good, bad = invoke("--log", "good.csv"), invoke("--log", "bad.csv")
    assert good.exit_code == 0
    assert "Nothing stands out" in good.stdout
    assert bad.exit_code == 1
    assert "step too large" in bad.stdout


def test_json_for_scripts_and_a_report():
    result = invoke("--log", "bad.csv", "--json", "--report", "new/out.html")
    data = json.loads(result.stdout)
    assert data["findings"][0]["name"] == "step too large"
    assert data["kind"] == "log"
    with open(data["report"], encoding="utf-8") as file:
        assert "step too large" in file.read()
    invoke("--log", "bad.csv", "--report", "out.json")
    with open("out.json", encoding="utf-8") as file:
        assert json.load(file)["findings"] == data["findings"]


def test_columns_are_named():
    with open("own.csv", "w") as file:
        file.write(BAD.replace("loss", "cost_a").replace("step", "t"))
    assert invoke("--log", "own.csv", "--column", "loss=cost_a", "--column", "step=t").exit_code == 1


def test_several_logs_are_seeds():
    data = json.loads(invoke("--log", "good.csv", "--log", "bad.csv", "--json").stdout)
    assert data["numbers"]["seeds"] == 2


def test_a_function_gives_the_arguments(calls):
    assert invoke("my_training.py:state").exit_code == 0
    assert invoke("my_training:three", "--confirm").exit_code == 0
    assert calls == [(max, {"w": 1.0}, [2.0], "adam", 0.5, False), (min, 1.0, [3.0], None, None, True)]


def test_the_report_is_refused_before_the_work(calls):
    os.mkdir("folder.html")
    with pytest.raises(ValueError, match="is a folder"):
        invoke("my_training.py:state", "--report", "folder.html")
    with pytest.raises(ValueError, match=r"--report: expected a name that ends in \.html"):
        invoke("my_training.py:state", "--report", "out.pdf")
    with pytest.raises(ValueError, match="--report: cannot write"):  # not even root may, here
        invoke("my_training.py:state", "--report", "/proc/none/out.html")
    assert calls == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "expected either MODULE:FUNCTION or --log"),
        (["my_training.py:state", "--log", "good.csv"], "expected either"),
        (["good.csv"], "did you mean --log good.csv?"),
        (["my_training.py"], "did you mean --log my_training.py?"),
        (["absent.py:state"], "MODULE:FUNCTION: there is no file absent.py"),
        (["my_training.py:stat"], "my_training.py has no 'stat'; it has state, three"),
        (["my_training.py:lacking"], "has no 'params'; it has loss, batches"),
        (["my_training.py:misspelled"], "did you mean 'optimizer'"),
        (["my_training.py:number"], "gives 5; expected a dictionary with loss, params, batches"),
        (["my_training.py:state", "--column", "loss=x"], "--column: it names a column of --log"),
        (["--log", "good.csv", "--confirm"], "--confirm: a log cannot be run again"),
        (["--log", "good.csv", "--column", "loss"], "--column: expected ROLE=NAME"),
        (["--log", "good.csv", "--column", "los=x"], "did you mean 'loss'"),
        (["--log", "absent.csv"], "no file or folder absent.csv"),
    ],
)
def test_bad_usage_is_one_line_and_code_2(arguments, message, monkeypatch, capsys, calls):
    monkeypatch.setattr(sys, "argv", ["attractor", "diagnose", *arguments])
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.startswith("attractor: ")


def test_help_has_examples():
    text = " ".join(invoke("--help").stdout.split())
    assert "attractor diagnose --log" in text
    assert "Exit code 0" in text


def test_a_pytorch_training_is_looked_at_in_pytorch(tmp_path):
    pytest.importorskip("torch", reason="an extra")
    (tmp_path / "in_torch.py").write_text(
        "import torch\n"
        "def state():\n"
        "    torch.manual_seed(0)\n"
        "    model = torch.nn.Linear(3, 1)\n"
        "    x = torch.randn(4, 16, 3)\n"
        "    loader = [(a, a.sum(1, keepdim=True)) for a in x]\n"
        "    return {'model': model, 'loss_fn': torch.nn.MSELoss(), 'loader': loader,\n"
        "            'optimizer': torch.optim.SGD(model.parameters(), 50.0)}\n"
        "def lacking():\n"
        "    return {'model': None, 'loader': []}\n"
    )
    result = CliRunner().invoke(app, ["diagnose", "in_torch.py:state", "--json"])
    assert json.loads(result.stdout)["findings"][0]["name"] == "step too large"
    assert result.exit_code == 1
    result = CliRunner().invoke(app, ["diagnose", "in_torch.py:lacking"])
    assert "no 'loss_fn' and no 'optimizer'" in str(result.exception)
