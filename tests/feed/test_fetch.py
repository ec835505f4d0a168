"""Asking other servers: pace over processes, back-off, conditions, limits, and no private address."""

import gzip
import itertools
import re
import ssl
import subprocess
import sys
import textwrap

import httpcore
import pytest
import trustme
from upstream import Clock, Reply, Upstream

from attractor.feed import fetch
from attractor.feed.fetch import Fetcher, FetchError, public


@pytest.fixture
def ask(upstream, local_fetcher):
    """A fetcher of the local server, and its clock."""

    def make(hosts=(), **settings):
        return local_fetcher({upstream.host: 2.0} | dict(hosts), **settings)

    make.clock = local_fetcher.clock
    return make


def replies(upstream, *answers):
    """Answer with these, one after the other, and then with the last."""
    left = list(answers)
    upstream.answer = lambda asked: left.pop(0) if len(left) > 1 else left[0]


def test_an_answer_with_its_encoding_and_validators(upstream, ask):
    head = {
        "Content-Type": "text/xml; charset=ISO-8859-1",
        "ETag": '"a"',
        "Last-Modified": "Thu, 26 Nov 2026 05:00:00 GMT",
    }
    replies(upstream, Reply("é".encode("latin-1"), headers=head))
    with ask() as fetcher:
        answer = fetcher.get(f"{upstream.url}/a?b=c")
    assert (answer.body, answer.charset, answer.changed) == (b"\xe9", "ISO-8859-1", True)
    assert answer.validators == {"etag": '"a"', "last_modified": "Thu, 26 Nov 2026 05:00:00 GMT"}
    (asked,) = upstream.asked
    assert asked.path == "/a?b=c"
    assert re.match(r"attractor/[\d.]+ ", asked.headers["user-agent"])
    assert "if-none-match" not in asked.headers


def test_what_has_not_changed_is_not_sent_again(upstream, ask):
    replies(upstream, Reply(status=304))
    known = {"etag": '"a"', "last_modified": "Thu, 26 Nov 2026 05:00:00 GMT"}
    with ask() as fetcher:
        answer = fetcher.get(upstream.url, known)
        assert (answer.body, answer.changed, answer.validators) == (b"", False, known)
        with pytest.raises(FetchError, match="304"):  # nobody asked for that
            fetcher.get(upstream.url)
    assert upstream.asked[0].headers["if-none-match"] == '"a"'
    assert upstream.asked[0].headers["if-modified-since"] == known["last_modified"]


def test_a_server_is_asked_at_its_pace_by_all_fetchers_together(upstream, ask):
    replies(upstream, Reply("x"))
    with ask() as one, ask() as other:
        for fetcher in (one, other, one):
            fetcher.get(upstream.url)
    assert ask.clock.waits == [2.0, 2.0]


def test_all_of_arxiv_has_one_pace_of_at_least_three_seconds(tmp_path):
    fetcher = Fetcher({"export.arxiv.org": 0.0, "rss.arxiv.org": 5.0, "arxiv.org.example": 0.0}, tmp_path)
    assert fetcher.hosts == {"export.arxiv.org": 3.0, "rss.arxiv.org": 5.0, "arxiv.org.example": 0.0}
    with fetcher._turn("export.arxiv.org") as turn:
        turn.leave(4e9)
    with fetcher._turn("oaipmh.arxiv.org") as turn:
        assert turn.free_at > 0
    with fetcher._turn("arxiv.org.example") as turn:
        assert turn.free_at == 0


PROCESS = """
import sys
from pathlib import Path
from attractor.feed.fetch import Fetcher
url, host, home = sys.argv[1:]
with Fetcher({host: 0.05}, Path(home), allow_private=True) as fetcher:
    for _ in range(4):
        fetcher.get(url)
"""


def test_processes_take_turns(upstream, tmp_path):
    replies(upstream, Reply("x"))
    command = [sys.executable, "-c", textwrap.dedent(PROCESS), upstream.url, upstream.host, str(tmp_path)]
    runs = [subprocess.Popen(command) for _ in range(3)]
    assert [run.wait() for run in runs] == [0, 0, 0]
    times = sorted(asked.at for asked in upstream.asked)
    assert (len(times), upstream.most) == (12, 1)
    # Not how fast it was, but an order that is kept: a request begins 0.05 s or more after the one before has ended.
    assert all(later - earlier > 0.049 for earlier, later in itertools.pairwise(times))


@pytest.mark.parametrize("status", [429, 503])
def test_a_busy_server_is_asked_again_when_it_says(upstream, ask, status):
    replies(upstream, Reply("", status, {"Retry-After": "17"}), Reply("x"))
    with ask() as fetcher:
        assert fetcher.get(upstream.url).body == b"x"
    assert ask.clock.waits == [17.0]


def test_a_date_to_come_back_at(upstream, ask):
    replies(upstream, Reply("", 503, {"Retry-After": "Thu, 26 Nov 2026 12:01:00 GMT"}), Reply("x"))
    with ask() as fetcher:
        fetcher.get(upstream.url)
    assert ask.clock.waits == [60.0]


@pytest.mark.parametrize("said", ["soon", "-5", "", "1e9", "Thu, 99 Foo 2026"])
def test_a_server_that_does_not_say_when_is_asked_later_and_later(upstream, ask, said):
    replies(upstream, Reply("", 503, {"Retry-After": said}))
    with ask() as fetcher, pytest.raises(FetchError, match="503 Service Unavailable, 4 times") as caught:
        fetcher.get(upstream.url)
    assert caught.value.status == 503
    assert ask.clock.waits == [5.0, 10.0, 20.0]
    assert len(upstream.asked) == 4


def test_a_server_that_asks_for_long_is_left_alone_by_everybody_until_then(upstream, ask):
    replies(upstream, Reply("", 429, {"Retry-After": "3600"}), Reply("x"))
    with ask() as fetcher, pytest.raises(FetchError, match="left alone until 2026-11-26 13:00 UTC"):
        fetcher.get(upstream.url)
    with ask() as other, pytest.raises(FetchError, match="left alone"):
        other.get(upstream.url)
    assert (len(upstream.asked), ask.clock.waits) == (1, [])
    ask.clock.time += 3600
    with ask() as fetcher:
        assert fetcher.get(upstream.url).body == b"x"


def test_no_server_is_left_alone_for_more_than_a_day(upstream, ask):
    replies(upstream, Reply("", 429, {"Retry-After": "999999999"}), Reply("x"))
    with ask() as fetcher, pytest.raises(FetchError, match="left alone"):
        fetcher.get(upstream.url)
    ask.clock.time += 86400  # as it would be if the file had been written by a clock gone wrong
    with ask() as fetcher, pytest.raises(FetchError, match="left alone until 2026-11-28"):
        fetcher.get(upstream.url)


@pytest.mark.parametrize("text", ["", "nonsense", "nan", "-inf"])
def test_a_damaged_file_of_the_pace_does_no_harm(upstream, ask, tmp_path, text):
    replies(upstream, Reply("x"))
    with ask() as fetcher:
        fetcher.get(upstream.url)
        (kept,) = (tmp_path / "servers").iterdir()
        kept.write_text(text)
        assert fetcher.get(upstream.url).body == b"x"


def test_a_line_that_is_cut_is_tried_again(upstream, ask):
    replies(upstream, Reply("x" * 100, cut=10), Reply("y" * 100, cut=0), Reply("whole"))
    with ask() as fetcher:
        assert fetcher.get(upstream.url).body == b"whole"
    assert ask.clock.waits == [5.0, 10.0]


def test_nobody_there(tmp_path):
    with Upstream() as gone:
        pass
    clock = Clock()
    with (
        Fetcher({gone.host: 0.0}, tmp_path, allow_private=True, sleep=clock.sleep, clock=clock) as fetcher,
        pytest.raises(FetchError, match=r"answered nothing .*4 times") as caught,
    ):
        fetcher.get(gone.url)
    assert caught.value.status is None


@pytest.mark.parametrize("status", [400, 403, 404, 410])
def test_a_refusal_is_not_asked_again(upstream, ask, status):
    replies(upstream, Reply("no", status))
    with ask() as fetcher, pytest.raises(FetchError, match=f"answered {status}") as caught:
        fetcher.get(upstream.url)
    assert (caught.value.status, len(upstream.asked)) == (status, 1)


def test_answers_are_of_bounded_size_also_unfolded(upstream, ask):
    with ask(largest=1000) as fetcher:
        replies(upstream, Reply("x" * 1000))
        assert len(fetcher.get(upstream.url).body) == 1000
        for reply in (Reply("x" * 1001), Reply("x" * 10_000_000, zipped=True)):
            replies(upstream, reply)
            with pytest.raises(FetchError, match="more than 1,000 bytes"):
                fetcher.get(upstream.url)


def test_compressed_answers(upstream, ask):
    with ask() as fetcher:
        replies(upstream, Reply("x" * 50, zipped=True))
        assert fetcher.get(upstream.url).body == b"x" * 50
        packed = gzip.compress(bytes(range(256)) * 4)
        replies(upstream, Reply(packed[:-20], headers={"Content-Encoding": "gzip"}))
        with pytest.raises(FetchError, match="cut off"):
            fetcher.get(upstream.url)
        replies(upstream, Reply("no gzip", headers={"Content-Encoding": "gzip"}))
        with pytest.raises(FetchError, match="damaged"):
            fetcher.get(upstream.url)
        replies(upstream, Reply("x", headers={"Content-Encoding": "br"}))
        with pytest.raises(FetchError, match="'br'"):
            fetcher.get(upstream.url)


def test_an_answer_takes_bounded_time_however_it_drips(upstream, ask, monkeypatch):
    passed = iter(range(10**6))
    monkeypatch.setattr(fetch.time, "monotonic", lambda: float(next(passed)))  # each look at it, a second
    replies(upstream, Reply(b"x" * 5_000_000))
    with ask(longest=20.0) as fetcher, pytest.raises(FetchError, match="took too long"):
        fetcher.get(upstream.url)


def test_redirects_stay_among_the_configured_servers(upstream, ask):
    with Upstream(lambda asked: Reply("secret")) as other:
        there = {
            "/a": "/b",
            "/b": f"{upstream.url}/c",
            "/out": other.url,
            "/round": "/round",
            "/file": "file:///etc/passwd",
        }

        def answer(asked):
            return Reply("", 302, {"Location": there[asked.path]}) if asked.path in there else Reply("here")

        upstream.answer = answer
        with ask() as fetcher:
            found = fetcher.get(f"{upstream.url}/a")
            assert (found.url, found.body) == (f"{upstream.url}/c", b"here")
            with pytest.raises(FetchError, match="no configured server"):
                fetcher.get(f"{upstream.url}/out")
            with pytest.raises(FetchError, match="more than 5 times"):
                fetcher.get(f"{upstream.url}/round")
            with pytest.raises(FetchError, match="http or https"):
                fetcher.get(f"{upstream.url}/file")
        assert other.asked == []
        with ask(hosts={other.host: 0.0}) as fetcher:
            assert fetcher.get(f"{upstream.url}/out").body == b"secret"


@pytest.mark.parametrize(
    "url",
    [
        "ftp://a.example/",
        "file:///etc/passwd",
        "http://user:word@a.example/",
        "http://[::1",
        "//a.example",
        "http://é.example",
    ],
)
def test_only_web_addresses_are_asked(tmp_path, url):
    with Fetcher({"a.example": 0.0}, tmp_path) as fetcher, pytest.raises(FetchError, match="no web address"):
        fetcher.get(url)


@pytest.mark.parametrize(
    "address", ["127.0.0.1", "localhost", "0.0.0.0", "[::1]", "169.254.169.254", "10.0.0.1", "2130706433"]
)
def test_private_addresses_are_not_connected_to(upstream, tmp_path, address):
    port = upstream.host.rpartition(":")[2]
    host = f"{address.strip('[]')}:{port}"
    with Fetcher({host: 0.0}, tmp_path) as fetcher, pytest.raises(FetchError, match="no public address"):
        fetcher.get(f"http://{address}:{port}/")
    assert upstream.asked == []


def test_a_name_that_leads_to_a_private_address_is_refused_when_it_is_connected_to(tmp_path, monkeypatch):
    monkeypatch.setattr(fetch.socket, "getaddrinfo", lambda *a, **k: [(0, 0, 0, "", ("10.0.0.7", 80))])
    with (
        Fetcher({"a.example": 0.0}, tmp_path) as fetcher,
        pytest.raises(FetchError, match=r"a\.example is at 10\.0\.0\.7"),
    ):
        fetcher.get("http://a.example/")


def test_of_several_addresses_only_a_checked_one_is_connected_to(tmp_path, monkeypatch):
    tried = []

    def connect(self, host, port, *rest):
        tried.append(host)
        raise httpcore.ConnectError("not in this test")

    found = [(0, 0, 0, "", (a, 80)) for a in ("10.0.0.7", "93.184.215.14", "::1")]
    monkeypatch.setattr(fetch.socket, "getaddrinfo", lambda *a, **k: found)
    monkeypatch.setattr(httpcore.SyncBackend, "connect_tcp", connect)
    clock = Clock()
    with Fetcher({"a.example": 0.0}, tmp_path, sleep=clock.sleep, clock=clock) as fetcher, pytest.raises(FetchError):
        fetcher.get("http://a.example/")
    assert set(tried) == {"93.184.215.14"}


def test_public_addresses():
    good = ["93.184.215.14", "2606:2800:21f:cb07:6820:80da:af6b:8b2c", "64:ff9b::5db8:d70e"]
    bad = [
        "127.0.0.1", "10.1.1.1", "172.16.0.1", "192.168.1.1", "169.254.0.1", "100.64.0.1", "0.0.0.0", "224.0.0.1",
        "255.255.255.255", "::1", "::", "fe80::1%eth0", "fc00::1", "fec0::1", "ff02::1", "::ffff:127.0.0.1",
        "2002:7f00:1::", "64:ff9b::7f00:1", "64:ff9b::a00:1", "2001:db8::1",
    ]  # fmt: skip
    assert [a for a in good if not public(a)] == []
    assert [a for a in bad if public(a)] == []


def test_proxies_of_the_environment_are_not_used(upstream, ask, monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    replies(upstream, Reply("x"))
    with ask() as fetcher:
        assert fetcher.get(upstream.url).body == b"x"


def test_certificates_are_checked_and_https_is_not_left(ask):
    authority = trustme.CA()
    theirs, ours = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context()
    authority.issue_cert("localhost").configure_cert(theirs)
    authority.configure_trust(ours)
    with Upstream() as upstream:
        upstream.server.socket = theirs.wrap_socket(upstream.server.socket, server_side=True)
        port = upstream.host.rpartition(":")[2]
        hosts = {f"localhost:{port}": 0.0, upstream.host: 0.0}
        replies(upstream, Reply("x"), Reply("", 302, {"Location": f"http://localhost:{port}/"}))
        with ask(hosts=hosts) as fetcher, pytest.raises(FetchError, match=r"self-signed|unable to get local issuer"):
            fetcher.get(f"https://localhost:{port}/")
        with ask(hosts=hosts, context=ours) as fetcher:
            with pytest.raises(FetchError, match="IP address mismatch"):
                fetcher.get(f"https://{upstream.host}/")
            assert fetcher.get(f"https://localhost:{port}/").body == b"x"
            with pytest.raises(FetchError, match="leads away from https"):
                fetcher.get(f"https://localhost:{port}/")
