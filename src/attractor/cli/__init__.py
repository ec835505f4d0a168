"""The command line: ``attractor papers | show | cite | check | compare | diagnose | problems | methods | feed …``."""

from attractor.cli import check, compare, diagnose, digest, draft, feed, follow, importing, papers, web
from attractor.cli.common import app, main

__all__ = ["app", "main"]
