"""Looking one step ahead changes when things happen, and nothing of what is said."""

import dataclasses
import gc
import random
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import pytest
from engines import (
    an_engine,
    first,
    greedily,
    last,
    logprobs,
    num_held_pages,
    prompt_logprobs,
    random_prompts,
    run,
    stats,
)
from tiny_llama import END_OF_TEXT

from jpaged import CompletionOutput, LLMEngine, RequestOutput, RequestOutputKind, SamplingParams
from jpaged.config import EngineConfig

TIGHT = {"num_pages": 36}  # 144 tokens for four sequences of up to 128: they will be preempted
MOST = 24
CLOSE = 1e-4  # the same sums in batches of other shapes
PROMPTS = random_prompts(200, 9)
DELTA = RequestOutputKind.DELTA


def seeded(number: int, **params: Any) -> SamplingParams:
    """Random tokens, the same ones in any engine."""
    return SamplingParams(**{"seed": number, "max_tokens": MOST, "ignore_eos": True, **params})


# Parameters of request number i, none of which needs to know which tokens were said …
AHEAD: dict[str, Callable[[int], SamplingParams]] = {
    "greedy": lambda i: greedily(MOST),
    "seeded": seeded,
    "filters": lambda i: seeded(i, top_k=7 * i, top_p=0.9, min_p=0.01 * i),
    "greedy and seeded": lambda i: seeded(i) if i % 2 else greedily(MOST),
    "three samples": lambda i: seeded(i, n=3, max_tokens=9 + i),
    "stop tokens": lambda i: seeded(i, stop_token_ids=[*range(4, 384, 9)]),
    "stop strings": lambda i: seeded(i, stop=["e", "th", "a"], include_stop_str_in_output=i % 2),
    "end of sequence": lambda i: seeded(i, ignore_eos=False, logit_bias={END_OF_TEXT: 5}),
    "min tokens": lambda i: seeded(
        i, ignore_eos=False, min_tokens=i, logit_bias={END_OF_TEXT: 7}, stop_token_ids=[9, 10, 11]
    ),
    "min tokens and stop strings": lambda i: seeded(i, min_tokens=2 * i, stop=["e", "a", "o"]),
    "allowed tokens": lambda i: seeded(i, allowed_token_ids=[*range(i, 390, 11)], min_tokens=3),
    "logprobs": lambda i: seeded(i, logprobs=i % 4),
    "logprobs of the prompt": lambda i: greedily(MOST, prompt_logprobs=i % 3, logprobs=1),
    "logprobs of samples": lambda i: seeded(i, n=2, prompt_logprobs=1, logprobs=2),
    "one token": lambda i: seeded(i, max_tokens=1, logprobs=1),
    "one or two tokens": lambda i: seeded(i, max_tokens=1 + i % 2),
    "without text": lambda i: seeded(i, detokenize=False, stop_token_ids=[*range(4, 384, 9)]),
}
# … and some that do
KNOWN: dict[str, Callable[[int], SamplingParams]] = {
    "presence": lambda i: greedily(MOST, presence_penalty=1.5),
    "frequency": lambda i: seeded(i, frequency_penalty=-0.5),
    "repetition": lambda i: greedily(MOST, repetition_penalty=1.5, logprobs=1),
    "bad words": lambda i: seeded(i, bad_words=["e", "ab", "fox", "th", "the"]),
    "penalties and an end": lambda i: seeded(
        i, n=2, presence_penalty=0.5, ignore_eos=False, logit_bias={END_OF_TEXT: 5}
    ),
}
ANY = [*AHEAD.values(), *KNOWN.values()]
MIXED: dict[str, Callable[[int], SamplingParams]] = {
    "some need known tokens": lambda i: (AHEAD["seeded"], KNOWN["presence"])[i % 4 == 3](i),
    "anything": lambda i: ANY[5 * i % len(ANY)](i),
}


@pytest.fixture(scope="module")
def engines(tiny_llama) -> Iterator[dict[str, LLMEngine]]:
    both = {
        "ahead": an_engine(tiny_llama, **TIGHT),
        "in step": an_engine(tiny_llama, async_scheduling=False, **TIGHT),
    }
    yield both
    for engine in both.values():
        assert engine.num_late_compilations == 0
        engine.close()


@pytest.fixture
def ahead(engines) -> Iterator[LLMEngine]:
    yield from left_clean(engines["ahead"])


@pytest.fixture
def in_step(engines) -> Iterator[LLMEngine]:
    yield from left_clean(engines["in step"])


def left_clean(engine: LLMEngine) -> Iterator[LLMEngine]:
    yield engine
    assert engine.get_num_unfinished_requests() == 0
    assert num_held_pages(engine) == 0
    engine.scheduler.pool.check()
    assert not engine.scheduler.has_unfinished


class Watch:
    """How many steps were under way at once, at most."""

    def __init__(self, engine: LLMEngine, monkeypatch: pytest.MonkeyPatch):
        self.submit, self.collect = engine.executor.submit, engine.executor.collect
        self.most = self.now = self.num_submitted = 0
        monkeypatch.setattr(engine.executor, "submit", self.on_submit)
        monkeypatch.setattr(engine.executor, "collect", self.on_collect)

    def on_submit(self, batch):
        self.now += 1
        self.num_submitted += 1
        self.most = max(self.most, self.now)
        return self.submit(batch)

    def on_collect(self, handle):
        self.now -= 1
        return self.collect(handle)


def add_all(engine: LLMEngine, params: Callable[[int], SamplingParams], **changes: Any) -> None:
    for number, prompt in enumerate(PROMPTS):
        engine.add_request(str(number), prompt, dataclasses.replace(params(number), **changes))


def story(output: RequestOutput) -> list[tuple]:
    """All that is exact about an output."""
    return [(s.index, s.token_ids, s.text, s.finish_reason, s.stop_reason) for s in output.outputs]


def assert_same(one: RequestOutput, other: RequestOutput) -> None:
    assert story(one) == story(other)
    pairs = [*zip(one.outputs, other.outputs, strict=True)]
    for mine, theirs in pairs:
        assert (mine.logprobs is None) == (theirs.logprobs is None)
        if mine.logprobs is not None:
            assert_close(logprobs(mine), logprobs(theirs))
            assert len(logprobs(mine)) == len(mine.token_ids)
            assert mine.cumulative_logprob == pytest.approx(theirs.cumulative_logprob, abs=1e-3)
    assert (one.prompt_logprobs is None) == (other.prompt_logprobs is None)
    if one.prompt_logprobs is not None:
        assert all(prompt_logprobs(one)[1:]), "a place was never scored"
        assert_close(prompt_logprobs(one), prompt_logprobs(other))


def assert_close(one: list, other: list) -> None:
    numbers = [
        [{t: e.logprob for t, e in place.items()} for place in each] for each in (one, other)
    ]
    for mine, theirs in zip(*numbers, strict=True):
        assert mine == pytest.approx(theirs, abs=CLOSE)


def assert_ends_where_it_should(sample: CompletionOutput, params: SamplingParams) -> None:
    tokens = sample.token_ids
    assert params.max_tokens is not None and 1 <= len(tokens) <= params.max_tokens
    stops = {*(params.stop_token_ids or ()), *([] if params.ignore_eos else [END_OF_TEXT])}
    ends = [i for i, t in enumerate(tokens, start=1) if t in stops and i >= params.min_tokens]
    assert ends in ([], [len(tokens)]), "tokens after the end"
    if not ends and sample.finish_reason != "stop":
        assert (sample.finish_reason, len(tokens)) == ("length", params.max_tokens)
    if len(tokens) < params.max_tokens:
        assert sample.finish_reason == "stop"


def test_looking_ahead_is_the_default():
    assert EngineConfig("any").async_scheduling


@pytest.mark.parametrize("name", [*AHEAD, *KNOWN, *MIXED])
def test_the_same_is_said(ahead, in_step, monkeypatch, name):
    params = {**AHEAD, **KNOWN, **MIXED}[name]
    watches = [Watch(engine, monkeypatch) for engine in (ahead, in_step)]
    for engine in (ahead, in_step):
        add_all(engine, params)

    outputs, expected = last(ahead), last(in_step)

    assert len(outputs) == len(PROMPTS) == len(expected)
    for key, output in outputs.items():
        assert_same(output, expected[key])
        for sample in output.outputs:
            assert_ends_where_it_should(sample, params(int(key)))
    # all who need known tokens are waited for; one-token requests queue, and new ones go ahead
    assert [watch.most for watch in watches] == [1 if name in KNOWN else 2, 1]


@pytest.mark.parametrize("name", ["stop tokens", "stop strings", "end of sequence", "min tokens"])
def test_many_of_them_end_in_the_middle(ahead, name):
    """Or the comparison above would prove little."""
    add_all(ahead, AHEAD[name])
    reasons = [first(output).finish_reason for output in last(ahead).values()]
    assert reasons.count("stop") >= 5


@pytest.mark.parametrize("name", ["greedy", "seeded", "three samples", "logprobs of the prompt"])
def test_preemption_happens_and_changes_nothing(ahead, in_step, name):
    for engine in (ahead, in_step):
        add_all(engine, AHEAD[name], max_tokens=50)

    outputs, expected = last(ahead), last(in_step)

    assert sum(stats(output).num_preemptions for output in outputs.values()) > 0
    for key, output in outputs.items():
        assert_same(output, expected[key])


@pytest.mark.parametrize(
    "name", ["stop tokens", "stop strings", "end of sequence", "three samples"]
)
def test_no_delta_has_a_token_after_the_end(ahead, in_step, name):
    add_all(in_step, AHEAD[name])
    expected = last(in_step)
    add_all(ahead, AHEAD[name], output_kind=DELTA)

    for key, outputs in run(ahead).items():
        for wanted in expected[key].outputs:
            deltas = [s for output in outputs for s in output.outputs if s.index == wanted.index]
            assert [t for delta in deltas for t in delta.token_ids] == wanted.token_ids
            assert "".join(delta.text for delta in deltas) == wanted.text
            assert all(len(delta.token_ids) == 1 for delta in deltas)
            ends = [delta.finish_reason for delta in deltas]
            assert ends == [None] * (len(deltas) - 1) + [wanted.finish_reason]
        assert [output.finished for output in outputs] == [False] * (len(outputs) - 1) + [True]


def test_outputs_so_far_grow_by_one_token_a_step_and_never_shrink(ahead):
    add_all(ahead, AHEAD["end of sequence"])
    for outputs in run(ahead).values():
        tokens = [first(output).token_ids for output in outputs]
        assert [len(each) for each in tokens] == [*range(1, len(tokens) + 1)]
        assert all(tokens[-1][: len(each)] == each for each in tokens)


@pytest.mark.parametrize("seed", range(8))
def test_aborts_and_late_comers_disturb_nobody(ahead, in_step, seed):
    params = MIXED["anything"]
    add_all(in_step, params)
    expected, rng = last(in_step), random.Random(seed)
    to_come = [*enumerate(PROMPTS)] * 2
    rng.shuffle(to_come)
    running: dict[str, int] = {}
    finished: dict[str, RequestOutput] = {}
    while to_come or running:
        if to_come and rng.random() < 0.4:
            number, prompt = to_come.pop()
            name = f"{number}.{len(to_come)}"
            ahead.add_request(name, prompt, params(number))
            running[name] = number
        if running and rng.random() < 0.05:
            name = rng.choice([*running])
            ahead.abort_request(name)
            del running[name]
        for output in ahead.step():
            assert output.request_id in running, "an aborted or finished request goes on"
            if output.finished:
                finished[output.request_id] = output
                del running[output.request_id]

    assert 4 < len(finished) < 18
    for name, output in finished.items():
        assert_same(output, expected[name.split(".")[0]])


@pytest.mark.parametrize("num_steps", [0, 1, 2, 5])
def test_a_name_that_was_aborted_serves_another_request_at_once(ahead, in_step, num_steps):
    old = greedily(MOST, n=2, prompt_logprobs=1, logprobs=1)
    new = greedily(MOST, prompt_logprobs=2, logprobs=1)
    in_step.add_request("a", PROMPTS[1], new)
    expected = last(in_step)["a"]
    ahead.add_request("a", PROMPTS[0] * 3, old)  # a prompt of several steps
    for _ in range(num_steps):
        ahead.step()

    ahead.abort_request("a")
    ahead.add_request("a", PROMPTS[1], new)

    assert_same(last(ahead)["a"], expected)


def test_everybody_may_be_aborted_while_a_step_is_under_way(ahead, in_step, monkeypatch):
    watch = Watch(ahead, monkeypatch)
    add_all(ahead, AHEAD["seeded"])
    ahead.step()
    assert watch.now == 1

    ahead.abort_request([str(number) for number in range(len(PROMPTS))])

    assert num_held_pages(ahead) == 0
    assert ahead.step() == []
    assert watch.num_submitted == 2
    for engine in (ahead, in_step):
        engine.add_request("b", PROMPTS[2], seeded(2))
    assert_same(last(ahead)["b"], last(in_step)["b"])


ODD = {
    "one seat and one token a step": {"max_num_seqs": 1, "max_num_batched_tokens": 1},
    "whole prompts": {"enable_chunked_prefill": False, "max_num_batched_tokens": 128},
}


@pytest.mark.parametrize("setting", ODD)
def test_odd_engines_say_the_same_ahead(tiny_llama, in_step, setting):
    add_all(in_step, MIXED["anything"])
    expected = last(in_step)
    engine = an_engine(tiny_llama, **{**TIGHT, "warmup": "none", **ODD[setting]})
    add_all(engine, MIXED["anything"])

    for key, output in last(engine).items():
        assert_same(output, expected[key])
    assert num_held_pages(engine) == 0
    engine.close()


# Idle


def compilers() -> list[threading.Thread]:
    """Background threads of this engine or another."""
    return [thread for thread in threading.enumerate() if thread.name == "jpaged-compiler"]


def seconds_of_cpu(seconds: float) -> float:
    """What this process, with all of its threads, works while nobody asks for anything."""
    before = time.process_time()
    time.sleep(seconds)
    return time.process_time() - before


@pytest.mark.parametrize("num_steps", [0, 3, None], ids=["aborted", "paused", "finished"])
def test_an_idle_engine_uses_no_cpu(ahead, num_steps):
    for thread in compilers():
        thread.join()
    num_threads = threading.active_count()
    add_all(ahead, AHEAD["seeded"])
    if num_steps is None:
        last(ahead)
    for _ in range(num_steps or 0):
        ahead.step()
    if num_steps == 0:
        ahead.step()
        ahead.abort_request([str(number) for number in range(len(PROMPTS))])
    time.sleep(0.05)  # for a step under way to end

    used = seconds_of_cpu(0.3)

    ahead.abort_request([str(number) for number in range(len(PROMPTS))])
    assert used < 0.03
    assert threading.active_count() == num_threads


@pytest.mark.parametrize("ending", ["stop string", "abort", "length"])
def test_no_record_spans_the_time_in_which_nobody_asked_for_anything(ahead, ending):
    """Who ends by a stop string or an abort leaves a step under way that nobody waits for."""
    stop = {"stop string": ["e", "a", "o", "t"]}.get(ending)
    ahead.records.clear()
    ahead.add_request("a", PROMPTS[0], seeded(0, stop=stop))
    if ending == "abort":
        ahead.step()
        ahead.abort_request("a")
    else:
        assert first(last(ahead)["a"]).finish_reason == ("stop" if stop else "length")

    time.sleep(0.02)
    idle = time.monotonic()
    time.sleep(0.02)
    ahead.add_request("b", PROMPTS[1], seeded(1))
    last(ahead)

    assert [each for each in ahead.records if each.start < idle < each.end] == []
    assert sum(each.num_finished for each in ahead.records) == 2 - (ending != "length")


def test_an_idle_engine_answers_at_once_and_runs_nothing(ahead, monkeypatch):
    add_all(ahead, AHEAD["end of sequence"])
    last(ahead)
    watch, num_records = Watch(ahead, monkeypatch), len(ahead.records)

    before = time.process_time()
    answers = [ahead.step() for _ in range(1000)]
    used = time.process_time() - before

    assert answers == [[]] * 1000
    assert (watch.num_submitted, len(ahead.records)) == (0, num_records)
    assert used < 0.1, "a tenth of a millisecond each"


# Closing


def num_live_bytes() -> int:
    gc.collect()
    return sum(array.nbytes for array in jax.live_arrays())


@pytest.mark.parametrize("is_ahead", [True, False])
def test_closing_in_the_middle_frees_every_array(tiny_llama, is_ahead):
    before = num_live_bytes()
    engine = an_engine(tiny_llama, async_scheduling=is_ahead, warmup="none", **TIGHT)
    for number, prompt in enumerate(PROMPTS[:3]):
        engine.add_request(str(number), prompt, greedily(MOST, logprobs=1))
    for _ in range(3):
        engine.step()

    engine.close()

    assert num_live_bytes() == before
