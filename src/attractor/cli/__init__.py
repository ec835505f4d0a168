"""The command line: ``attractor papers | show | cite | check | compare | diagnose | problems | methods``."""

from attractor.cli import check, compare, diagnose, draft, importing, papers
from attractor.cli.common import app, main

__all__ = ["app", "main"]
