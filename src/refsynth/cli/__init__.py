"""The command line: the only place that prints."""

from refsynth.cli.app import main

__all__ = ["main"]
