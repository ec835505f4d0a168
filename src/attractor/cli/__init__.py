"""The command line: a module per group of commands; importing it registers them."""

from attractor.cli import check, compare, diagnose, digest, feed, follow, importing, new, papers, web
from attractor.cli.common import app, in_panels, main

in_panels(
    {
        "Papers and their claims": ("papers", "show", "check", "cite"),
        "A training of your own": ("compare", "diagnose", "methods", "problems"),
        "Papers that come in": ("feed", "import", "follow", "keep", "dismiss", "similar"),
        "Digests by mail": ("digest", "subscribe", "subscribers", "unsubscribe", "daemon"),
        "Pages, and assistants": ("serve", "site", "mcp"),
        "A method or a paper of your own": ("new",),
    }
)

__all__ = ["app", "main"]
