"""The command line: ``attractor papers | show | cite | check | compare | diagnose | problems | methods | serve …``."""

from attractor.cli import check, compare, diagnose, papers, web
from attractor.cli.common import app, main

__all__ = ["app", "main"]
