"""What the tests of outgoing things share: a library of papers with known days, a mail server that answers as told."""

import contextlib
import socket
import ssl
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email import message_from_bytes, policy
from urllib.parse import urlsplit

import pytest
import trustme
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, LoginPassword

from attractor.feed import Entry, Library
from attractor.feed.mail import Mailer, Settings

NOW = datetime(2026, 1, 7, 12, 0, tzinfo=UTC)  # a Wednesday
PAPERS = [
    Entry("AdaHessian: An Adaptive Second Order Optimizer for Machine Learning", arxiv="2006.00719v3",
          published="2020-06-01", abstract="Curvature <b>&</b> sharpness, estimated by Hutchinson's method.",
          categories=("cs.LG", "stat.ML"),
          authors=("Zhewei Yao", "Amir Gholami", "Sheng Shen", "Kurt Keutzer", "Michael W. Mahoney")),
    Entry("Does sharpness <script>alert(1)</script> explain \x0bgeneralization?", doi="10.1000/a<b>",
          abstract="No & yes. " * 90, authors=("Zoë Ångström",)),
    Entry("Federated sharpness: Überraschung im Netz", arxiv="2601.00003", published="2026-01-02"),
    Entry("Compressed gradients on slow lines", arxiv="2601.00004", published="2026-01-03", abstract="Federated."),
]  # fmt: skip
ADDED = [
    "2026-01-05T10:00:00+00:00",
    "2026-01-06T08:00:00+00:00",
    "2026-01-07T09:00:00+00:00",
    "2026-01-07T09:30:00+00:00",
]


def filled(path) -> Library:
    """A library with `PAPERS`, come in at `ADDED`, and two follows."""
    library = Library(path)
    library.add(PAPERS, "test", "2026-01-05")
    for number, at in enumerate(ADDED, start=1):
        library.connection.execute("UPDATE entries SET added = ?, changed = ? WHERE id = ?", (at, at, number))
    from attractor.feed import follows

    follows.add(library, follows.Follow("sharp", "keywords", "sharpness"))
    follows.add(library, follows.Follow("federated", "keywords", "federated"))
    return library


@pytest.fixture
def library(tmp_path):
    with filled(tmp_path / "home" / "feed.sqlite") as library:
        yield library


@dataclass
class Box:
    """A mail server's answers, and what it took: ``answers`` are given to messages in turn, then all are taken.

    An answer is a line such as ``"450 later"``, or ``"hang up"``: the line is cut in the middle of a message.
    """

    answers: list[str] = field(default_factory=list)
    at: str = "rcpt"  # or "data"
    seen: list[str] = field(default_factory=list)  # whom each message was for, taken or not
    mails: list = field(default_factory=list)
    settings: Settings | None = None

    async def handle_RCPT(self, server, session, envelope, address, options):
        if self.at == "rcpt":
            self.seen.append(address)
            if self.answers and (answer := self.answers.pop(0)):
                if answer == "hang up":
                    server.transport.abort()
                    return "421 gone"
                return answer
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server, session, envelope):
        if self.at == "data":
            self.seen.append(envelope.rcpt_tos[0])
            if self.answers and (answer := self.answers.pop(0)):
                if answer == "hang up":
                    server.transport.abort()
                    return "421 gone"
                return answer
        self.mails.append(message_from_bytes(envelope.content, policy=policy.default))
        self.raw = envelope.content
        return "250 taken"


@contextlib.contextmanager
def mail_server(box, tmp_path, security="starttls", login=("user", "pass word"), trusted=True, hosts=("localhost",)):
    """A server on this machine; yields the `Settings` that reach it."""
    authority = trustme.CA()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert(*hosts).configure_cert(context)
    (authority if trusted else trustme.CA()).cert_pem.write_to_path(tmp_path / "ca.pem")

    def allow(server, session, envelope, mechanism, given):
        given = (given.login.decode(), given.password.decode()) if isinstance(given, LoginPassword) else None
        return AuthResult(success=given == login, handled=False)

    how = {"authenticator": allow, "auth_required": True} if login else {}
    how |= {"tls_context": context} if security == "starttls" else {}
    how |= {"auth_require_tls": False} if security == "tls" else {}  # all of the line is TLS then

    class Served(Controller):
        def factory(self):
            return SMTP(self.handler, **how)

        def _trigger_server(self):
            self.port = self.server.sockets[0].getsockname()[1]  # which the system has chosen
            socket.create_connection(("127.0.0.1", self.port)).close()

    served = {"ssl_context": context if security == "tls" else None, "ready_timeout": 60}
    controller = Served(box, hostname="127.0.0.1", port=0, **served)
    controller.start()
    try:
        yield Settings(
            "localhost",
            "Papers <papers@example.org>",
            "https://papers.example.org",
            security,
            controller.port,
            *(login or ("", "")),
            ca=str(tmp_path / "ca.pem"),
            timeout=20,
        )
    finally:
        controller.stop()


@pytest.fixture
def box(library, tmp_path, monkeypatch):
    """A mail server that takes all, and that the environment leads to."""
    box = Box()
    with mail_server(box, tmp_path) as box.settings:
        for name, value in vars(box.settings).items():
            monkeypatch.setenv(f"ATTRACTOR_MAIL_{name.upper()}", str(value))
        yield box


def linked(text):
    """The path and query of a link in a mail."""
    parts = urlsplit(text)
    assert parts.netloc == "papers.example.org"
    return f"{parts.path}?{parts.query}"


def mailer(settings, waited=None):
    """A mailer that waits for nobody; ``waited`` gets the seconds."""
    return Mailer(settings, sleep=(waited if waited is not None else []).append)
