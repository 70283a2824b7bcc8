"""Runs requests and hands out what is new of each, as it comes."""

import dataclasses
from collections.abc import Iterator

from jpaged.engine.door import Prompt
from jpaged.engine.interrupts import deferred_interrupts
from jpaged.engine.llm_engine import LLMEngine
from jpaged.engine.outputs import RequestOutput
from jpaged.sampling_params import RequestOutputKind, SamplingParams


def stream(
    engine: LLMEngine, prompts: dict[str, Prompt], params: SamplingParams
) -> Iterator[RequestOutput]:
    """Runs the prompts, by request id, together.  Yields what each step added to each.

    Raises `RequestRejected` at the call, before anything is run.  Ctrl-C aborts the prompts,
    raises `KeyboardInterrupt` and leaves the engine usable.
    """
    params = dataclasses.replace(params, output_kind=RequestOutputKind.DELTA)
    checked = [engine.check(name, prompt, params) for name, prompt in prompts.items()]
    for request, text in checked:
        engine.enqueue(request, text)
    return _run(engine, list(prompts))


def _run(engine: LLMEngine, names: list[str]) -> Iterator[RequestOutput]:
    try:
        with deferred_interrupts() as check_interrupt:
            while engine.has_unfinished_requests():
                yield from engine.step()
                check_interrupt()
    finally:
        engine.abort_request(names)
