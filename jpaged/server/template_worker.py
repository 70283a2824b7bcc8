"""Renders chat templates, in a process that may be killed.

    stdin   length, {"template": …, "messages": […], "options": {…}}
    stdout  length, {"text": …} or {"refused": …}

Templates come with checkpoints, and are programs.  Jinja's sandbox keeps them from the machine, but
not from looping or from writing without end: time is the parent's to watch, memory is limited here.
"""

import ctypes
import os
import resource
import signal
import sys

import msgspec

os.environ["USE_TORCH"] = "0"  # importing it would take seconds and half a gigabyte
from jinja2 import TemplateError  # noqa: E402
from transformers.utils.chat_template_utils import render_jinja_template  # noqa: E402

PR_SET_PDEATHSIG = 1
MEMORY = 1 << 30
MAX_CHARS = 16 * 1024 * 1024
LENGTH = 4  # bytes


def render(template: str, messages: list[dict], options: dict) -> str:
    """The chat as one text.  Raises what the sandbox, the template and transformers raise."""
    [text], _ = render_jinja_template([messages], chat_template=template, **options)
    if len(text) > MAX_CHARS:
        raise ValueError(f"the chat became {len(text)} characters long, at most {MAX_CHARS} may be")
    return text


def answer(request: bytes) -> bytes:
    asked = msgspec.msgpack.decode(request)
    try:
        reply = {"text": render(asked["template"], asked["messages"], asked["options"])}
    except MemoryError:
        reply = {"refused": "it takes too much memory"}
    except RecursionError:
        reply = {"refused": "it is nested too deeply"}
    except (
        TemplateError,
        ArithmeticError,
        AttributeError,
        LookupError,
        TypeError,
        ValueError,
    ) as error:
        reply = {"refused": f"{type(error).__name__}: {str(error)[:500]}"}
    return msgspec.msgpack.encode(reply)


def main() -> None:
    """Answers until its parent closes the pipe, or is gone."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    if sys.platform == "linux":  # one that loops would not see that the pipe is closed
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    source, sink = sys.stdin.buffer, sys.stdout.buffer
    sink.write(b"\n")  # ready
    sink.flush()
    while len(head := source.read(LENGTH)) == LENGTH:
        reply = answer(source.read(int.from_bytes(head)))
        sink.write(len(reply).to_bytes(LENGTH) + reply)
        sink.flush()


if __name__ == "__main__":
    main()
