"""The API answers what the command line prints, and no request breaks it."""

import contextlib
import json
import os

import pytest
import schemathesis
import schemathesis.specs.openapi.schemas  # here, as CPython 3.11 fails to parse it deep in a test
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable
from schemathesis.generation import GenerationMode
from typer.testing import CliRunner
from web.conftest import METHODS, PROBLEMS, client_of

from attractor.cli import app as commands
from attractor.web import app as application
from attractor.web.app import Settings
from attractor.web.safety import Limit

REQUESTS = int(os.environ.get("ATTRACTOR_REQUESTS", "10"))  # per operation and kind


def printed(*words):
    result = CliRunner().invoke(commands, [*words, "--json"])
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


@pytest.mark.parametrize("slug", ["adahessian", "gae", "lion-k"])
def test_paper_is_what_the_command_line_shows(client, slug):
    assert client.get(f"/api/v1/papers/{slug}").json() == printed("show", slug)


def test_papers_are_what_the_command_line_finds(client):
    asked = {"query": "minimax", "room": "games", "limit": 5}
    assert client.get("/api/v1/papers", params=asked).json() == printed(
        "papers", "minimax", "--room", "games", "--limit", "5"
    )
    every = client.get("/api/v1/papers", params={"room": "categories", "status": "holds"}).json()
    assert every == printed("papers", "--room", "categories", "--status", "holds")
    assert [row["status"] for row in every] == ["holds"]


def test_registry_rows_are_served(client):
    assert client.get("/api/v1/methods").json() == METHODS
    assert client.get("/api/v1/methods?room=games").json() == []
    assert client.get("/api/v1/problems").json() == PROBLEMS


def test_refusals_say_why(client):
    assert "did you mean 'adahessian'" in client.get("/api/v1/papers/adahesian").json()["detail"]
    assert client.get("/api/v1/papers?limit=0").status_code == 422
    assert client.get("/api/v1/papers?room=attic").status_code == 422
    order = {"problem": "rosenbrock", "methods": ["adam"]}
    for wrong, code in (
        ({"problem": "none"}, 404), ({"methods": ["none"]}, 404), ({"methods": []}, 422), ({"seeds": 1}, 422),
        ({"steps": 10**9}, 422), ({"problem": "os:system"}, 404), ({"methods": ["adam"] * 9}, 422), ({"more": 1}, 422),
    ):  # fmt: skip
        assert client.post("/api/v1/comparisons", json={**order, **wrong}).status_code == code, wrong
    assert client.get("/api/v1/jobs").json() == []


@pytest.fixture
def unlimited(monkeypatch, scripted):
    monkeypatch.setattr(Limit, "check", lambda *_: None)


@pytest.fixture
def schema(unlimited):
    asgi = application.create(Settings(hosts=("testserver",)))
    asgi.state.house.registry = {"methods": METHODS, "problems": PROBLEMS}
    asgi.state.house.loaded.set()
    asgi.state.house.stale_known.set()
    return schemathesis.openapi.from_asgi("/api/v1/openapi.json", asgi)


def test_generated_requests_are_answered_as_described(schema):
    """Requests of each kind, right and wrong; about 10,000 with ``ATTRACTOR_REQUESTS=400``."""
    for found in schema.get_all_operations():
        operation = found.ok()
        for mode in GenerationMode:

            @given(case=operation.as_strategy(generation_mode=mode))
            @settings(max_examples=REQUESTS, deadline=None, suppress_health_check=list(HealthCheck), database=None)
            def ask(case):
                case.call_and_validate()

            with contextlib.suppress(Unsatisfiable):  # an operation that takes nothing cannot be asked wrongly
                ask()


@given(st.text(max_size=40), st.text(max_size=40))
@settings(max_examples=15, deadline=None)
def test_no_address_breaks_a_page(name, value):
    from urllib.parse import quote

    client = test_no_address_breaks_a_page.client
    for path in ("/papers/", "/rooms/", "/problems/", "/runs/", "/jobs/", "/assets/", "/"):
        assert client.get(path + quote(name, safe="")).status_code < 500
    for path in ("/papers", "/methods", "/compare"):
        for key in ("q", "room", "state", "page", "sort", "problem", "method"):
            assert client.get(path, params={key: value}).status_code < 500


@pytest.fixture(autouse=True)
def shared_client(request, quick):
    """One server for all examples."""
    if "no_address" in request.node.name:
        with client_of() as found:
            test_no_address_breaks_a_page.client = found
            yield
    else:
        yield
