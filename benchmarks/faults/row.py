"""One fault and its outcome: what is expected of it, and the line of the table."""

import signal
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from answers import Load, stream
from served import Served, Watch, eventually

PATIENCE = 5.0  # seconds in which those who are harmed must know
STEPS = ("--pretend", "constant:step=0.005,token=0.0002")  # 32 tokens take 11 ms, 900 200
ROWS: list["Row"] = []


@dataclass
class Row:
    """problems: what was not as it should be.  None and "" are what does not apply."""

    number: str
    fault: str
    do: Callable[["Row"], None]
    others: str = ""
    seconds: float | None = None
    pages: float | None = None
    orphans: int | None = None
    health: str = ""
    code: int | None = None
    note: str = ""
    problems: list[str] = field(default_factory=list)

    def expect(self, holds: bool, problem: str) -> None:
        if not holds:
            self.problems.append(problem)

    def run(self) -> None:
        self.do(self)

    @contextmanager
    def serving(self, *flags: str, **how: Any):
        """A server whose health is watched, and whose children are known."""
        with Served(*(flags or STEPS), **how) as server:
            server.remember_family()
            watch = Watch(server)
            try:
                yield server
            finally:
                watch.stop()
                self.health = self.health or str(watch)

    def tally(self, load: Any, *allowed: str) -> None:
        """How the others' requests ended; only so may they."""
        counts: Counter[str] = load.kinds
        self.others = ", ".join(f"{count} {kind}" for kind, count in sorted(counts.items()))
        wrong = {kind for kind in counts if kind.split()[0] not in allowed}
        self.expect(not wrong, f"requests ended {', '.join(sorted(wrong))}")

    def harmed(self, load: Load, since: float, *allowed: str) -> None:
        """They know in time, and in no doubt."""
        load.join(PATIENCE + 5)
        self.tally(load, *(allowed or ("failed", "refused")))
        self.seconds = load.seconds_since(since)
        self.expect(self.seconds < PATIENCE, f"it took {self.seconds:.1f} s until all knew")

    def unharmed(self, load: Load, expected: Sequence[str], seconds: float = 30.0) -> None:
        """They say to the end what they say undisturbed."""
        load.join(seconds)
        self.tally(load, "whole")
        self.expect(load.texts == list(expected), "they say something else than undisturbed")

    def lives(self, server: Served) -> None:
        """It holds nothing, is healthy, answers, and ends well when told to."""
        self.expect(eventually(server.is_idle), "something is still held")
        self.pages = server.metric("kv_cache_usage_perc")
        self.expect(eventually(lambda: server.health() == 200), "it is not healthy again")
        again = Load(server.address, [stream(3)])
        again.join(20)
        self.expect(again.kinds == {"whole": 1}, f"a new request ended {dict(again.kinds)}")
        server.remember_family()
        server.process.send_signal(signal.SIGTERM)
        self.dies(server, 0)

    def dies(self, server: Served, code: int) -> None:
        """It ends so, and nobody is left."""
        self.code = server.exit_code()
        self.expect(self.code == code, f"exit code {self.code}, expected {code}")
        self.orphans = server.orphans()
        self.expect(not self.orphans, "processes are left")


def row(number: str, fault: str) -> Callable[[Callable[[Row], None]], Callable[[Row], None]]:
    """Enters a fault into the table.  The first line of the function's docstring is its note."""

    def enter(do: Callable[[Row], None]) -> Callable[[Row], None]:
        note = " ".join((do.__doc__ or "").split())
        ROWS.append(Row(number, fault, do, note=note))
        return do

    return enter


def undisturbed(server: Served, asked: list[bytes]) -> list[str]:
    """What these requests say when nothing happens."""
    load = Load(server.address, asked)
    load.join(30)
    assert load.kinds == {"whole": len(asked)}, load.kinds
    return load.texts


def begun(server: Served, asked: list[bytes]) -> Load:
    """These requests, once all of them have said something."""
    load = Load(server.address, asked)
    assert eventually(load.has_begun, 10), f"they did not begin: {load.kinds}"
    return load


def now() -> float:
    return time.monotonic()
