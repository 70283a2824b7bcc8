"""Ctrl-C loses nothing: not the engine, not its pages, not Python's own handler."""

import os
import signal
import threading

import pytest
from engines import first, greedily, last, num_held_pages, random_prompts, tokens_of

from jpaged.engine.interrupts import deferred_interrupts

PROMPTS = random_prompts(110, 6)


def press_ctrl_c() -> None:
    os.kill(os.getpid(), signal.SIGINT)


@pytest.fixture
def ctrl_c_in_step(engine, monkeypatch):
    """Ctrl-C at the worst moment: the device has taken the cache and not yet given it back."""
    compiled_steps = engine.executor.compiled
    compiled_steps.wait()
    presses = []

    def interrupted(compiled):
        def call(*args):
            result = compiled(*args)
            if len(presses) < 1:
                presses.append(press_ctrl_c())
            return result

        return call

    broken = {bucket: interrupted(compiled) for bucket, compiled in compiled_steps.steps.items()}
    monkeypatch.setattr(compiled_steps, "steps", broken)
    return presses


@pytest.fixture(autouse=True)
def default_handler_stays():
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    yield
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_ctrl_c_while_generating_leaves_the_engine_usable(llm, engine):
    expected = tokens_of(llm.generate(PROMPTS, greedily()))
    timer = threading.Timer(0.15, press_ctrl_c)
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        for _ in range(100):  # far longer than the timer waits
            llm.generate(PROMPTS, greedily(100))
    timer.join()
    assert not engine.has_unfinished_requests() and num_held_pages(engine) == 0
    assert tokens_of(llm.generate(PROMPTS, greedily())) == expected


def test_ctrl_c_during_a_step_of_generate_keeps_the_cache(llm, ctrl_c_in_step):
    with pytest.raises(KeyboardInterrupt):
        llm.generate(PROMPTS, greedily())
    assert len(ctrl_c_in_step) == 1
    assert len(first(llm.generate(PROMPTS[0], greedily())[0]).token_ids) == 8


def test_ctrl_c_during_a_single_step_loses_no_request(llm, engine, ctrl_c_in_step):
    for number, prompt in enumerate(PROMPTS):
        engine.add_request(str(number), prompt, greedily())
    with pytest.raises(KeyboardInterrupt):
        engine.step()
    finished = last(engine)  # the step is simply run again
    expected = tokens_of(llm.generate(PROMPTS, greedily()))
    assert tokens_of(finished[str(number)] for number in range(6)) == expected


def test_ctrl_c_while_requests_are_queued_leaves_none_behind(llm, engine, monkeypatch):
    enqueue, queued = engine.enqueue, []

    def interrupted(request, text):
        if len(queued) == 3:
            raise KeyboardInterrupt
        queued.append(request)
        enqueue(request, text)

    monkeypatch.setattr(engine, "enqueue", interrupted)
    with pytest.raises(KeyboardInterrupt):
        llm.generate(PROMPTS, greedily())
    assert len(queued) == 3
    assert not engine.has_unfinished_requests()


def test_an_error_while_generating_leaves_the_engine_usable(llm, engine, monkeypatch):
    collect = engine.executor.collect

    def broken(handle):
        raise RuntimeError("the device is gone")

    monkeypatch.setattr(engine.executor, "collect", broken)
    with pytest.raises(RuntimeError, match="device is gone"):
        llm.generate(PROMPTS, greedily())
    monkeypatch.setattr(engine.executor, "collect", collect)
    assert num_held_pages(engine) == 0
    assert len(llm.generate(PROMPTS, greedily())) == 6


def test_the_second_ctrl_c_goes_through_at_once():
    with pytest.raises(KeyboardInterrupt), deferred_interrupts() as check:
        press_ctrl_c()
        reached = True
        press_ctrl_c()
        reached = False
        check()
    assert reached


def test_a_handler_of_the_users_is_left_alone(llm):
    pressed = []
    signal.signal(signal.SIGINT, lambda *_: pressed.append(1))
    try:
        timer = threading.Timer(0.02, press_ctrl_c)
        timer.start()
        outputs = llm.generate(PROMPTS, greedily(60))
        timer.join()
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    assert pressed == [1]
    assert len(outputs) == 6


def test_it_works_off_the_main_thread(llm):
    outputs = []
    thread = threading.Thread(target=lambda: outputs.extend(llm.generate(PROMPTS, greedily())))
    thread.start()
    thread.join()
    assert tokens_of(outputs) == tokens_of(llm.generate(PROMPTS, greedily()))
