"""The command line: ``main`` runs one command and returns its exit code."""

from inferometer.cli.commands import main, parser

__all__ = ["main", "parser"]
