"""The command line: ``attractor papers | show | check | compare | diagnose | feed | follow | digest | serve | …``."""

from attractor.cli import check, compare, diagnose, digest, draft, feed, follow, importing, papers, web
from attractor.cli.common import app, main

__all__ = ["app", "main"]
