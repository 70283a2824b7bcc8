"""What an engine's stats say of time, of compiling and of the host; metrics are made of it."""

import pytest
from engines import an_engine, greedily, random_prompts

from jpaged import LLMEngine
from jpaged.engine.stats import EngineStats
from jpaged.scheduling.policy import Fcfs
from jpaged.scheduling.view import View

STEP = 0.02
SIZES = {"page_size": 4, "max_model_len": 64, "max_num_seqs": 4, "max_num_batched_tokens": 128}
TIGHT = {"num_pages": 26, "num_host_pages": 100}  # four sequences grow to 14 pages each


class Ponders(Fcfs):
    """Takes its time, on a stopwatch that only it moves."""

    now = 0.0

    def propose(self, view: View):
        type(self).now += 1.0
        return super().propose(view)


def pretending(**options) -> LLMEngine:
    options = {**SIZES, "use_tqdm_on_load": False, "pretend": f"constant:{STEP}", **options}
    return LLMEngine("demo", **options)


def history(engine: LLMEngine, num_tokens: int = 36) -> list[EngineStats]:
    """After each step of four requests."""
    for number, prompt in enumerate(random_prompts(60, 4, shortest=16, longest=20)):
        engine.add_request(str(number), prompt, greedily(num_tokens))
    found = [engine.stats()]
    while engine.has_unfinished_requests():
        engine.step()
        found.append(engine.stats())
    return found


def test_waiting_is_the_devices_time():
    with pretending(num_pages=100, async_scheduling=False) as engine:
        first, *_, last = history(engine, num_tokens=5)

    num_steps = last.counts.num_steps
    assert (first.seconds.waiting, first.seconds.deciding, num_steps) == (0.0, 0.0, 5)
    # but for what passed between sending and waiting
    assert 0.8 * num_steps * STEP < last.seconds.waiting < 3 * num_steps * STEP
    assert 0 < last.policy_seconds < last.seconds.deciding < last.seconds.waiting
    assert 0 < last.seconds.sending < last.seconds.waiting


def test_deciding_is_the_policys_time():
    with pretending(num_pages=100, policy=Ponders()) as engine:
        engine.loop.stopwatch = lambda: Ponders.now
        engine.scheduler.counsel.stopwatch = lambda: Ponders.now
        *_, last = history(engine, num_tokens=5)

    assert last.seconds.deciding == last.policy_seconds == Ponders.now >= 5
    assert last.seconds.sending == last.seconds.waiting == 0


def test_who_is_swapped_waits_with_its_pages_on_the_host():
    with pretending(**TIGHT) as engine:
        seen = history(engine)

    swapped = [each for each in seen if each.num_swapped]
    assert swapped and all(each.num_swapped <= each.num_waiting for each in swapped)
    assert all(0 < each.host_cache_usage < 1 for each in swapped)
    assert all(each.host_cache_usage == 0 for each in seen if not each.num_swapped)
    assert seen[-1].num_swapped == 0 < seen[-1].counts.num_swapped_out


def test_compilations_are_counted_where_nothing_was_compiled_before(tiny_llama):
    with an_engine(tiny_llama, warmup="none") as engine:
        before = engine.stats().num_compiled
        engine.add_request("a", [1, 2, 3], greedily(3))
        while engine.has_unfinished_requests():
            engine.step()
        buckets = {record.bucket for record in engine.records}
        stats = engine.stats()

    assert before == 0 and stats.num_compiled == len(buckets) == 2  # a prompt's, and a token's
    assert stats.num_compiled_late == 0, "without warm-up, none is late"


@pytest.mark.parametrize("num_host_pages", [None, 50])
def test_an_engine_that_does_nothing_uses_nothing(num_host_pages: int | None):
    with pretending(num_pages=100, num_host_pages=num_host_pages) as engine:
        stats = engine.stats()

    assert (stats.num_swapped, stats.host_cache_usage, stats.num_compiled_late) == (0, 0.0, 0)
