"""A small model that comes with the package, so that nothing need be downloaded."""

from pathlib import Path

DEMO_MODEL = str(Path(__file__).parent / "demo")
