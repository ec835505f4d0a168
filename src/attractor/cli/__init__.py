"""The command line: ``attractor papers | show | cite | check | compare | problems | methods``."""

from attractor.cli import check, compare, papers
from attractor.cli.common import app, main

__all__ = ["app", "main"]
