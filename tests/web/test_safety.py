"""What must be refused is refused."""

import pytest
from starlette.requests import Request
from web.conftest import client_of, token

from attractor.web.app import Settings
from attractor.web.safety import BODY, HEADERS, POLICY, Limit, Tokens


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "localhost.", "", "[::2]", "127.0.0.2:80"])
def test_unknown_hosts_are_refused(client, host):
    answer = client.get("/", headers={"host": host})
    assert answer.status_code == 400
    assert answer.headers["content-security-policy"] == POLICY


def test_known_hosts_are_answered_on_any_port():
    with client_of(Settings(hosts=("papers.example.org",))) as client:
        for host in ("localhost:81", "LOCALHOST", "[::1]:8000", "papers.example.org"):
            assert client.get("/healthz", headers={"host": host}).status_code == 200, host


def test_every_answer_has_the_headers(client):
    for path in ("/", "/nothing", "/assets/style.css", "/api/v1/rooms", "/api/v1/papers/nope"):
        answer = client.get(path)
        assert all(answer.headers[name] == value for name, value in HEADERS.items())
        assert answer.headers["content-security-policy"] == POLICY
    assert "unsafe" not in POLICY


FORMS = ("/papers/adahessian/check", "/compare", "/diagnose", "/follows", "/subscribe", "/confirm", "/feed/1/opinion")


@pytest.mark.parametrize("path", FORMS)
def test_forms_need_their_visitors_token(client, path):
    assert client.post(path).status_code == 403
    assert client.post(path, data={"token": "0" * 64}).status_code == 403
    own = token(client, "/papers/adahessian")
    with client_of() as other:  # a token made by another server, or for another visitor
        theirs = token(other, "/papers/adahessian")
    assert client.post(path, data={"token": theirs}).status_code == 403
    client.cookies.clear()
    assert client.post(path, data={"token": own}).status_code == 403


@pytest.mark.parametrize(
    "headers", [{"origin": "https://evil.example"}, {"sec-fetch-site": "cross-site"}, {"origin": "null"}]
)
def test_other_sites_change_nothing(client, headers):
    given = {"token": token(client, "/papers/adahessian")}
    assert client.post("/papers/adahessian/check", data=given, headers=headers).status_code == 403
    assert client.post("/api/v1/checks", json={"slug": "adahessian"}, headers=headers).status_code == 403
    assert client.get("/api/v1/jobs").json() == []


def test_text_that_a_form_can_send_starts_no_work(client):
    body = '{"slug": "adahessian"}'
    assert client.post("/api/v1/checks", content=body, headers={"content-type": "text/plain"}).status_code == 422


def test_large_bodies_are_refused_with_and_without_a_length(client):
    assert client.post("/diagnose", content=b"x" * (BODY + 1)).status_code == 413

    def pieces():
        for _ in range(BODY // (1 << 20) + 1):
            yield b"x" * (1 << 20)

    kind = {"content-type": "application/x-www-form-urlencoded"}
    assert client.post("/diagnose", content=pieces(), headers=kind).status_code in (400, 413)


@pytest.mark.parametrize(
    "path",
    [
        "/assets/../app.py", "/assets/..%2fapp.py", "/assets/%2e%2e/app.py", "/assets//etc/passwd", "/papers/..%2f..",
        "/jobs/..%2f..%2fregistry/report", "/runs/..%2f..%2fetc%2fpasswd", "/runs/%2e%2e", "/jobs/../report",
        "/assets/htmx.LICENSE",
    ],
)  # fmt: skip
def test_no_path_of_the_file_system_is_served(client, path):
    answer = client.get(path)
    assert answer.status_code in (400, 404)
    assert "root:" not in answer.text
    assert "import" not in answer.text


def test_too_many_are_told_to_wait(client, scripted):
    given = {"token": token(client, "/confirm?token=x"), "mail_token": "x"}
    answers = [client.post("/confirm", data=given) for _ in range(6)]
    assert answers[-1].status_code == 429
    assert 0 < int(answers[-1].headers["retry-after"]) <= 3601


def test_limit_forgets_with_time_and_keeps_few():
    limit = Limit(2, 10.0, most=2)

    def asked(host, now):
        limit.check(Request({"type": "http", "client": (host, 1), "headers": []}), now)

    asked("a", 0.0), asked("a", 1.0)
    with pytest.raises(Exception, match="try again in 9 seconds"):
        asked("a", 1.5)
    asked("a", 11.5), asked("b", 12.0), asked("c", 12.0)
    assert len(limit._seen) == 2


def test_a_mistake_of_ours_shows_no_traceback(client, monkeypatch):
    from attractor.web import views

    def broken(*_):
        raise RuntimeError("secret")

    monkeypatch.setattr(views, "rooms", broken)
    answer = client.get("/rooms")
    assert answer.status_code == 500
    assert "secret" not in answer.text
    assert "Traceback" not in answer.text


def test_visitors_cookie_is_kept_from_scripts_and_other_sites(client):
    cookie = client.get("/papers/adahessian").headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    assert Tokens().of("a") != Tokens().of("a")
