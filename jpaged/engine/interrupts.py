"""Ctrl-C between steps, not within one.

A step gives its cache to the device and takes it back; an exception in between would lose it.
"""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def deferred_interrupts() -> Iterator[Callable[[], None]]:
    """Yields a function that raises `KeyboardInterrupt` if Ctrl-C was pressed since; so does the
    end of the block.

    A second Ctrl-C goes through at once.  Off the main thread, where no signal arrives, and
    under a handler that is not Python's own, nothing changes.
    """
    is_ours = (
        threading.current_thread() is threading.main_thread()
        and signal.getsignal(signal.SIGINT) is signal.default_int_handler
    )
    if not is_ours:
        yield lambda: None
        return
    pressed = threading.Event()

    def note(signum, frame):
        if pressed.is_set():
            raise KeyboardInterrupt
        pressed.set()

    def check():
        if pressed.is_set():
            raise KeyboardInterrupt

    signal.signal(signal.SIGINT, note)
    try:
        yield check
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    check()
