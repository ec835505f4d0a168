"""A server in the test's own process, and in a browser's reach."""

import re
import socket
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from attractor.papers import record
from attractor.web import app as application
from attractor.web import jobs

METHODS = [
    {
        "name": name, "needs": "Minimization", "space": {"learning_rate": "0.0001…1 log"}, "paper": paper,
        "room": "optim",
        "cost": {"state_bytes_per_parameter": state, "gradients_per_step": cost}, "summary": f"{name}, a method.",
    }
    for name, paper, state, cost in (("adam", None, 8.0, 1.04), ("sgd", None, 0.0, 1.0), ("lion", "lion-k", 4.0, 1.02))
]  # fmt: skip
PROBLEMS = [
    {"name": "rosenbrock", "metric": "loss", "steps": 1000, "target": 0.01, "summary": "A banana."},
    {"name": "digits-mlp", "metric": "test_loss", "steps": 1000, "target": 0.3, "summary": "Digits."},
]


@pytest.fixture(autouse=True)
def quick(monkeypatch, own_home):
    """The registry is not loaded, which takes seconds, and nothing is compared with its sources."""

    async def load(house):
        house.registry = {"methods": METHODS, "problems": PROBLEMS}
        house.loaded.set()

    async def find_stale(house):
        house.shelves.know({slug: record.standing(found) for slug, found in house.shelves.now().official.items()})
        house.warm.set()
        house.stale_known.set()

    monkeypatch.setattr(application.House, "load", load)
    monkeypatch.setattr(application.House, "find_stale", find_stale)


@pytest.fixture
def scripted(monkeypatch):
    """Jobs are done by `worker.py`, which needs no JAX."""
    monkeypatch.setattr(jobs, "WORKER", (str(Path(__file__).with_name("worker.py")),))


def client_of(settings=None):
    return TestClient(application.create(settings), base_url="http://127.0.0.1", raise_server_exceptions=False)


@pytest.fixture
def client():
    with client_of() as found:
        yield found


def token(client, path):
    """The token that a page's form has."""
    return re.search(r'name="token" value="(\w+)"', client.get(path).text)[1]


@dataclass
class Served:
    """A server that listens."""

    url: str
    house: application.House


@pytest.fixture
def served(own_home):
    import uvicorn

    app = application.create()
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=1))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    while not server.started and thread.is_alive():
        time.sleep(0.01)  # uvicorn has no other way to say so
    yield Served(f"http://127.0.0.1:{listener.getsockname()[1]}", app.state.house)
    server.should_exit = True
    thread.join()
