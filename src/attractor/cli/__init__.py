"""The command line: ``attractor papers | show | cite | check | compare | diagnose | problems | methods``, and of the
reader ``follow | keep | dismiss | similar``."""

from attractor.cli import check, compare, diagnose, follow, papers
from attractor.cli.common import app, main

__all__ = ["app", "main"]
