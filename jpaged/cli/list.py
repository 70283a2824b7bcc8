"""`jpaged list`: the models that are on this machine."""

import argparse
import shutil
import time
from pathlib import Path

from jpaged.assets import DEMO_MODEL
from jpaged.cli.cached import architecture, cached_models, why_not
from jpaged.cli.tables import ago, size, table

HEAD = ("NAME", "ARCHITECTURE", "SIZE", "USED", "SERVED")
LEAST_WIDTH = 20  # of the last column, however narrow the terminal


def run(args: argparse.Namespace) -> int:
    now = time.time()
    rows = [
        (
            model.name,
            architecture(model.folder) or "?",
            size(model.num_bytes),
            f"{ago(now, model.used)} ago",
            served(model.folder),
        )
        for model in cached_models()
    ]
    rows.append(("demo", architecture(Path(DEMO_MODEL)), demo_size(), "bundled", "yes"))
    print("\n".join(shortened(table(HEAD, rows))))
    return 0


def served(folder: Path) -> str:
    reason = why_not(folder)
    return f"no: {reason}" if reason else "yes"


def demo_size() -> str:
    return size(sum(path.stat().st_size for path in Path(DEMO_MODEL).iterdir()))


def shortened(lines: list[str]) -> list[str]:
    """To the width of the terminal: a reason may be long, and `jpaged show` says it whole."""
    width = max(
        shutil.get_terminal_size((1000, 24)).columns, lines[0].index("SERVED") + LEAST_WIDTH
    )
    return [line if len(line) <= width else f"{line[: width - 1]}…" for line in lines]
