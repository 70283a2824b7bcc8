"""The command line: `jpaged generate`, `jpaged calibrate` and others; see `jpaged --help`."""

from jpaged.cli.main import main

__all__ = ["main"]
