"""The command line: a module per group of commands; importing it registers them."""

from attractor.cli import check, compare, diagnose, digest, feed, follow, importing, new, papers, web
from attractor.cli.common import app, main

__all__ = ["app", "main"]
