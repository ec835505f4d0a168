"""Pages answer, hold what they should, and are made again when what they show has changed."""

import re
import subprocess
import sys

import pytest
from web.conftest import client_of, token

from attractor.papers import ROOMS, catalogue, record
from attractor.papers.citation import bibtex
from attractor.papers.rows import steps_to_target
from attractor.web import app as application
from attractor.web.app import Settings

PAGES = (
    "/", "/papers", "/papers?q=sharpness", "/papers?room=optim&state=holds", "/papers/adahessian", "/papers/gae",
    "/rooms", "/rooms/optim", "/methods", "/methods?sort=steps&problem=rosenbrock", "/problems", "/problems/rosenbrock",
    "/compare", "/compare?problem=rosenbrock&method=adam", "/diagnose", "/runs", "/follows", "/subscribe", "/status",
    "/api",
)  # fmt: skip


@pytest.mark.parametrize("path", PAGES)
def test_every_page_answers(client, path):
    answer = client.get(path)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.text.count("<h1>") == 1
    assert "@@" not in answer.text  # a visitor's token stands where pages have a place for it
    assert not re.search(r'(?:src|href|action)="(?:https?:)?//(?!arxiv\.org)', answer.text)  # nothing from elsewhere
    assert not re.search(r"<script(?! src=)|\son\w+=|style=", answer.text)  # nothing that the policy forbids


def test_paper_says_why_a_claim_is_not_replicated(client):
    text, known = client.get("/papers/cyclic-bcd-variance-reduced").text, record.read("cyclic-bcd-variance-reduced")
    for name in known.quick:
        assert known.note(name).replace("'", "&#39;") in text, name


def test_paper_shows_what_was_measured(client):
    text = client.get("/papers/adahessian").text
    known = record.read("adahessian")
    for verdict in known.quick.values():
        assert verdict.statement.replace("'", "&#39;") in text
        assert all(b["name"] in text for b in verdict.broken)
    assert text.count('<svg class="verdict ') >= len(known.quick)
    assert text.count("not replicated") >= sum(known.outcome(n) == "not replicated" for n in known.quick)
    assert "eprint = {2006.00719}" in text
    assert "eprint = {2006.00719}" in bibtex(catalogue()["adahessian"])
    assert "from attractor.second_order import adahessian" in text
    assert "https://arxiv.org/abs/2006.00719" in text
    assert client.get("/papers/adahessian.bib").text == bibtex(catalogue()["adahessian"]) + "\n"


def test_untried_paper_says_how_to_begin(client):
    slug = next(s for s, p in catalogue().items() if record.read(s) is None)
    text = client.get(f"/papers/{slug}").text
    assert "Nobody has tried it yet" in text
    assert "Check it here" not in text


def test_search_finds_by_meaning_and_bounds_what_it_takes(client):
    text = client.get("/papers", params={"q": "adam with hessian diagonal"}).text
    assert "/papers/adahessian" in text
    assert client.get("/papers", params={"q": "x" * 301}).status_code == 400
    assert client.get("/papers?page=0").status_code == 400
    assert client.get("/papers?room=attic").status_code == 404
    assert client.get("/papers", params={"q": "<script>alert(1)</script>"}).text.count("<script>alert") == 0
    assert client.get("/papers", params={"q": "\x00\x1f"}).status_code == 200


def test_all_papers_are_on_the_map(client):
    text = client.get("/rooms").text
    assert set(re.findall(r'href="/papers/([\w.-]+)"', text)) == set(catalogue())
    assert set(re.findall(r'href="/rooms/(\w+)"', text)) == set(ROOMS)


def test_methods_are_sorted_with_the_unmeasured_last(client):
    names = re.findall(r'<tr id="([\w-]+)">', client.get("/methods?sort=state").text)
    assert names == ["sgd", "lion", "adam"]
    assert client.get("/methods?sort=beauty").status_code == 404


def test_problems_name_who_needs_the_fewest_steps(client):
    text = client.get("/problems").text
    rows = steps_to_target()["rosenbrock"]
    fewest = min(row["steps"][0] for row in rows.values() if row.get("steps", [None])[0] is not None)
    best = re.search(r'/problems/rosenbrock".*?<li><strong>([\w-]+)</strong> ([\d,]+)</li>', text, re.DOTALL)
    assert (rows[best[1]]["steps"][0], best[2]) == (fewest, f"{fewest:,.0f}")


def test_serving_begins_without_what_takes_long_to_load():
    heavy = "{'jax', 'pandas', 'pyarrow', 'duckdb', 'scipy', 'sklearn'}"
    code = f"import sys, attractor.cli, attractor.web.app as a; a.create(); print({heavy} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def test_who_asks_before_the_registry_is_read_is_told(client, monkeypatch):
    house = client.app.state.house
    monkeypatch.setattr(application, "SOON", 0.0)
    house.loaded.clear()
    for path in ("/methods", "/problems", "/problems/rosenbrock", "/compare"):
        answer = client.get(path)
        assert (answer.status_code, answer.headers["refresh"]) == (503, "3")
        assert "asks again by itself" in answer.text
    house.loaded.set()
    assert client.get("/methods").status_code == 200


def test_unknown_names_are_answered_with_a_suggestion(client):
    answer = client.get("/papers/adahesian")
    assert answer.status_code == 404
    assert "did you mean &#39;adahessian&#39;?" in answer.text
    for path in ("/nothing", "/rooms/attic", "/problems/none", "/runs/none", "/jobs/0123456789abcdef", "/feed/1"):
        assert client.get(path).status_code == 404, path


def test_empty_feed_says_how_to_fill_it_and_makes_no_file(client, tmp_path):
    assert "attractor feed sync" in client.get("/").text
    client.get("/follows"), client.get("/status"), client.get("/papers?q=adam")
    assert not (tmp_path / "home" / "feed.sqlite").exists()


def test_a_page_is_kept_until_a_verdict_is_recorded(client):
    from dataclasses import replace

    shelves = client.app.state.house.shelves
    first = client.get("/rooms/optim")
    again = client.get("/rooms/optim", headers={"if-none-match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    found = record.read("adamp").quick
    record.write([replace(next(iter(found.values())), value=123.456)], record.local())
    shelves._looked = 0.0  # half a second later
    assert client.get("/rooms/optim").headers["etag"] != first.headers["etag"]
    assert "checked on this machine" in client.get("/papers/adamp").text


def test_pages_stand_below_a_proxys_path():
    from starlette.testclient import TestClient

    from attractor.web.app import create

    with TestClient(create(), base_url="http://127.0.0.1", root_path="/lab") as client:
        text = client.get("/lab/papers/adahessian").text
        assert 'href="/lab/assets/style.css"' in text
        assert 'action="/lab/papers/adahessian/check"' in text
        assert client.get("/lab/papers/nope").status_code == 404


def test_visitors_of_a_public_page_read_and_start_nothing():
    with client_of(Settings(public=True)) as client:
        assert "Check it here" not in client.get("/papers/adahessian").text
        for path in ("/runs", "/diagnose"):
            assert client.get(path).status_code == 403
        given = {"token": token(client, "/confirm?token=x")}
        assert client.post("/papers/adahessian/check", data=given).status_code == 403
        assert client.post("/follows", data=given).status_code == 403
        assert client.post("/api/v1/checks", json={"slug": "adahessian"}).status_code == 403


def test_saved_run_is_drawn(client, tmp_path):
    import jax.numpy as jnp
    import optax

    from attractor import Minimization, run, store

    trace = run(Minimization(lambda w: jnp.sum(w**2), jnp.ones(2)), optax.sgd(0.1), steps=20, seeds=2)
    store.save(trace, "a run & more")
    text = client.get("/runs").text
    assert "/runs/a%20run%20%26%20more" in text
    shown = client.get("/runs/a%20run%20%26%20more")
    assert shown.status_code == 200
    assert 'class="curve c0"' in shown.text
    assert client.get("/runs/a%20run%20%26%20more?metric=nope").status_code == 404
    (tmp_path / "home" / "traces" / "damaged.parquet").write_bytes(b"PAR1 no")
    assert client.get("/runs/damaged").status_code == 400
