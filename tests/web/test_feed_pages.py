"""The feed on the page: new papers with what runs, follows, feeds, and the way from subscribing to leaving."""

import json
import re
from urllib.parse import parse_qs, urlsplit

import feedparser
import pytest
from typer.testing import CliRunner
from web.conftest import client_of, token

from attractor.cli import app as commands
from attractor.feed import Entry, Library, addresses, digest, follows, mail, subscribers, sync
from attractor.feed.placement import place
from attractor.web.app import Settings

HOSTILE = '"><script>alert(1)</script> & {{ 7 * 7 }} <img src=x onerror=alert(1)>'
ENTRIES = (
    Entry("ADAHESSIAN: An Adaptive Second Order Optimizer for Machine Learning", arxiv="2006.00719"),
    Entry("Sharpness stops growing when steps are noisy", "How sharpness evolves.", ("Ada Vale",), arxiv="2611.00101"),
    Entry(f"Two {HOSTILE}", HOSTILE, (HOSTILE,), link='javascript:alert("1")', categories=(HOSTILE,)),
)  # fmt: skip


@pytest.fixture
def feed(own_home):
    with Library() as library:
        library.add(ENTRIES, "daily", day="2026-11-25", votes=[3, 40, 0])
        follows.add(library, follows.Follow("sharp/est", "question", "when does sharpness stop growing?"))
    return ENTRIES


@pytest.fixture
def client(feed, client):
    return client


def test_today_shows_what_runs_for_what_is_new(client):
    text = client.get("/").text
    trending, new = text.index('id="trending"'), text.index('id="new"')
    assert trending < text.index("40 votes") < new
    assert "Runs here" in text
    assert 'href="/papers/adahessian"' in text
    assert "3 of 6 hold" in text


def test_today_does_not_wait_for_what_runs(client):
    """Placing papers takes a moment after a start: the page comes without, and its sections ask again."""
    warm = client.app.state.house.warm
    warm.clear()
    text = client.get("/").text
    assert "40 votes" in text
    assert "Runs here" not in text
    assert text.count('hx-get="/" hx-trigger="load delay:500ms"') == 2
    warm.set()
    text = client.get("/").text
    assert "Runs here" in text
    assert "hx-get" not in text


def test_new_papers_that_trend_stand_once(client):
    text = client.get("/").text
    assert text.count("Sharpness stops growing when steps are noisy") == 1
    with Library() as library:
        library.connection.execute("DELETE FROM entries WHERE title LIKE 'Two %'")
        library.connection.commit()
    text = client.get("/").text
    assert text.count("Sharpness stops growing when steps are noisy") == 2  # rather twice than an empty list


def test_strangers_learn_no_address_and_no_path(feed, tmp_path, monkeypatch):
    late = mail.Overdue("ada@example.org", "2026-11-25", "2026-11-25T07:00:00+00:00", "refused", "no such user")
    monkeypatch.setattr(sync, "overdue", lambda library, now: [late])
    with client_of() as client:
        assert "ada@example.org" in client.get("/status").text
        assert client.get("/api/v1/feed/status").json()["overdue"]
    with client_of(Settings(public=True)) as client:
        for path in ("/status", "/api/v1/feed/status"):
            text = client.get(path).text
            assert "ada@example.org" not in text
            assert str(tmp_path) not in text
            assert "2 things need its owner&#39;s attention" in text.replace("'", "&#39;")


def test_formulas_in_titles_and_abstracts_are_set(client):
    with Library() as library:
        library.add([Entry(r"An $\ell_2$ bound", r"We show $\|x\| \le 1$.", arxiv="2611.00777")], "daily")
    number = re.search(r'href="/feed/(\d+)">An <math', client.get("/").text)[1]
    text = client.get(f"/feed/{number}").text
    assert text.count("<math") == 2
    assert "attractor new paper 2611.00777" in text


def test_text_from_feeds_stays_text(client):
    for path in ("/", "/feed/3", "/papers?q=alert", "/follows/sharp/est", "/api/v1/feed"):
        answer = client.get(path)
        assert answer.status_code == 200, path
        if path.startswith("/api"):
            continue
        assert "<script>alert" not in answer.text
        assert "<img" not in answer.text
        assert "javascript:" not in answer.text
        assert "49" not in answer.text.partition("Two ")[2][:40]  # no template runs in it


def test_feed_rows_are_what_the_command_line_prints(client):
    def printed(*words):
        return json.loads(CliRunner().invoke(commands, [*words, "--json"]).stdout)

    assert client.get("/api/v1/feed").json() == printed("feed", "list")
    assert client.get("/api/v1/feed?source=daily&limit=1").json() == printed("feed", "list", "--limit", "1")
    assert client.get("/api/v1/feed?day=2026-11-24").json() == []
    assert client.get("/api/v1/follows").json() == printed("follow", "list")
    assert client.get("/api/v1/feed/status").json()["papers"] == 3


@pytest.mark.parametrize("path", ["/follows/sharp/est", "/rooms", "/search"])
def test_feeds_are_valid_and_conditional(client, path):
    query = "?q=sharpness" if path == "/search" else ""
    path += f"/{place(ENTRIES[1]).room}" if path == "/rooms" else ""
    answer = client.get(f"{path}.atom{query}")
    found = feedparser.parse(answer.content)
    assert not found.bozo
    assert found.version == "atom10"
    assert any(e.title == ENTRIES[1].title for e in found.entries)
    (own,) = (link for link in found.feed.links if link.rel == "self")
    assert own.href == f"http://127.0.0.1{path}.atom{query}"
    headers = {"if-none-match": answer.headers["etag"]}
    assert client.get(f"{path}.atom{query}", headers=headers).status_code == 304
    as_json = client.get(f"{path}.json{query}").json()
    assert as_json["version"] == "https://jsonfeed.org/version/1.1"
    assert len(as_json["items"]) == len(found.entries)


def test_follow_is_added_shown_and_removed(client):
    given = {"token": token(client, "/follows"), "kind": "keywords", "query": "title:sharpness", "name": "rule"}
    answer = client.post("/follows", data=given)
    assert answer.url.path == "/follows/rule"
    assert ENTRIES[1].title in answer.text
    wrong = client.post("/follows", data={**given, "query": "title:(", "name": "wrong"})
    assert wrong.status_code == 400
    client.post("/follows/rule/remove", data=given)
    assert client.get("/follows/rule").status_code == 404
    assert client.get("/follows/sharp/est").status_code == 200


def test_opinions_are_kept(client):
    given = {"token": token(client, "/feed/2"), "opinion": "1", "back": "/follows/sharp/est"}
    answer = client.post("/feed/2/opinion", data=given)
    assert answer.url.path == "/follows/sharp/est"
    assert "Keep no longer" in answer.text
    assert client.post("/feed/2/opinion", data={**given, "back": "//evil.example"}).url.host == "127.0.0.1"
    assert client.post("/feed/2/opinion", data={**given, "opinion": "2"}).status_code == 400
    assert client.post("/feed/99/opinion", data=given).status_code == 404


def test_from_subscribing_to_leaving(client, monkeypatch):
    asked = []
    monkeypatch.setattr(mail, "Mailer", lambda: None)
    monkeypatch.setattr(digest, "ask", lambda library, mailer, link: asked.append(link))
    form = {
        "token": token(client, "/subscribe"),
        "email": "ada@example.org",
        "follow": ["sharp/est"],
        "every": "weekly",
    }
    answer = client.post("/subscribe", data=form)
    assert answer.status_code == 200
    assert asked[0] not in answer.text  # only the mail has it
    link = urlsplit(addresses.confirm("http://127.0.0.1", asked[0]))
    page = client.get(f"{link.path}?{link.query}")
    with Library() as library:
        assert subscribers.subscribers(library) == []  # programs that open links confirm nothing
    confirmed = client.post(link.path, data={"token": form["token"], "mail_token": parse_qs(link.query)["token"][0]})
    assert page.status_code == confirmed.status_code == 200
    with Library() as library:
        (found,) = subscribers.subscribers(library)
        leave = urlsplit(addresses.unsubscribe("http://127.0.0.1", subscribers.unsubscribe_token(found)))
    assert (found.email, found.follows, found.every) == ("ada@example.org", ("sharp/est",), "weekly")
    assert client.get(f"{leave.path}?{leave.query}").status_code == 200
    client.cookies.clear()  # a mail program has none
    one_click = client.post(f"{leave.path}?{leave.query}", data={"List-Unsubscribe": "One-Click"})
    assert one_click.status_code == 200
    with Library() as library:
        assert subscribers.subscribers(library) == []


def test_bad_tokens_are_refused_in_words(client):
    given = {"token": token(client, "/confirm?token=x"), "mail_token": "forged"}
    assert client.post("/confirm", data=given).status_code == 400
    assert client.post("/unsubscribe?token=forged").status_code == 400


def test_status_tells_how_sources_fare(client):
    with Library() as library:
        library.connection.execute(
            "INSERT INTO sources (name, status, message) VALUES ('arxiv', 'failed', 'answered 503')"
        )
    text = client.get("/status").text
    assert client.get("/status").status_code == 200
    assert "3 papers" in text or "problem" in text
