"""From a question to a mail and out again, through the page and a mail server."""

from datetime import UTC, datetime, timedelta

import feedparser
import pytest
from outgoing import box, library, linked, mailer
from web.conftest import client_of, token

from attractor.feed.digest import send_due
from attractor.feed.subscribers import subscribers

__all__ = ["box", "library"]


def test_subscribe_confirm_read_leave(client, library, box):
    form = {"token": token(client, "/subscribe"), "email": "ada@example.org", "follow": ["sharp"], "every": "daily"}
    assert client.post("/subscribe", data=form).status_code == 200
    text = box.mails[0].get_body(("plain",)).get_content()
    link = linked(next(line for line in text.splitlines() if line.startswith("https://")))

    page = client.get(link)  # as programs do that look into mails
    assert (page.status_code, subscribers(library)) == (200, [])
    given = {"token": token(client, link), "mail_token": link.partition("token=")[2]}
    assert client.post("/confirm", data=given).status_code == 200
    (ada,) = subscribers(library)
    assert (ada.email, ada.follows) == ("ada@example.org", ("sharp",))

    library.connection.execute("UPDATE subscribers SET since = '2026-01-01T00:00:00+00:00'")
    (sent,) = send_due(library, mailer(box.settings), datetime.now(UTC) + timedelta(days=1))
    assert (sent.state, sent.papers) == ("sent", 3)
    leave = linked(box.mails[1]["List-Unsubscribe"].strip("<>"))
    assert client.get(leave).status_code == 200
    assert len(subscribers(library)) == 1  # nor does looking end it
    with client_of() as mailbox:  # one click in the mail program: no cookie, no form of ours (RFC 8058)
        assert mailbox.post(leave, data={"List-Unsubscribe": "One-Click"}).status_code == 200
        assert mailbox.post(leave, data={"List-Unsubscribe": "One-Click"}).status_code == 200
    assert subscribers(library) == []
    assert 400 <= client.post("/confirm", data=given).status_code < 500  # the old link does not bring them back
    assert subscribers(library) == []


def test_links_that_are_not_ours_are_refused_without_an_error(client, library):
    for path in ("/unsubscribe?token=x.y", "/unsubscribe?token=", "/unsubscribe"):
        assert 400 <= client.post(path).status_code < 500
    given = {"token": token(client, "/confirm?token=x.y"), "mail_token": "x.y"}
    assert 400 <= client.post("/confirm", data=given).status_code < 500


@pytest.mark.parametrize("kind", ["atom", "json"])
def test_a_feed_is_fetched_again_only_when_it_changed(client, library, kind):
    found = client.get(f"/follows/sharp.{kind}")
    assert found.status_code == 200
    if kind == "atom":
        parsed = feedparser.parse(found.content)
        assert (parsed.bozo, len(parsed.entries)) == (False, 3)
    else:
        assert len(found.json()["items"]) == 3
    for header, name in (("if-none-match", "etag"), ("if-modified-since", "last-modified")):
        assert client.get(f"/follows/sharp.{kind}", headers={header: found.headers[name]}).status_code == 304
