"""What a part found, line by line on disk, so that nothing that ends a process loses more than the
case at hand.

    decode.jsonl    {"begin": "B64 x 1024"}    {"case": "B64 x 1024", "value": ..}    {"begin": ..

A case is begun and then has a row.  One that was begun and has none took its process along.
"""

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Found:
    """What a case measured.

    share: of what the machine shows it can do (`of` names it).  key: what other rows with the same
    key measured too, so that they can be compared; smaller values are better where it is seconds.
    """

    value: float
    unit: str
    share: float | None = None
    of: str = ""
    is_good: bool | None = None  # where it is not the target that decides
    key: str = ""
    note: str = ""
    more: dict = field(default_factory=dict)


@dataclass(frozen=True)
class Case:
    """One thing to find out.  target: the least share, or with `at_most` the largest value, or with
    `beside` the least multiple of what the same takes us, which only the report can tell."""

    name: str
    run: Callable[[], Found]
    target: float | None = None
    at_most: float | None = None
    beside: float | None = None

    def verdict(self, found: Found) -> bool | None:
        if self.target is not None and found.share is not None:
            return found.share >= self.target
        if self.at_most is not None:
            return found.value <= self.at_most
        return found.is_good


class Journal:
    """The lines of one part, appended by the process that runs it and by the one that watches."""

    def __init__(self, folder: Path, part: str):
        self.part, self.path = part, folder / f"{part}.jsonl"

    def lines(self) -> list[dict]:
        """All whole lines: a process may have been killed in the middle of one."""
        text = self.path.read_text() if self.path.exists() else ""
        return [json.loads(line) for line in text.split("\n")[:-1] if line]

    def append(self, line: dict) -> None:
        with self.path.open("a") as file:
            file.write(json.dumps(line) + "\n")

    def begin(self, name: str) -> None:
        self.append({"begin": name})

    def end(self, case: Case, found: Found, seconds: float) -> None:
        row = {"case": case.name, **asdict(found), "verdict": case.verdict(found)}
        targets = {"target": case.target, "at_most": case.at_most, "beside": case.beside}
        self.append({**row, **targets, "took": round(seconds, 1)})

    def fail(self, name: str, reason: str) -> None:
        self.append({"case": name, "error": reason, "verdict": False})

    def begun(self) -> list[str]:
        return [line["begin"] for line in self.lines() if "begin" in line]

    def not_reached(self) -> list[str]:
        """What was planned and never begun, because the time was up."""
        plans = [line["plan"] for line in self.lines() if "plan" in line]
        begun = set(self.begun())
        return [name for name in plans[-1] if name not in begun] if plans else []

    def rows(self) -> list[dict]:
        return [{"part": self.part, **line} for line in self.lines() if "case" in line]

    def open_case(self) -> str | None:
        """The case that was begun last, if it has no row."""
        ended = {row["case"] for row in self.rows()}
        return next((name for name in reversed(self.begun()) if name not in ended), None)


def run_cases(journal: Journal, cases: list[Case], is_alive: Callable[[], object]) -> None:
    """Runs what was not begun before, in order.

    What a case raises becomes its row: it comes from compilers, drivers and other people's
    packages, and may be anything.  `is_alive` then says, by raising too, whether the device
    answers: after an illegal access nothing in this process does, and a new one must go on.
    """
    done = set(journal.begun())
    journal.append({"plan": [case.name for case in cases]})
    for case in cases:
        if case.name in done:
            continue
        journal.begin(case.name)
        start = time.perf_counter()
        try:
            found = case.run()
        except Exception as error:
            text = str(error).strip()
            shortened = text if len(text) < 600 else f"{text[:300]} ... {text[-300:]}"
            journal.fail(case.name, f"{type(error).__name__}: {shortened}")
            is_alive()
        else:
            journal.end(case, found, time.perf_counter() - start)
