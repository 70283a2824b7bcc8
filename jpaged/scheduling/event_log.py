"""The event log: what an engine or a simulation did, as lines of JSON, written as it happens.

    {"event": "log", "format": 1, "about": {…}}           whose log it is, and of what sizes
    {"event": "step", "replica": 0, …}                    the fields of `StepRecord`
    {"event": "request", "replica": 0, …}                 the fields of `RequestRecord`
    {"event": "refused", "request": …, "reason": …}
    {"event": "pages", "replica": 0, …}                   the fields of `PageStep`, if asked for

Each line is whole or the last one: a log whose writer crashed can be read up to there.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any, TextIO

from jpaged.errors import ConfigError
from jpaged.scheduling.buckets import Bucket
from jpaged.scheduling.events import RequestRecord, StepRecord
from jpaged.scheduling.page_trace import Cell, PageStep, PageWatcher, Served
from jpaged.scheduling.scheduler import Scheduler

FORMAT = 1
STEP_FIELDS = tuple(each.name for each in fields(StepRecord))
REQUEST_FIELDS = tuple(each.name for each in fields(RequestRecord))
Event = tuple[str, int, Any]  # its kind, the replica, and what happened


class EventLog:
    """Writes a log to a file, which it replaces.

        with EventLog("run.jsonl") as log:
            log.attach(engine)
            while engine.has_unfinished_requests():
                engine.step()

    Nothing is written once it is closed; the engine goes on.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self._file: TextIO = self.path.open("w", buffering=1, encoding="utf-8")  # by lines
        self._on_close: list[Callable[[], None]] = []

    def attach(self, served: Served, trace_pages: bool = False) -> None:
        """Writes what an engine does from now on; after its `restore`, attach again.

        trace_pages: what every page holds as well; the log is some ten times as large.
        """
        loop = served.loop
        self.begin(about_engine(served))
        tell_step, tell_finish = loop.on_step, loop.on_finish

        def on_step(record: StepRecord) -> None:
            tell_step(record)
            self.step(record)

        def on_finish(sequence: Any) -> None:
            tell_finish(sequence)
            self.request(RequestRecord.of(sequence))

        loop.on_step, loop.on_finish = on_step, on_finish
        if trace_pages:
            watcher = PageWatcher(loop.scheduler, self.pages)
            loop.watchers.append(watcher)
            self._on_close.append(lambda: loop.watchers.remove(watcher))

    def begin(self, about: dict[str, Any]) -> None:
        self._write({"event": "log", "format": FORMAT, "about": about})

    def step(self, record: StepRecord, replica: int = 0) -> None:
        values = {name: getattr(record, name) for name in STEP_FIELDS}
        self._write({"event": "step", "replica": replica} | values)

    def request(self, record: RequestRecord, replica: int = 0) -> None:
        values = {name: getattr(record, name) for name in REQUEST_FIELDS}
        self._write({"event": "request", "replica": replica} | values)

    def refused(self, request: str, reason: str) -> None:
        self._write({"event": "refused", "request": request, "reason": reason})

    def pages(self, step: PageStep, replica: int = 0) -> None:
        changes = [[page, *cell] for page, cell in step.changes.items()]
        values = step._asdict() | {"changes": changes}
        self._write({"event": "pages", "replica": replica} | values)

    def _write(self, line: dict[str, Any]) -> None:
        if not self._file.closed:
            self._file.write(json.dumps(line, separators=(",", ":"), ensure_ascii=False) + "\n")

    def close(self) -> None:
        while self._on_close:
            self._on_close.pop()()
        self._file.close()

    def __enter__(self) -> "EventLog":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def about(scheduler: Scheduler, **more: str | int | float | bool | None) -> dict[str, Any]:
    """The policy and the sizes of an engine, and `more`; what a log begins with."""
    sizes = {
        "policy": type(scheduler.policy).__name__,
        "num_pages": scheduler.pool.num_pages,
        "page_size": scheduler.pool.page_size,
        "max_num_seqs": scheduler.queues.max_num_seqs,
        "max_num_batched_tokens": scheduler.max_num_batched_tokens,
        "num_host_pages": scheduler.queues.host.num_pages,
        "enable_prefix_caching": scheduler.cache is not None,
        "enable_chunked_prefill": scheduler.enable_chunked_prefill,
    }
    return sizes | more


def about_engine(served: Served) -> dict[str, Any]:
    """The same of an engine; with its model, if it has one."""
    config = getattr(served, "config", None)
    model = {} if config is None else {"model": str(config.model)}
    return about(served.loop.scheduler, **model)


def events(path: str | Path) -> Iterator[Event]:
    """What a log tells, in order: first ("log", 0, about), then ("step", replica, record) and so
    on; ("cut", 0, line number) at its end if the last line is not whole.

    Raises `ConfigError`, naming the line, for what is no line of a log.
    """
    with Path(path).open(encoding="utf-8") as file:
        number = 0
        for number, text in enumerate(file, 1):
            try:
                event = _parse(text)
            except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
                if number > 1 and not text.endswith("\n"):
                    yield "cut", 0, number
                    return
                said = f"{type(error).__name__}: {error}"
                raise ConfigError(f"{path}, line {number}, is no event ({said})") from error
            if (event[0] == "log") != (number == 1):
                must = "begin" if number == 1 else "go on"
                raise ConfigError(f"{path}, line {number}: a log does not {must} with {event[0]!r}")
            yield event
    if not number:
        raise ConfigError(f"{path} is empty; an event log begins with a line of its own")


def _parse(text: str) -> Event:
    line = json.loads(text)
    kind, replica = line.pop("event"), line.pop("replica", 0)
    if kind == "log":
        if line["format"] != FORMAT:
            raise ValueError(f"format {line['format']}, this version reads {FORMAT}")
        return kind, replica, line["about"]
    return kind, replica, PARSERS[kind](**line)


def _step(bucket: list[int] | None, **values: Any) -> StepRecord:
    return StepRecord(bucket=None if bucket is None else Bucket(*bucket), **values)


def _request(token_times: list[float], pauses: list[list[float]], **values: Any) -> RequestRecord:
    paused = tuple((start, end) for start, end in pauses)
    return RequestRecord(token_times=tuple(token_times), pauses=paused, **values)


def _refused(request: str, reason: str) -> tuple[str, str]:
    return request, reason


def _pages(new: list[str], changes: list[list[Any]], **values: Any) -> PageStep:
    cells = {page: Cell(num, cached, tuple(holders)) for page, num, cached, holders in changes}
    return PageStep(new=tuple(new), changes=cells, **values)


PARSERS = {"step": _step, "request": _request, "refused": _refused, "pages": _pages}
