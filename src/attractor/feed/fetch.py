"""One polite way to ask other servers: slowly, one request at a time over all processes, and never a private address.

A server's pace is kept in a file under the feed's home, which is locked while a request runs. A server that says when
to come back (429 or 503 with ``Retry-After``) is left alone until then, by every process.
"""

import contextlib
import fcntl
import http
import ipaddress
import re
import socket
import ssl
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any
from urllib.parse import urljoin, urlsplit

from attractor import __version__
from attractor.extras import needs

with needs("feed"):
    import httpcore

LARGEST = 32 * 2**20  # bytes of an answer
LONGEST = 180.0  # seconds for an answer as a whole: arXiv's OAI server takes up to 90
SILENCE = 60.0  # seconds without a byte
ATTEMPTS = 4
PATIENCE = 120.0  # seconds to wait for one server in one run; what takes longer is for the next run
REDIRECTS = 5
BUSY = (429, 500, 502, 503, 504)
ARXIV_PACE = 3.0  # seconds between requests, by arXiv's terms, over all its hosts together


class FetchError(Exception):
    """A server that did not answer as it should.

    Attributes:
        status: The answer's HTTP status; `None` if there was no answer.
    """

    def __init__(self, message: str, status: int | None = None):
        super().__init__(message)
        self.status = status


@dataclass(frozen=True)
class Answer:
    """What a server said.

    Attributes:
        url: Where the answer came from, after redirects.
        body: As sent, decompressed; empty where nothing has changed.
        charset: The encoding that the header names, or `None`.
        changed: Whether it is news: false for 304.
        validators: What to ask with the next time: ``etag`` and ``last_modified``, where the server gave them.
    """

    url: str
    body: bytes
    charset: str | None
    changed: bool
    validators: dict[str, str]


class Fetcher:
    """Asks configured servers, one request at a time; a context manager.

    Arguments:
        hosts: The servers that may be asked or redirected to, ``name`` or ``name:port``, and how many seconds to leave
            between two requests. arXiv's get 3 or more.
        home: The folder that holds the pace of each.
        allow_private: Also addresses of this machine and of private networks.
        contact: An address that servers' keepers may write to, sent along.
        largest: Bytes of an answer at most.
        longest: Seconds for an answer at most.
        sleep: How to wait, in seconds.
        clock: This instant, in seconds since 1970.
        context: How certificates are checked; default: as `httpcore` does.
    """

    def __init__(
        self,
        hosts: Mapping[str, float],
        home: Path,
        *,
        allow_private: bool = False,
        contact: str = "",
        largest: int = LARGEST,
        longest: float = LONGEST,
        sleep: Callable[[float], Any] = time.sleep,
        clock: Callable[[], float] = time.time,
        context: ssl.SSLContext | None = None,
    ):
        self.hosts = {name.lower(): max(pace, _least_pace(name)) for name, pace in hosts.items()}
        self.home, self.largest, self.longest = home, largest, longest
        self.sleep, self.clock = sleep, clock
        self.agent = f"attractor/{__version__} (papers, read daily{f'; {contact}' if contact else ''})"
        # No connection is kept: the next request is seconds away, and another process may be the one to make it.
        backend = _Backend(allow_private, longest)
        self.pool = httpcore.ConnectionPool(
            context, max_connections=1, max_keepalive_connections=0, network_backend=backend
        )
        self.backend = backend

    def __enter__(self) -> "Fetcher":
        return self

    def __exit__(self, *_: object) -> None:
        self.pool.close()

    def get(self, url: str, validators: Mapping[str, Any] | None = None) -> Answer:
        """Ask for a page, again where the server is busy.

        Arguments:
            url: Of a configured server.
            validators: What a former answer gave, so that the server need not send the same again.

        Raises:
            FetchError: if there was no good answer; it says what was tried and what to do.
        """
        known = validators or {}
        asked = {"If-None-Match": known.get("etag"), "If-Modified-Since": known.get("last_modified")}
        conditions = [(name, str(value)) for name, value in asked.items() if value and str(value).isascii()]
        for _ in range(REDIRECTS + 1):
            status, headers, body = self._patiently(url, conditions)
            if status not in (301, 302, 303, 307, 308):
                break
            there = urljoin(url, headers.get("location", ""))
            if urlsplit(url).scheme == "https" and urlsplit(there).scheme != "https":
                raise FetchError(f"{url} leads away from https, to {there[:200]}", status)
            url = there
        else:
            raise FetchError(f"{url} leads from page to page, more than {REDIRECTS} times")
        if status == 304 and conditions:
            return Answer(url, b"", None, False, dict(known))
        if status != 200:
            raise FetchError(f"{url} answered {status} {_phrase(status)}", status)
        given = {"etag": headers.get("etag"), "last_modified": headers.get("last-modified")}
        charset = re.search(r"charset\s*=\s*[\"']?([\w.:-]+)", headers.get("content-type", ""), re.IGNORECASE)
        kept = {name: value for name, value in given.items() if value}
        return Answer(url, body, charset[1] if charset else None, True, kept)

    def _patiently(self, url: str, conditions: list[tuple[str, str]]) -> tuple[int, dict[str, str], bytes]:
        """One answer; where the server is busy or the line is cut, asked for again, later and later."""
        host, pace = self._host(url)
        waited, said, cause = 0.0, "", None
        status, headers, body = 0, dict[str, str](), b""
        with self._turn(host) as turn:
            for attempt in range(1, ATTEMPTS + 1):
                hold = turn.free_at - self.clock()
                if hold > PATIENCE - waited + pace:
                    until = datetime.fromtimestamp(turn.free_at, UTC).strftime("%Y-%m-%d %H:%M UTC")
                    raise FetchError(f"{host} asks to be left alone until {until}; a later sync goes on", 429)
                if hold > 0:
                    self.sleep(hold)
                turn.leave(self.clock() + pace)  # before asking: whoever is killed now has asked
                try:
                    status, headers, body = self._once(url, conditions)
                    said, cause = f"{status} {_phrase(status)}", None
                except (httpcore.NetworkError, httpcore.TimeoutException, httpcore.ProtocolError, OSError) as error:
                    status, headers, said, cause = 0, {}, f"nothing ({_words(error)})", error
                turn.leave(self.clock() + pace)
                if status and status not in BUSY:
                    return status, headers, body
                told = _retry_after(headers.get("retry-after"), self.clock()) if status in (429, 503) else None
                pause = max(pace, 5.0 * 2 ** (attempt - 1) if told is None else told)
                if attempt < ATTEMPTS or told is not None:
                    turn.leave(self.clock() + pause)
                waited += pause
        raise FetchError(f"{host} answered {said}, {ATTEMPTS} times; a later sync goes on", status or None) from cause

    def _host(self, url: str) -> tuple[str, float]:
        """The server's name as configured, and its pace."""
        try:
            parts = urlsplit(url)
            name, port = parts.hostname, parts.port
        except ValueError as error:
            raise FetchError(f"{url[:200]!r} is no web address") from error
        if parts.scheme not in ("http", "https") or not name or "@" in parts.netloc or not url.isascii():
            raise FetchError(f"{url[:200]!r} is no web address that may be asked: http or https, without a password")
        usual = port in (None, 443 if parts.scheme == "https" else 80)
        key = name if usual else f"{name}:{port}"
        if key not in self.hosts:
            named = ", ".join(sorted(self.hosts))
            raise FetchError(f"{key} is no configured server ({named}); a source's setting hosts may name it")
        return key, self.hosts[key]

    def _once(self, url: str, conditions: list[tuple[str, str]]) -> tuple[int, dict[str, str], bytes]:
        headers = [("User-Agent", self.agent), ("Accept-Encoding", "gzip"), ("Accept", "*/*"), *conditions]
        limits = {"connect": SILENCE, "read": SILENCE, "write": SILENCE, "pool": SILENCE}
        self.backend.until = time.monotonic() + self.longest
        with self.pool.stream("GET", url, headers=headers, extensions={"timeout": limits}) as response:
            found = {k.decode("latin-1").lower(): v.decode("latin-1") for k, v in response.headers}
            body = (
                self._body(response, found.get("content-encoding", "identity").lower())
                if response.status == 200
                else b""
            )
            return response.status, found, body

    def _body(self, response: Any, coding: str) -> bytes:
        """The answer's bytes, decompressed no further than the limit: a small answer may unfold into a huge one."""
        if coding not in ("identity", "", "gzip", "x-gzip"):
            raise FetchError(f"an answer in {coding!r}, which was not asked for")
        unpack = zlib.decompressobj(31) if "gzip" in coding else None
        body = bytearray()
        for part in response.iter_stream():
            try:
                body += unpack.decompress(part, self.largest + 1 - len(body)) if unpack else part
            except zlib.error as error:
                raise FetchError("a compressed answer that is damaged") from error
            if len(body) > self.largest:
                raise FetchError(f"an answer of more than {self.largest:,} bytes, which is refused")
        if unpack and not unpack.eof:
            raise httpcore.RemoteProtocolError("a compressed answer that was cut off")
        return bytes(body)

    @contextlib.contextmanager
    def _turn(self, host: str) -> Iterator["_Turn"]:
        """The right to ask a server, which one process at a time has."""
        folder = self.home / "servers"
        folder.mkdir(parents=True, exist_ok=True)
        name = re.sub(r"[^\w.-]", "_", _key(host))
        with open(folder / name, "a+", encoding="ascii", errors="replace") as file:
            fcntl.flock(file, fcntl.LOCK_EX)  # given back when the file is closed, by being killed as well
            yield _Turn(file, self.clock())


class _Turn:
    """When a server may be asked next, as its file says."""

    def __init__(self, file: Any, now: float):
        self.file = file
        file.seek(0)
        try:
            self.free_at = min(float(file.read()), now + 86400.0)  # no server is left alone for more than a day
        except ValueError:
            self.free_at = 0.0
        if self.free_at != self.free_at:
            self.free_at = 0.0

    def leave(self, until: float) -> None:
        self.free_at = until
        self.file.seek(0)
        self.file.truncate()
        self.file.write(f"{until:.3f}")
        self.file.flush()


class _Backend(httpcore.NetworkBackend):
    """Connects to public addresses only, and bounds how long a whole answer may take."""

    def __init__(self, allow_private: bool, longest: float):
        self.allow_private = allow_private
        self.until = time.monotonic() + longest

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        try:
            # The address that is checked is the one that is connected to: asking twice could give two.
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            raise httpcore.ConnectError(f"no address is known for {host}") from error
        addresses = list(dict.fromkeys(str(info[4][0]) for info in found))
        allowed = [a for a in addresses if self.allow_private or public(a)]
        if not allowed:
            where = ", ".join(addresses)
            raise FetchError(f"{host} is at {where}, which is no public address; allow_private = true allows it")
        problem: Exception = httpcore.ConnectError(f"{host} has no address")
        for address in allowed:
            try:
                stream = httpcore.SyncBackend().connect_tcp(address, port, timeout, local_address, socket_options)
                return _Stream(stream, self)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                problem = error
        raise problem

    def sleep(self, seconds: float) -> None:
        raise FetchError("the connection is not tried again here")


class _Stream(httpcore.NetworkStream):
    """A connection whose every wait ends when the answer's time is up."""

    def __init__(self, stream: httpcore.NetworkStream, backend: _Backend):
        self.stream, self.backend = stream, backend

    def _left(self, timeout: float | None) -> float:
        left = self.backend.until - time.monotonic()
        if left <= 0:
            raise httpcore.ReadTimeout("the answer took too long")
        return left if timeout is None else min(timeout, left)

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self.stream.read(max_bytes, self._left(timeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self.stream.write(buffer, self._left(timeout))

    def close(self) -> None:
        self.stream.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        return _Stream(self.stream.start_tls(ssl_context, server_hostname, self._left(timeout)), self.backend)

    def get_extra_info(self, info: str) -> Any:
        return self.stream.get_extra_info(info)


def public(address: str) -> bool:
    """Whether an IP address is one of the public Internet, and so are those that it carries inside."""
    ip = ipaddress.ip_address(address.split("%")[0])
    if not ip.is_global or ip.is_multicast:
        return False
    if isinstance(ip, ipaddress.IPv4Address):
        return True
    inner = [ip.ipv4_mapped, ip.sixtofour, *(ip.teredo or ())]
    if ip in ipaddress.ip_network("64:ff9b::/96"):  # NAT64
        inner.append(ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF))
    return not ip.is_site_local and all(part is None or public(str(part)) for part in inner)


def _key(host: str) -> str:
    """Servers that share one pace: arXiv's terms count all of its own as one."""
    name = host.lower().rsplit(":", 1)[0] if ":" in host else host.lower()
    return "arxiv.org" if name == "arxiv.org" or name.endswith(".arxiv.org") else host.lower()


def _least_pace(host: str) -> float:
    return ARXIV_PACE if _key(host) == "arxiv.org" else 0.0


def _retry_after(text: str | None, now: float) -> float | None:
    """Seconds that a server asks to wait, given as a number or as a date; `None` if it does not say."""
    if text is None:
        return None
    if re.fullmatch(r"\d{1,9}", text.strip()):
        return float(text)
    with contextlib.suppress(ValueError, TypeError, OverflowError):
        return max(0.0, parsedate_to_datetime(text).timestamp() - now)
    return None


def _phrase(status: int) -> str:
    with contextlib.suppress(ValueError):
        return http.HTTPStatus(status).phrase
    return ""


def _words(error: Exception) -> str:
    return str(error) or re.sub(r"(?<!^)(?=[A-Z])", " ", type(error).__name__).lower()
