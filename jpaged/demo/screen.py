"""What the demo draws: the texts as they grow and, on a terminal, the pages beneath them.

    story 1   Once upon a time, … a lazy squirrel named Pearl.
    story 2   Once upon a time, … there lived a kind owl
    pages     ■ ■ ■ ■ ■ ■ ■ ■

A square is a page, in the colour of the request that holds it.
"""

import time
from dataclasses import dataclass

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from jpaged.engine.llm_engine import LLMEngine
from jpaged.engine.outputs import RequestOutput

COLOURS = ("cyan", "magenta", "yellow", "green", "blue", "red", "bright_cyan", "bright_magenta")
FRAME = 1 / 15  # seconds between two pictures


@dataclass
class Line:
    """One request on the screen."""

    prompt: str
    text: str = ""


class Screen:
    """Redraws on a terminal; elsewhere prints each text when it is finished."""

    def __init__(self, console: Console, engine: LLMEngine, lines: dict[str, Line]):
        self.console, self.engine, self.lines = console, engine, lines
        self.colours = dict(zip(lines, COLOURS * len(lines), strict=False))
        self.finished: list[RequestOutput] = []
        self._live = Live(console=console, auto_refresh=False) if console.is_terminal else None
        self._last_frame = 0.0

    def __enter__(self) -> "Screen":
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.update(self._picture(), refresh=True)
            self._live.stop()

    def show(self, outputs: list[RequestOutput]) -> None:
        for output in outputs:
            line = self.lines[output.request_id]
            line.text += output.outputs[0].text
            if output.finished:
                self.finished.append(output)
                self._announce(output.request_id)
        if self._live is not None and time.monotonic() - self._last_frame > FRAME:
            self._live.update(self._picture(), refresh=True)
            self._last_frame = time.monotonic()

    def _announce(self, label: str) -> None:
        if self._live is None:
            self.console.print(self._text(label), "", sep="\n", soft_wrap=True)

    def _text(self, label: str) -> Text:
        line = self.lines[label]
        text = Text(f"[{label}] ", style=f"bold {self.colours[label]}")
        return text.append(line.prompt, style="dim").append(line.text, style="default")

    def _picture(self) -> Group:
        return Group(*(self._fitted(label) for label in self.lines), self._pages(), self._now())

    def _fitted(self, label: str) -> Text:
        """The end of a text, in as many rows as there are for it."""
        rows = max(1, (self.console.height - 8) // len(self.lines))
        room = max(20, self.console.width * rows - len(label) - 8)
        text = self._text(label)
        if self._is_done:
            return text
        flat = (self.lines[label].prompt + self.lines[label].text).replace("\n", " ")
        start = "" if len(flat) <= room else "… "
        head = Text(f"[{label}] {start}", style=f"bold {self.colours[label]}")
        return head.append(flat[-room:], style="default")

    @property
    def _is_done(self) -> bool:
        return len(self.finished) == len(self.lines)

    def _pages(self) -> Table:
        holders: dict[int, str] = {}
        for sequence in self.engine.scheduler.running:
            holders |= dict.fromkeys(sequence.pages, self.colours[sequence.request.id])
        pool = self.engine.scheduler.pool
        cells = Text()
        for page in range(pool.num_pages):
            cached = pool.remembered[page]
            cells.append("■ ", holders.get(page, "bright_black" if cached else "grey15"))
        table = Table.grid(padding=(1, 1))
        table.add_row("pages", cells)
        return table

    def _now(self) -> Text:
        pool, scheduler = self.engine.scheduler.pool, self.engine.scheduler
        return Text(
            f"continuous batching: {len(scheduler.running)} running, {len(scheduler.waiting)} "
            f"waiting · a square is a page, coloured by request: {pool.num_held} of "
            f"{pool.num_pages} held · prefix cache: {pool.num_idle} kept for later (grey)",
            style="dim",
        )
