"""The engine step by step: streams, aborts, samples, times."""

import pytest
from engines import (
    first,
    greedily,
    last,
    logprobs,
    num_held_pages,
    random_prompts,
    run,
    stats,
    tokens_of,
)

from jpaged import RequestOutputKind, RequestRejected, SamplingParams

DELTA, CUMULATIVE, FINAL_ONLY = (
    RequestOutputKind.DELTA,
    RequestOutputKind.CUMULATIVE,
    RequestOutputKind.FINAL_ONLY,
)


def add_all(engine, prompts, params) -> None:
    for number, prompt in enumerate(prompts):
        engine.add_request(str(number), prompt, params)


def test_every_step_moves_every_running_request_on(engine):
    add_all(engine, random_prompts(0, 3, longest=8), greedily(4))  # all prompts fit in one step
    for num_tokens in range(1, 5):
        outputs = engine.step()
        assert [len(first(output).token_ids) for output in outputs] == [num_tokens] * 3
        assert all(output.finished == (num_tokens == 4) for output in outputs)
    assert not engine.has_unfinished_requests()
    assert engine.step() == []


def test_a_request_may_join_while_others_run(engine, llm):
    early, late = random_prompts(1, 2)
    engine.add_request("early", early, greedily(10))
    for _ in range(4):
        engine.step()
    engine.add_request("late", late, greedily(10))
    finished = last(engine)
    expected = tokens_of(llm.generate([early, late], greedily(10)))
    assert tokens_of([finished["early"], finished["late"]]) == expected


def test_the_three_kinds_of_output_tell_the_same_story(engine):
    prompt = random_prompts(2, 1)[0]
    for kind in RequestOutputKind:
        engine.add_request(kind.name, prompt, greedily(20, output_kind=kind, logprobs=1))
    outputs = run(engine)
    final = first(outputs["FINAL_ONLY"][-1])
    assert len(outputs["FINAL_ONLY"]) == 1
    assert len(outputs["DELTA"]) == len(outputs["CUMULATIVE"]) == 20
    deltas = [first(output) for output in outputs["DELTA"]]
    assert "".join(delta.text for delta in deltas) == final.text
    assert [token for delta in deltas for token in delta.token_ids] == final.token_ids
    assert [entry for delta in deltas for entry in logprobs(delta)] == final.logprobs
    assert first(outputs["CUMULATIVE"][-1]) == final


def test_text_only_ever_grows_by_whole_characters(engine):
    tokenizer = engine.get_tokenizer()
    for number, prompt in enumerate(random_prompts(3, 8)):
        engine.add_request(str(number), prompt, SamplingParams(max_tokens=30, seed=number))
    for outputs in run(engine).values():
        texts = [first(output).text for output in outputs]
        assert all(
            later.startswith(earlier) for earlier, later in zip(texts, texts[1:], strict=False)
        )
        tokens = first(outputs[-1]).token_ids
        assert texts[-1] == tokenizer.decode(tokens, skip_special_tokens=True)


def test_an_aborted_request_is_gone_and_the_others_do_not_notice(engine, llm):
    prompts = random_prompts(4, 3)
    expected = tokens_of(llm.generate(prompts, greedily(8)))
    add_all(engine, prompts, greedily(8))
    engine.step()
    engine.abort_request("1")
    engine.abort_request(["unknown", "1"])
    finished = last(engine)
    assert set(finished) == {"0", "2"}
    assert tokens_of(finished[key] for key in "02") == [expected[0], expected[2]]


@pytest.mark.parametrize("num_steps", [0, 1, 2, 5])
def test_aborting_at_any_moment_returns_all_pages(engine, num_steps):
    add_all(engine, random_prompts(5, 6), greedily(8, n=2))
    for _ in range(num_steps):
        engine.step()
    engine.abort_request([str(number) for number in range(6)])
    assert num_held_pages(engine) == 0
    assert engine.get_num_unfinished_requests() == 0 and engine.step() == []


def test_an_id_in_flight_cannot_be_used_again_until_it_has_finished(engine):
    engine.add_request("a", [5, 6], greedily(2))
    with pytest.raises(RequestRejected, match="'a' is in flight"):
        engine.add_request("a", [7, 8], greedily(2))
    assert list(last(engine)) == ["a"]
    engine.add_request("a", [7, 8], greedily(2))
    assert last(engine)["a"].prompt_token_ids == [7, 8]


def test_times_are_in_order(engine):
    add_all(engine, random_prompts(6, 6), greedily(5))  # two wait for a seat
    for output in last(engine).values():
        times = stats(output)
        moments = (times.queued_ts, times.scheduled_ts, times.first_token_ts, times.last_token_ts)
        seconds = [moment for moment in moments if moment is not None]
        assert len(seconds) == 4 and seconds == sorted(seconds)
        assert times.first_token_latency == seconds[2] - seconds[0]
        assert times.num_generation_tokens == 5


def test_a_given_arrival_time_is_kept(engine):
    engine.add_request("a", [5, 6], greedily(1), arrival_time=12.5)
    assert stats(last(engine)["a"]).queued_ts == 12.5


def test_samples_of_one_request_differ_when_drawn_and_agree_when_greedy(engine):
    engine.add_request("drawn", [5, 6, 7], SamplingParams(n=3, seed=1, max_tokens=10))
    engine.add_request("greedy", [5, 6, 7], greedily(10, n=3))
    finished = last(engine)
    drawn, greedy = (
        [sample.token_ids for sample in finished[name].outputs] for name in ("drawn", "greedy")
    )
    assert len({tuple(tokens) for tokens in drawn}) == 3
    assert greedy == [greedy[0]] * 3
    assert [sample.index for sample in finished["drawn"].outputs] == [0, 1, 2]


def test_deltas_of_several_samples_never_repeat_a_finished_one(engine):
    params = SamplingParams(
        n=3, seed=3, max_tokens=20, output_kind=DELTA, stop_token_ids=list(range(0, 384, 8))
    )
    engine.add_request("a", [5, 6, 7], params)
    endings = [
        (sample.index, sample.finish_reason)
        for output in run(engine)["a"]
        for sample in output.outputs
        if sample.finished()
    ]
    assert sorted(index for index, _ in endings) == [0, 1, 2]


def test_the_prefix_cache_reports_what_it_saved(llm):
    prompt = random_prompts(7, 1, shortest=21, longest=21)[0]
    before, after = (llm.generate(prompt, greedily())[0] for _ in range(2))
    assert before.num_cached_tokens == 0
    # five full pages of four; the last token is computed for its logits
    assert after.num_cached_tokens == 20
    assert tokens_of([before]) == tokens_of([after])


def test_records_tell_what_each_step_did(engine):
    engine.records.clear()
    engine.reset_prefix_cache()
    add_all(engine, [[5] * 40, [6] * 3], greedily(3))
    last(engine)
    records = list(engine.records)
    assert sum(record.num_tokens for record in records) == 40 + 3 + 2 * 2
    assert sum(record.num_finished for record in records) == 2
    assert all(record.start <= record.end for record in records)
    assert all(0 <= record.waste < 1 for record in records)
