"""Plain tables, sizes and ages as people read them."""

from collections.abc import Iterable, Sequence

UNITS = ((86400, "day"), (3600, "hour"), (60, "minute"), (1, "second"))


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Columns as wide as what is in them, two spaces between."""
    lines = [head, *rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    padded = (zip(line, widths, strict=True) for line in lines)
    return ["  ".join(cell.ljust(width) for cell, width in line).rstrip() for line in padded]


def size(num_bytes: float) -> str:
    for unit in ("B", "KiB", "MiB", "GiB"):
        if num_bytes < 1024 or unit == "GiB":
            break
        num_bytes /= 1024
    return f"{num_bytes:.0f} {unit}" if unit == "B" else f"{num_bytes:.1f} {unit}"


def ago(now: float, then: float) -> str:
    """The seconds between, in the largest unit that fits: 3 hours."""
    seconds = max(0, int(now - then))
    per, unit = next((each for each in UNITS if seconds >= each[0]), UNITS[-1])
    count = seconds // per
    return f"{count} {unit}{'' if count == 1 else 's'}"
