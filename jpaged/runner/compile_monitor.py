"""Counts what XLA compiles, so that a compilation while serving does not go unnoticed."""

import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import jax

from jpaged.errors import CompiledAfterWarmup

MODES = ("warn", "error", "off")
_EVENT = "/jax/core/compile/backend_compile_duration"
_active = threading.local()  # compilations report to the watch of the thread that caused them


class Watch:
    """The compilations seen so far: how many, and their seconds."""

    def __init__(self):
        self.count = 0
        self.seconds = 0.0


def _on_event(event: str, duration_secs: float, **kwargs: str | int) -> None:
    watch = getattr(_active, "watch", None)
    if event == _EVENT and watch is not None:
        watch.count += 1
        watch.seconds += duration_secs


jax.monitoring.register_event_duration_secs_listener(_on_event)


@contextmanager
def watching(watch: Watch) -> Iterator[Watch]:
    """Counts into `watch` what this thread compiles meanwhile."""
    before = getattr(_active, "watch", None)
    _active.watch = watch
    try:
        yield watch
    finally:
        _active.watch = before


def report_late(what: str, mode: str) -> None:
    """Speaks up about a compilation after warm-up, as loudly as the user asked for."""
    message = (
        f"{what} was compiled while serving, after warm-up: requests waited for it. "
        'This is a bug in jpaged, or its options changed; jit_monitor="off" silences this'
    )
    if mode == "error":
        raise CompiledAfterWarmup(message)
    if mode == "warn":
        warnings.warn(message, RuntimeWarning, stacklevel=3)
