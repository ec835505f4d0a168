"""Staleness follows meaning: what a claim uses counts, words about it do not; golden runs stand in for the core."""

import ast
import json
import sys
import textwrap
from types import SimpleNamespace

import jax
import pytest
from jax import lax

from attractor import engine
from attractor.papers import golden, golden_runs, sources
from attractor.papers.sources import Sources


@pytest.fixture
def package(tmp_path):
    """A small package whose sources may be changed: write files, get the paper's hash."""

    def write(**files):
        for name, text in files.items():
            path = tmp_path.joinpath(*name.split("__")).with_suffix(".py")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(textwrap.dedent(text))
        return Sources(tmp_path).fingerprint("attractor.papers.room.paper", "core")

    return write


GOOD = "from .base import a, b\ndef step(x):\n    return half(x)\ndef half(x):\n    return a * x\n"
PAPER = "from attractor.rooms.good import step\nimport numpy\n"


def test_a_syntax_tree_reads_the_same_from_every_python():
    """The text of 3.11: later ones add type parameters, and leave out what is empty."""
    assert sources._syntax(ast.parse("def f(x, *, y=None):\n    return [x, {**y}, -1]")) == (
        "Module(body=[FunctionDef(name='f', args=arguments(posonlyargs=[], args=[arg(arg='x')], "
        "kwonlyargs=[arg(arg='y')], kw_defaults=[Constant(value=None)], defaults=[]), body=[Return(value=List(elts=["
        "Name(id='x', ctx=Load()), Dict(keys=[None], values=[Name(id='y', ctx=Load())]), "
        "UnaryOp(op=USub(), operand=Constant(value=1))], ctx=Load()))], decorator_list=[])], type_ignores=[])"
    )
    if sys.version_info < (3, 12):
        for path in (sources.ROOT / "papers").glob("*.py"):
            tree = sources.meaning(path.read_text(encoding="utf-8"))
            assert sources._syntax(tree) == ast.dump(tree), path


def test_the_hash_follows_what_is_used(package, tmp_path):
    base = "a = 1\nb = 1\n"
    first = package(papers__room__paper=PAPER, rooms__good=GOOD, rooms__base=base)
    assert package(rooms__base='"""Documented."""\n# a comment\na   =   1\nb = 1\nc = 3\n') == first
    assert package(rooms__base="a = 2\nb = 1\n") != first
    assert package(rooms__base=base) == first
    assert package(rooms__good=GOOD.replace("a * x", "a + x")) != first
    assert package(rooms__good=GOOD + "def unused():\n    return 1\n") == first
    assert package(rooms__good=GOOD + "a = 5\n") != first  # bound twice
    assert package(rooms__good=GOOD + "print(b)\n") != first  # runs with the module
    assert Sources(tmp_path).fingerprint("attractor.papers.room.paper", "other core") != first
    with pytest.raises(ModuleNotFoundError):
        Sources(tmp_path).fingerprint("attractor.nothing", "core")


@pytest.mark.parametrize(
    ("used", "whole"),
    [
        ("x = lib.a\n", False),
        ("def f():\n    return lib.a + lib.a\n", False),
        ("x = vars(lib)\n", True),
        ("x = lib.a, lib\n", True),
        ("x = lib.missing\n", True),
        ("def f():\n    from attractor.rooms import base\n    return base.a\n", True),
    ],
)
def test_of_a_module_that_is_imported_what_is_named_counts_or_else_all(package, used, whole):
    paper = f"from attractor.rooms import base as lib\n{used}"
    base = "a = 1\nb = 1\n"
    first = package(papers__room__paper=paper, rooms__base=base, rooms____init__="")
    assert (package(rooms__base=base + "c = 1\n") != first) is whole
    assert package(rooms__base="a = 2\nb = 1\n") != first
    assert package(rooms__base=base) == first


def test_the_core_counts_by_its_golden_runs_only(package):
    paper = (
        "from attractor.engine import run\nfrom attractor.papers.words import tune\nfrom attractor.trees import norm\n"
    )
    first = package(
        papers__room__paper=paper, engine="def run():\n    return 1\n", papers__words="tune = 1\n", trees="norm = 1\n"
    )
    assert package(engine="def run():\n    return 2\n", papers__words="tune = 2\n") == first
    assert package(trees="norm = 2\n") != first  # only some claims use it


WORDS = '''
from attractor.checks import in_range
@method("it", {"rate": 3}, paper="one", bad={"rate": -1})
class It:
    """Does it."""
    rate: float = hyper(1.0, low=0.0)
    def step(self, x: int) -> int:
        """One step."""
        in_range("rate", self.rate, 0.0)
        if x < 0:
            raise ValueError(f"x: too small, {x}")
        return Evidence(x * self.rate, note="one")
method("bare", {"rate": 1})(other)
def other():
    return 1
'''


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"""Does it."""', '"""Does it well."""'),
        ('"""One step."""', ""),
        ("rate: float", "rate: Scalar"),
        ("x: int) -> int", "x)"),
        ("too small", "expected a number >= 0, got"),
        ("x < 0", "x <= 0"),
        ('        in_range("rate", self.rate, 0.0)\n', ""),
        ('note="one"', 'note="two"'),
        ("low=0.0", "low=0.0, open_low=True"),
        ('bad={"rate": -1}', 'bad={"rate": -2}'),
        ('paper="one"', 'paper="two"'),
        ('method("bare", {"rate": 1})', 'method("bare", {"rate": 2})'),  # belongs to what it registers
        ("return 1", "return 2"),
    ],
)
def test_what_has_no_meaning_for_a_claim_changes_nothing(package, old, new):
    paper = "from attractor.rooms.good import It\n"
    first = package(papers__room__paper=paper, rooms__good=WORDS)
    assert old in WORDS
    assert package(rooms__good=WORDS.replace(old, new)) == first


@pytest.mark.parametrize(
    ("old", "new"),
    [("1.0", "2.0"), ("x * self", "x + self"), ('{"rate": 3}', '{"rate": 4}'), ("step(self, x", "step(self, x=1, *y")],
)
def test_what_has_meaning_does(package, old, new):
    paper = "from attractor.rooms.good import It\n"
    first = package(papers__room__paper=paper, rooms__good=WORDS)
    assert package(rooms__good=WORDS.replace(old, new)) != first


def test_a_registration_counts_for_those_who_use_what_it_registers(package):
    first = package(papers__room__paper="from attractor.rooms.good import other\n", rooms__good=WORDS)
    assert package(rooms__good=WORDS.replace('method("bare", {"rate": 1})', 'method("bare", {"rate": 2})')) != first


def recorded():
    return json.loads(golden.FILE.read_text(encoding="utf-8"))


def test_the_core_does_what_the_golden_runs_say():
    assert len(recorded()["runs"]) >= 12
    assert golden.differences(recorded()["runs"], golden_runs.measure(), recorded()["jax"] == jax.__version__) == []


def test_a_change_of_the_loops_arithmetic_makes_every_claim_stale(monkeypatch, tmp_path):
    before = sources.fingerprint("attractor.papers.second_order.adahessian")
    known = recorded()["runs"]
    chosen = {n: golden_runs.RUNS[n] for n in ("descent", "clients")}
    monkeypatch.setattr(golden_runs, "RUNS", chosen)
    monkeypatch.setattr(golden_runs, "_comparison", lambda: [])
    monkeypatch.setattr(golden_runs, "_statistics", lambda: [])

    def differing():
        jax.clear_caches()
        same = recorded()["jax"] == jax.__version__
        return set(golden.differences({n: known[n] for n in chosen}, golden_runs.measure(), same)) & set(chosen)

    assert differing() == set()
    keys = engine._keys
    with monkeypatch.context() as other:
        other.setattr(engine, "_keys", lambda seed: keys(seed)[::-1])
        assert differing() == {"clients"}  # other random numbers
    more = SimpleNamespace(scan=lax.scan, fori_loop=lambda begin, end, *rest: lax.fori_loop(begin, end + 1, *rest))
    with monkeypatch.context() as other:
        other.setattr(engine, "lax", more)
        assert differing() == set(chosen)  # a step too many
    jax.clear_caches()

    def fingerprint(home):  # of another process, in which nothing is remembered
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / home))
        golden.state.cache_clear()
        sources._remembered.cache_clear()
        return sources.fingerprint("attractor.papers.second_order.adahessian")

    monkeypatch.setattr(golden, "core_code", lambda: "another core")
    monkeypatch.setattr(golden_runs, "measure", lambda: {**known, "descent": {"program": "x", "values": []}})
    try:
        assert fingerprint("a") != before
        monkeypatch.setattr(golden_runs, "measure", lambda: known)
        monkeypatch.setattr(golden, "core_code", lambda: "a core that does the same")
        assert fingerprint("b") == before
    finally:
        golden.state.cache_clear()
        sources._remembered.cache_clear()


def test_values_may_differ_by_rounding_and_programs_by_the_library():
    known = {"a": {"program": "p", "values": [1.0, None, 1e-9]}}
    near = {"a": {"program": "p", "values": [1.0 + 5e-7, None, 2e-9]}}
    assert golden.differences(known, near) == []
    assert golden.differences(known, {"a": {"program": "p", "values": [1.0 + 5e-6, None, 0.0]}}) == ["a"]
    assert golden.differences(known, {"a": {"program": "p", "values": [1.0, 2.0, 0.0]}}) == ["a"]
    other = {"a": {**near["a"], "program": "q"}}
    assert golden.differences(known, other) == ["a"]
    assert golden.differences(known, other, same_library=False) == []
    assert golden.differences(known, {}) == ["a"]


def test_fingerprints_are_kept_until_a_file_changes(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "papers").mkdir()
    (tmp_path / "papers" / "golden.json").write_text("{}")
    (tmp_path / "a.py").write_text("x = 1\n")
    monkeypatch.setattr(sources, "ROOT", tmp_path)
    monkeypatch.setattr(golden, "state", lambda: "core")
    told = []
    monkeypatch.setattr(sources, "_digest", lambda *seen: told.append(seen) or f"hash {len(told)}")
    found = []
    for change in ("", "", "x = 12\n", ""):
        if change:
            (tmp_path / "a.py").write_text(change)
        sources._remembered.cache_clear()  # another process
        found.append(sources.fingerprint("attractor.a"))
    assert found == ["hash 1", "hash 1", "hash 2", "hash 2"]
    sources._remembered.cache_clear()
