"""One engine's start, in its own interpreter, up to its first token.

    python first_token.py ENGINE MODEL      ENGINE: jpaged, vllm

Prints a JSON line {"began", "at": the moment of the first token, "parts": {name: seconds}}; moments
are of `time.monotonic`, which all processes share.  Imports nothing of the project but `worker`, so
that it runs where jpaged is not installed.  MODEL "demo" gets a text as its prompt, others token
ids.
"""

import builtins
import contextlib
import functools
import json
import os
import sys
import threading
import time

from worker import vllm_engine

PROMPT = "Once upon a time"
TOKENS = list(range(100, 108))
PACKAGES = ("numpy", "jax", "flax", "transformers", "torch", "orbax")


class Parts:
    """Seconds of the main thread by name.  A part within another one is not counted in that."""

    def __init__(self):
        self.seconds = {}
        self._open = []  # (name, since when it counts)

    def enter(self, name):
        self._pause()
        self._open.append([name, time.monotonic()])

    def leave(self):
        self._pause()
        self._open.pop()
        if self._open:
            self._open[-1][1] = time.monotonic()

    def _pause(self):
        if self._open:
            name, since = self._open[-1]
            self.seconds[name] = self.seconds.get(name, 0.0) + time.monotonic() - since

    @contextlib.contextmanager
    def part(self, name):
        if threading.current_thread() is not threading.main_thread():
            yield  # it overlaps with what is counted
            return
        self.enter(name)
        try:
            yield
        finally:
            self.leave()

    def watch(self, owner, function, name):
        """Counts the calls of `owner.function`."""
        inner = getattr(owner, function)

        @functools.wraps(inner)
        def timed(*args, **kwargs):
            with self.part(name):
                return inner(*args, **kwargs)

        setattr(owner, function, timed)


def watch_imports(parts):
    """Counts each of the large packages by itself, whoever imports it."""
    inner = builtins.__import__

    @functools.wraps(inner)
    def timed(name, globals=None, locals=None, fromlist=(), level=0):
        package = name.partition(".")[0]
        if level or package not in PACKAGES:
            return inner(name, globals, locals, fromlist, level)
        with parts.part(f"import {package}"):
            return inner(name, globals, locals, fromlist, level)

    builtins.__import__ = timed


def watch_jpaged(parts):
    from jpaged.engine import build, llm_engine
    from jpaged.runner.executor import DeviceExecutor
    from jpaged.runner.program import StepProgram
    from pallas_kernels.native import build as native

    parts.watch(llm_engine, "build_model", "configuration")
    parts.watch(llm_engine, "build_tokenizer", "tokenizer")
    parts.watch(build, "_load", "read weights")
    parts.watch(build, "pack_for_cpu", "pack weights")
    parts.watch(native, "build", "build C++")
    parts.watch(DeviceExecutor, "__init__", "empty cache")
    parts.watch(StepProgram, "lower", "trace")
    parts.watch(DeviceExecutor, "warm_up", "compile, or read it")


def start_jpaged(model, parts):
    watch_imports(parts)
    with parts.part("import the rest"):
        from jpaged import LLM, SamplingParams
    watch_jpaged(parts)
    is_demo = model == "demo"
    with parts.part("other"):
        llm = LLM(model, skip_tokenizer_init=not is_demo)
    with parts.part("first token"):
        params = SamplingParams(temperature=0, max_tokens=1, detokenize=is_demo)
        llm.generate(PROMPT if is_demo else TOKENS, params)
    return llm.close


def start_vllm(model, parts):
    with parts.part("engine"):
        run = vllm_engine(model)
    with parts.part("first token"):
        run([{"prompt": TOKENS, "out": 1, "n": 1, "temperature": 0.0}])
    return lambda: None


STARTS = {"jpaged": start_jpaged, "vllm": start_vllm}


def main():
    parts = Parts()
    began = time.monotonic()
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what libraries print must not mix with the answer
    close = STARTS[sys.argv[1]](sys.argv[2], parts)
    found = {"began": began, "at": time.monotonic(), "parts": parts.seconds}
    answers.write(json.dumps(found) + "\n")
    close()


if __name__ == "__main__":
    main()
