"""Where the page shows things: the one place that mail, feeds and page agree on."""

from urllib.parse import quote


def paper(base_url: str, slug: str) -> str:
    """A paper of the catalogue."""
    return f"{base_url.rstrip('/')}/papers/{quote(slug)}"


def confirm(base_url: str, token: str) -> str:
    """The page with the button that confirms a subscription (a GET confirms nothing: programs open links in mails)."""
    return f"{base_url.rstrip('/')}/confirm?token={quote(token)}"


def unsubscribe(base_url: str, token: str) -> str:
    """GET shows a page with a button; POST, with or without that page, ends the subscription (RFC 8058)."""
    return f"{base_url.rstrip('/')}/unsubscribe?token={quote(token)}"


def follow(base_url: str, name: str, kind: str = "") -> str:
    """A follow's page; its feed where ``kind`` is ``"atom"`` or ``"json"``."""
    return f"{base_url.rstrip('/')}/follows/{quote(name, safe='')}" + (f".{kind}" if kind else "")
