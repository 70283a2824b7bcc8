"""Ctrl-C in the middle of a step waits for its end, and loses nothing."""

import os
import signal
from collections.abc import Iterator

import pytest
from engines import an_engine, greedily, last, num_held_pages, random_prompts, tokens_of

from jpaged import LLMEngine

PROMPTS = random_prompts(600, 4)
NAMES = [str(number) for number in range(len(PROMPTS))]


def add_all(engine: LLMEngine) -> None:
    for name, prompt in zip(NAMES, PROMPTS, strict=True):
        engine.add_request(name, prompt, greedily(12))


@pytest.fixture(params=[True, False], ids=["one step ahead", "in step"])
def engine(tiny_llama, request) -> Iterator[LLMEngine]:
    engine = an_engine(tiny_llama, async_scheduling=request.param, warmup="none", num_pages=36)
    yield engine
    engine.close()


@pytest.mark.parametrize("nth", [1, 3])
@pytest.mark.parametrize("moment", ["schedule", "advance", "update"])
def test_ctrl_c_right_after(engine, monkeypatch, moment, nth):
    """`nth`: in which call.  The worst moments: one of two books says that a step is on its way,
    or that it has answered, and the other does not yet."""
    add_all(engine)
    outputs = last(engine)
    expected = tokens_of(outputs[name] for name in NAMES)
    real, calls = getattr(engine.scheduler, moment), []

    def interrupted(*args):
        result = real(*args)
        calls.append(moment)
        if len(calls) == nth:
            os.kill(os.getpid(), signal.SIGINT)
        return result

    monkeypatch.setattr(engine.scheduler, moment, interrupted)
    add_all(engine)
    with pytest.raises(KeyboardInterrupt):
        while engine.has_unfinished_requests():
            assert not any(output.finished for output in engine.step())

    finished = {}
    for _ in range(100):  # without a limit it could go on for ever
        finished |= {output.request_id: output for output in engine.step() if output.finished}

    assert tokens_of(finished[name] for name in NAMES) == expected
    assert num_held_pages(engine) == 0
    engine.scheduler.pool.check()
