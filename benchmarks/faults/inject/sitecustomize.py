"""What goes wrong inside of a server's processes, by the environment's JPAGED_FAULT.

Python imports this module by itself where it is on its path.  SIGUSR1 to the engine is the moment
for what happens once.
"""

import os
import signal
import sys
import threading
import time

FAULT = os.environ.get("JPAGED_FAULT", "")
WORDS = " ".join(sys.orig_argv)
NOW = threading.Event()


def curse_a_sampler() -> None:
    """Whose request has a bias for token 7 has one that is no mapping any more."""
    from jpaged.engine.llm_engine import LLMEngine

    enqueue = LLMEngine.enqueue

    class Cursed(dict):
        def values(self):
            raise ArithmeticError("cursed")

    def cursed(engine, request, *arguments, **options):
        if 7 in (request.params.logit_bias or {}):
            object.__setattr__(request.params, "logit_bias", Cursed({7: 1.0}))
        return enqueue(engine, request, *arguments, **options)

    LLMEngine.enqueue = cursed


def fail_a_step() -> None:
    """The next step raises before it begins."""
    from jpaged.engine.pretend import PretendedExecutor

    submit = PretendedExecutor.submit

    def failing(executor, batch):
        if NOW.is_set():
            NOW.clear()
            raise ArithmeticError("injected")
        return submit(executor, batch)

    PretendedExecutor.submit = failing


def stick_in_a_step() -> None:
    """The next step never ends."""
    from jpaged.engine.pretend import PretendedExecutor

    submit = PretendedExecutor.submit

    def sticking(executor, batch):
        if NOW.is_set():
            time.sleep(3600)
        return submit(executor, batch)

    PretendedExecutor.submit = sticking


def run_out_of_memory() -> None:
    """A step of the real model is told by XLA that there is no memory: before it has taken the
    cache, or after."""
    import jax

    from jpaged.runner.compiled import CompiledSteps

    step = CompiledSteps.step

    def exhausted(params, kv_pages, *arguments):
        if FAULT == "memory-and-cache":
            for leaf in jax.tree.leaves(kv_pages):
                leaf.delete()
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 1 bytes.")

    def steps(compiled, bucket):
        if NOW.is_set():
            NOW.clear()
            return exhausted
        return step(compiled, bucket)

    CompiledSteps.step = steps


def give_up_sooner() -> None:
    """The server waits three seconds for who takes nothing."""
    from jpaged.server import limits

    limits.STALLED_SECONDS = 3.0


IN_THE_ENGINE = {
    "sampler": curse_a_sampler,
    "step": fail_a_step,
    "stuck": stick_in_a_step,
    "memory": run_out_of_memory,
    "memory-and-cache": run_out_of_memory,
}
if FAULT in IN_THE_ENGINE and "jpaged.server.engine_process" in WORDS:
    signal.signal(signal.SIGUSR1, lambda *_: NOW.set())
    IN_THE_ENGINE[FAULT]()
if FAULT == "stalled" and "jpaged serve" in WORDS:
    give_up_sooner()
