"""The command line: `jpaged generate`, `jpaged chat`, `jpaged info`, `jpaged convert`."""

from jpaged.cli.main import main

__all__ = ["main"]
