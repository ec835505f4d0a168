"""What keeps the page safe: hosts, origins, tokens in forms, limits, and headers."""

import hashlib
import hmac
import secrets
import time
from collections import OrderedDict
from collections.abc import Iterable

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

LOCAL = ("127.0.0.1", "localhost", "[::1]")
BODY = 6 << 20  # bytes of a request, a log of training included
COOKIE = "attractor-visitor"
FIELD = "token"
PLACE = f"@@{secrets.token_hex(8)}@@"  # where kept pages have a visitor's token; nothing from outside can say it
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
# A report brings its scripts with it; in a sandbox without an origin they reach nothing of the page.
REPORT_POLICY = (
    "sandbox allow-scripts; default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data:"
)
HEADERS = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
    "x-frame-options": "DENY",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
}


class Guard:
    """Lets in requests to known hosts, of bounded size, that change things only from the page itself.

    Arguments:
        app: What answers them.
        hosts: Accepted in the Host header, with any port.
    """

    def __init__(self, app: ASGIApp, hosts: Iterable[str]):
        self.app, self.hosts = app, {h.lower() for h in hosts}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        headers = Headers(scope=scope)

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                out = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    out.setdefault(name, value)
                out.setdefault("content-security-policy", POLICY)
            await send(message)

        refusal = self._refuse(scope["method"], headers)
        if refusal is not None:
            return await refusal(scope, receive, guarded)
        return await self.app(scope, _bounded(receive), guarded)

    def _refuse(self, method: str, headers: Headers) -> Response | None:
        host = headers.get("host", "").lower()
        if _name(host) not in self.hosts:
            text = "this name is not served here; start the server with --allow-host NAME to accept it\n"
            return PlainTextResponse(text, 400)
        if method in ("GET", "HEAD", "OPTIONS"):
            return None
        origin = headers.get("origin")
        if headers.get("sec-fetch-site") == "cross-site" or (origin and origin.partition("://")[2].lower() != host):
            return PlainTextResponse("requests from other sites change nothing here\n", 403)
        size = headers.get("content-length", "0")
        if not size.isascii() or not size.isdigit() or int(size) > BODY:
            return PlainTextResponse(f"at most {BODY >> 20} MB are taken\n", 413)
        return None


def _name(host: str) -> str:
    """A Host header without its port."""
    if host.startswith("["):
        return host[: host.find("]") + 1]
    return host.partition(":")[0]


def _bounded(receive: Receive) -> Receive:
    """A request without a length is cut off where it grows too large."""
    taken = 0

    async def bounded() -> Message:
        nonlocal taken
        message = await receive()
        taken += len(message.get("body", b""))
        if taken > BODY:
            raise HTTPException(413, f"at most {BODY >> 20} MB are taken")
        return message

    return bounded


class Tokens:
    """Tokens in forms: signed for the visitor that a cookie names, so that no other site can make one."""

    def __init__(self) -> None:
        self._secret = secrets.token_bytes(32)

    def of(self, visitor: str) -> str:
        """A visitor's token."""
        return hmac.new(self._secret, visitor.encode(), hashlib.sha256).hexdigest()

    def visitor(self, request: Request) -> tuple[str, bool]:
        """Who asks, and whether that is new."""
        known = request.cookies.get(COOKIE, "")
        if len(known) == 32 and known.isalnum():
            return known, False
        return secrets.token_hex(16), True

    def remember(self, response: Response, visitor: str, request: Request) -> None:
        """Give the visitor a name."""
        secure = request.url.scheme == "https"
        response.set_cookie(
            COOKIE, visitor, httponly=True, samesite="strict", secure=secure, path=request.scope.get("root_path") or "/"
        )

    def check(self, request: Request, given: object) -> None:
        """Raise `HTTPException` 403 unless a form came with its visitor's token."""
        visitor, new = self.visitor(request)
        if new or not isinstance(given, str) or not hmac.compare_digest(given.encode(), self.of(visitor).encode()):
            raise HTTPException(403, "This form was not made for you, or is from before the server started: reload it.")


class Limit:
    """At most ``times`` per ``seconds`` and visitor's address.

    Arguments:
        times: How often.
        seconds: In how long.
        most: Addresses that are remembered; the one heard of longest ago is forgotten.
    """

    def __init__(self, times: int, seconds: float, most: int = 10_000):
        self.times, self.seconds, self.most = times, seconds, most
        self._seen: OrderedDict[str, list[float]] = OrderedDict()

    def check(self, request: Request, now: float | None = None) -> None:
        """Count one; raise `HTTPException` 429 where that is one too many."""
        now = time.monotonic() if now is None else now
        who = request.client.host if request.client else ""
        recent = [t for t in self._seen.pop(who, []) if now - t < self.seconds]
        self._seen[who] = recent
        if len(self._seen) > self.most:
            self._seen.popitem(last=False)
        if len(recent) >= self.times:
            wait = int(self.seconds - (now - recent[0])) + 1
            raise HTTPException(429, f"Too often: try again in {wait} seconds.", {"Retry-After": str(wait)})
        recent.append(now)
