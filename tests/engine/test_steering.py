"""A user's own search: live requests that fork, extend and drop between two steps."""

from collections.abc import Iterator
from typing import Any

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
    tokens_of,
)
from tiny_llama import END_OF_TEXT

from jpaged import (
    BeamSearchParams,
    CompletionOutput,
    LLMEngine,
    RequestOutputKind,
    RequestRejected,
    SamplingParams,
)
from jpaged.errors import SnapshotMismatch

CLOSE = 1e-5  # the same sums in batches of other shapes
MOST = 14
PROMPT = random_prompts(600, 1, shortest=22, longest=22)[0]  # five pages of four and a half


def seeded(seed: int = 1, **params: Any) -> SamplingParams:
    return SamplingParams(**{"seed": seed, "max_tokens": MOST, "ignore_eos": True, **params})


def steerable(num_candidates: int = 5, **params: Any) -> SamplingParams:
    return greedily(**{"max_tokens": MOST, "logprobs": num_candidates, **params})


@pytest.fixture(scope="module")
def engines(tiny_llama) -> Iterator[dict[bool, LLMEngine]]:
    both = {
        is_async: an_engine(tiny_llama, async_scheduling=is_async, warmup="none", max_num_seqs=5)
        for is_async in (True, False)
    }
    yield both
    for engine in both.values():
        engine.close()


@pytest.fixture(params=[True, False], ids=["ahead", "in step"])
def engine(engines, request) -> Iterator[LLMEngine]:
    """Whatever a test did with it, nothing may be left over."""
    engine = engines[request.param]
    engine.reset_prefix_cache()
    engine.records.clear()
    yield engine
    left = engine.get_num_unfinished_requests()
    engine.live.abort_all()  # or one failure would be everybody's
    assert left == 0 and engine.step() == []
    assert num_held_pages(engine) == 0
    engine.scheduler.pool.check()


def answer(engine: LLMEngine, *names: str) -> dict[str, CompletionOutput]:
    """Steps until each of these has said something, and returns it."""
    said: dict[str, CompletionOutput] = {}
    while set(names) - set(said):
        assert engine.has_unfinished_requests()
        said |= {output.request_id: first(output) for output in engine.step()}
    return said


def alone(engine: LLMEngine, prompt: Any, params: SamplingParams) -> CompletionOutput:
    engine.add_request("alone", prompt, params)
    return first(last(engine)["alone"])


def candidates_of(sample: CompletionOutput) -> list[int]:
    assert sample.candidates is not None
    return list(sample.candidates)


def cumulative(sample: CompletionOutput) -> float:
    assert sample.cumulative_logprob is not None
    return sample.cumulative_logprob


def assert_same(found: CompletionOutput, expected: CompletionOutput) -> None:
    """The same tokens, text and log-probabilities."""
    assert found.token_ids == expected.token_ids
    assert found.text == expected.text
    assert cumulative(found) == pytest.approx(cumulative(expected), abs=CLOSE)
    for mine, theirs in zip(logprobs(found), logprobs(expected), strict=True):
        assert list(mine) == list(theirs)
        gaps = [abs(mine[token].logprob - theirs[token].logprob) for token in mine]
        assert max(gaps) < CLOSE


# Forks of requests that choose their own tokens


@pytest.mark.parametrize("num_steps", [0, 1, 2, 3, 6])
def test_a_greedy_fork_says_what_its_parent_says(engine, num_steps):
    params = greedily(MOST, logprobs=2)
    expected = alone(engine, PROMPT, params)
    engine.add_request("parent", PROMPT, params)
    for _ in range(num_steps):
        engine.step()
    assert engine.fork("parent", "child") == "child"
    finished = last(engine)
    assert_same(first(finished["parent"]), expected)
    assert_same(first(finished["child"]), expected)


def test_the_seed_decides_what_a_fork_says(engine):
    params = seeded(max_tokens=30, logprobs=0)
    expected = alone(engine, PROMPT, params)
    engine.add_request("parent", PROMPT, params)
    for _ in range(6):
        said = answer(engine, "parent")["parent"].token_ids
    for name, seed in (("same", 1), ("another", 2), ("again", 2), ("any", None)):
        engine.fork("parent", name, seed=seed)
    finished = {name: first(output) for name, output in last(engine).items()}
    assert_same(finished["parent"], expected)
    assert_same(finished["same"], expected)
    assert_same(finished["another"], finished["again"])
    said_after = {tuple(finished[name].token_ids) for name in ("parent", "another", "any")}
    assert len(said_after) == 3
    assert all(list(tokens[: len(said)]) == said for tokens in said_after)


def test_a_fork_carries_on_text_and_logprobs_in_the_middle_of_a_character(engine):
    tokens = engine.get_tokenizer().encode("日本語 🦊", add_special_tokens=False)
    params = steerable(390 // 20, max_tokens=len(tokens) + 4)
    engine.add_request("parent", "Say: ", params, steered=True)
    for place, token in enumerate(tokens):  # at every token, so also within characters
        engine.fork("parent", f"child {place}")
        engine.extend("parent", token)
    for place in range(len(tokens)):  # the eldest last: the others must not have touched it
        name = f"child {len(tokens) - 1 - place}"
        engine.extend(name, tokens[len(tokens) - 1 - place :])
        assert first(engine.drop(name)).text == "日本語 🦊"
    assert first(engine.drop("parent")).text == "日本語 🦊"


@pytest.mark.parametrize("index", [0, 1, 2])
def test_any_sample_can_be_forked(engine, index):
    params = seeded(n=3, logprobs=1)
    engine.add_request("parent", PROMPT, params)
    for _ in range(4):
        [output] = engine.step()
    said = output.outputs[index].token_ids
    engine.fork("parent", "child", index=index, seed=9)
    engine.fork("parent", "greedy parent's", index=index)
    finished = last(engine)
    child, parents = first(finished["child"]), finished["parent"].outputs
    assert len(finished["child"].outputs) == 1 and child.index == 0
    assert child.token_ids[: len(said)] == said == parents[index].token_ids[: len(said)]
    assert child.token_ids not in [parent.token_ids for parent in parents]
    assert logprobs(child)[: len(said)] == logprobs(parents[index])[: len(said)]


def test_a_sample_is_counted_as_it_is_reported(engine):
    engine.add_request("parent", PROMPT, seeded(n=2, best_of=4, logprobs=0))
    for _ in range(4):
        [output] = engine.step()
    engine.fork("parent", "child", index=1)
    assert first(engine.drop("child")).token_ids == output.outputs[1].token_ids
    with pytest.raises(RequestRejected, match="sample 2 of request 'parent' is not one of its 2"):
        engine.fork("parent", index=2)
    engine.drop("parent")


def test_deltas_of_a_fork_begin_where_it_parted(engine):
    delta = RequestOutputKind.DELTA
    engine.add_request("parent", PROMPT, greedily(MOST, output_kind=delta))
    said: dict[str, list[int]] = {"parent": [], "child": []}
    for number in range(99):
        if number == 4:
            engine.fork("parent", "child")
        for output in engine.step():
            said[output.request_id] += first(output).token_ids
    assert len(said["parent"]) == MOST
    assert said["child"] == said["parent"][-len(said["child"]) :]
    assert len(said["child"]) == MOST - 4


def test_forks_survive_preemption(tiny_llama, engine):
    expected = {seed: alone(engine, PROMPT, seeded(seed, logprobs=1)) for seed in (1, 2, 3)}
    # 36 tokens each, 48 slots for all
    with_few = an_engine(tiny_llama, warmup="none", num_pages=12, max_model_len=48)
    with_few.add_request("1", PROMPT, seeded(1, logprobs=1))
    with_few.fork("1", "2", seed=2)  # before anything was said
    for _ in range(3):
        with_few.step()
    with_few.fork("1", "late", seed=3)
    finished = last(with_few)
    assert_same(first(finished["1"]), expected[1])
    # sample 0 of a request with this seed, wherever it comes from
    assert_same(first(finished["2"]), expected[2])
    assert len(first(finished["late"]).token_ids) == MOST
    assert sum(record.num_preempted for record in with_few.records) > 0
    assert num_held_pages(with_few) == 0
    with_few.close()


def test_a_fork_within_a_prompt_waits_for_it_and_has_its_logprobs(engine):
    prompt = random_prompts(601, 1, shortest=80, longest=80)[0]  # three steps of 32
    params = greedily(4, prompt_logprobs=1)
    engine.add_request("parent", prompt, params)
    engine.step()
    engine.fork("parent", "child")
    finished = last(engine)
    assert [len(entry) for entry in prompt_logprobs(finished["child"])][1:] == [
        len(entry) for entry in prompt_logprobs(finished["parent"])
    ][1:]
    assert all(prompt_logprobs(finished["child"])[1:])
    assert first(finished["child"]).token_ids == first(finished["parent"]).token_ids
    assert sum(record.num_tokens for record in engine.records) <= 80 + 1 + 2 * 4  # one reread


def test_a_fork_shares_its_parents_pages(engine):
    engine.add_request("parent", PROMPT, greedily(MOST))
    answer(engine, "parent")
    for _ in range(4):
        engine.fork("parent", seed=5)
    assert num_held_pages(engine) <= 7  # not one page more
    assert len(last(engine)) == 5
    # five whole pages of the prompt once, five tails of four pages at most
    assert max(record.pages_held for record in engine.records) <= 5 + 5 * 4
    assert max(record.pages_unshared for record in engine.records) >= 5 * 8
    assert sum(record.num_tokens for record in engine.records) < 22 + 5 * MOST + 5


# Requests that are steered


@pytest.mark.parametrize("at_once", [1, 2, 5])
def test_an_extended_request_is_one_whose_prompt_is_longer(engine, at_once):
    tokens = random_prompts(602, 1, shortest=10, longest=10)[0]
    engine.add_request("steered", PROMPT, steerable(7), steered=True)
    answer(engine, "steered")
    for place in range(0, len(tokens), at_once):
        engine.extend("steered", tokens[place : place + at_once])
        said = answer(engine, "steered")["steered"]
        prompt = PROMPT + tokens[: place + at_once]
        expected = logprobs(alone(engine, prompt, greedily(1, logprobs=7)))[0]
        assert candidates_of(said) == list(expected)
        for token, entry in (said.candidates or {}).items():
            assert entry.logprob == pytest.approx(expected[token].logprob, abs=CLOSE)
            assert entry.rank == expected[token].rank
            assert entry.decoded_token == expected[token].decoded_token
    dropped = first(engine.drop("steered"))
    assert dropped.token_ids == tokens
    assert dropped.text == engine.get_tokenizer().decode(tokens, skip_special_tokens=True)


def test_who_always_takes_the_likeliest_is_greedy(engine):
    expected = alone(engine, PROMPT, steerable(3))
    engine.add_request("steered", PROMPT, steerable(3), steered=True)
    said = answer(engine, "steered")["steered"]
    while not said.finished():
        engine.extend("steered", candidates_of(said)[0])
        said = answer(engine, "steered")["steered"]
    assert_same(said, expected)
    assert said.finish_reason == "length" and said.candidates is None


def test_a_tree_of_forks_knows_each_of_its_leaves(engine):
    """Fifteen leaves, more than there are seats: they take turns, and each is as if alone."""
    engine.add_request("root", PROMPT, steerable(3), steered=True)
    leaves = {"root": answer(engine, "root")["root"]}
    for _ in range(2):
        grown = []
        for name, leaf in leaves.items():
            names = [name, engine.fork(name), engine.fork(name)]
            for child, token in zip(names, candidates_of(leaf), strict=True):
                engine.extend(child, token)
            grown += names
        leaves = answer(engine, *grown)
    assert len(leaves) == 9 and len({tuple(leaf.token_ids) for leaf in leaves.values()}) == 9
    for name, leaf in leaves.items():
        expected = logprobs(alone(engine, PROMPT + leaf.token_ids, greedily(1, logprobs=3)))
        assert candidates_of(leaf) == list(expected[0])
        scored = zip(leaf.token_ids, logprobs(leaf), strict=True)
        assert cumulative(leaf) == pytest.approx(sum(p[token].logprob for token, p in scored))
        engine.drop(name)


def test_a_forked_leaf_can_be_extended_at_once_or_asked_again(engine):
    engine.add_request("parent", PROMPT, steerable(), steered=True)
    said = answer(engine, "parent")["parent"]
    asked, extended = engine.fork("parent"), engine.fork("parent")
    token = candidates_of(said)[1]
    engine.extend(extended, token)
    both = answer(engine, asked, extended)
    assert candidates_of(both[asked]) == candidates_of(said)
    assert both[extended].token_ids == [token]
    assert cumulative(both[extended]) == (said.candidates or {})[token].logprob
    assert both[extended].candidates != both[asked].candidates
    for name in ("parent", asked, extended):
        engine.drop(name)


def test_nothing_is_said_of_a_token_that_was_not_offered(engine):
    engine.add_request("forced", PROMPT, steerable(2), steered=True)
    offered = candidates_of(answer(engine, "forced")["forced"])
    stranger = next(token for token in range(4, 384) if token not in offered)
    engine.fork("forced", "scored")
    engine.extend("forced", stranger)
    engine.extend("scored", offered[1])
    both = answer(engine, "forced", "scored")
    assert both["forced"].cumulative_logprob is None
    assert list(logprobs(both["forced"])[0]) == offered
    assert list(logprobs(both["scored"])[0]) == offered[::-1]  # the chosen one first
    # once unknown, always unknown; also for those who go on from there
    engine.extend("forced", candidates_of(both["forced"])[0])
    child = engine.fork("forced")
    assert first(engine.drop(child)).cumulative_logprob is None
    # of several tokens only the first was offered
    engine.extend("scored", candidates_of(both["scored"])[:2])
    scored = first(engine.drop("scored"))
    assert scored.cumulative_logprob is None and logprobs(scored)[2] == {}
    engine.drop("forced")


@pytest.mark.parametrize(
    ("params", "tokens", "reason", "stop_reason", "num_said"),
    [
        ({"ignore_eos": False}, [5, 6, END_OF_TEXT, 7], "stop", None, 3),
        ({"stop_token_ids": [7]}, [5, 7], "stop", 7, 2),
        ({"max_tokens": 3}, [5, 6, 7], "length", None, 3),
        ({"stop": ["fox"]}, "a fox is here", "stop", "fox", None),
        ({"ignore_eos": False, "min_tokens": 3}, [5, END_OF_TEXT, 6, END_OF_TEXT], "stop", None, 4),
    ],
    ids=["end of sequence", "stop token", "max_tokens", "stop string", "min_tokens"],
)
def test_a_steered_request_ends_as_any_other(engine, params, tokens, reason, stop_reason, num_said):
    if isinstance(tokens, str):
        tokens = engine.get_tokenizer().encode(tokens, add_special_tokens=False)
    engine.add_request("steered", PROMPT, steerable(**params), steered=True)
    answer(engine, "steered")
    engine.extend("steered", tokens)
    assert engine.get_num_unfinished_requests() == 0 and engine.has_unfinished_requests()
    with pytest.raises(RequestRejected, match="'steered' is unknown, or has ended"):
        engine.extend("steered", 5)
    [output] = engine.step()
    said = first(output)
    assert output.finished and output.request_id == "steered"
    assert (said.finish_reason, said.stop_reason) == (reason, stop_reason)
    assert said.token_ids == tokens[: len(said.token_ids)]
    assert len(said.token_ids) == num_said or said.text == "a "


def test_steered_and_ordinary_requests_share_steps(engine):
    prompts = random_prompts(603, 3)
    expected = [alone(engine, prompt, greedily(9)) for prompt in prompts]
    for number, prompt in enumerate(prompts):
        engine.add_request(f"other {number}", prompt, greedily(9))
    engine.add_request("steered", PROMPT, steerable(), steered=True)
    finished: dict[str, Any] = {}
    while len(finished) < 3:
        for output in engine.step():
            if output.finished:
                finished[output.request_id] = output
            elif output.request_id == "steered":
                engine.extend("steered", candidates_of(first(output))[0])
    assert tokens_of(finished[f"other {i}"] for i in range(3)) == [
        sample.token_ids for sample in expected
    ]
    # one step ahead it comes every other time: the next step is made before it is extended
    assert len(first(engine.drop("steered")).token_ids) >= 4


def test_an_engine_where_all_pause_has_nothing_to_do(engine):
    engine.add_request("steered", PROMPT, steerable(), steered=True)
    while engine.has_unfinished_requests():  # ends
        engine.step()
    assert engine.step() == [] and engine.get_num_unfinished_requests() == 1
    engine.extend("steered", 5)
    assert engine.has_unfinished_requests()
    assert answer(engine, "steered")["steered"].token_ids == [5]
    engine.drop("steered")


def test_a_tree_that_pauses_is_in_a_snapshot(engine):
    engine.add_request("root", PROMPT, steerable(), steered=True)
    said = answer(engine, "root")["root"]
    engine.fork("root", "leaf")
    engine.extend("leaf", candidates_of(said)[1])
    with engine.branch() as twin:
        theirs = answer(twin, "leaf")["leaf"]
        twin.extend("root", candidates_of(said)[1])
        assert candidates_of(answer(twin, "root")["root"]) == candidates_of(theirs)
    mine = answer(engine, "leaf")["leaf"]
    assert candidates_of(mine) == candidates_of(theirs) and mine.token_ids == theirs.token_ids
    snapshot = engine.snapshot()
    assert not engine.has_unfinished_requests()
    with pytest.raises(SnapshotMismatch, match="2 requests are in flight here"):
        engine.restore(snapshot)  # they pause, and are not to be lost
    engine.drop("root")
    engine.drop("leaf")


# Dropping


@pytest.mark.parametrize("num_steps", [0, 1, 2, 5])
def test_a_dropped_request_returns_what_it_said_and_frees_its_pages(engine, num_steps):
    expected = alone(engine, PROMPT, greedily(MOST))
    engine.add_request("dropped", PROMPT, greedily(MOST))
    engine.fork("dropped", "stays")
    for _ in range(num_steps):
        engine.step()
    before = num_held_pages(engine)
    output = engine.drop("dropped")
    assert not first(output).finished() or first(output).finish_reason == "abort"
    assert output.finished
    assert first(output).token_ids == expected.token_ids[:num_steps]
    assert expected.text.startswith(first(output).text)
    assert num_held_pages(engine) <= before
    assert list(finished := last(engine)) == ["stays"]
    assert first(finished["stays"]).token_ids == expected.token_ids


# What is refused

REFUSED = [
    (lambda e: e.fork("nobody", "new"), "request 'nobody' is unknown, or has ended"),
    (lambda e: e.fork("ended", "new"), "request 'ended' is unknown, or has ended"),
    (lambda e: e.fork(7, "new"), "request 7 is unknown"),
    (lambda e: e.fork([], "new"), r"request \[\] is unknown"),
    (lambda e: e.fork("beams", "new"), "'beams' is a beam search, .*; abort_request ends it"),
    (lambda e: e.fork("flying", "steered"), "request id 'steered' is in flight; choose another"),
    (lambda e: e.fork("flying", "flying"), "request id 'flying' is in flight"),
    (lambda e: e.fork("flying", 7), "the request id must be a string, not 7"),
    (
        lambda e: e.fork("flying", "new", index=2),
        "sample 2 of request 'flying' is not one of its 2",
    ),
    (lambda e: e.fork("flying", "new", index=-1), "sample -1 of request 'flying' is not one"),
    (lambda e: e.fork("flying", "new", index="0"), "sample '0' of request 'flying' is not one"),
    (lambda e: e.fork("flying", "new", index=1), "sample 1 of request 'flying' has ended"),
    (lambda e: e.fork("flying", "new", seed=1.5), "seed must be a whole number, not 1.5"),
    (lambda e: e.extend("nobody", 5), "'nobody' is unknown, or has ended"),
    (lambda e: e.extend("beams", 5), "'beams' is a beam search"),
    (
        lambda e: e.extend("flying", 5),
        "'flying' cannot go on: it chooses its tokens itself; .*True",
    ),
    (lambda e: e.extend("steered", 390), "'steered' .*the extension has 390, .* from 0 to 389"),
    (lambda e: e.extend("steered", True), "the extension has True"),
    (lambda e: e.extend("steered", 5.0), "the extension has 5.0"),
    (lambda e: e.extend("steered", "ab"), r"the extension has 'a', .* \(2 such\)"),
    (lambda e: e.extend("steered", None), "the extension has None"),
    (lambda e: e.extend("steered", []), r"0 tokens were given, and from 1 to 6 fit \(max_tokens\)"),
    (lambda e: e.extend("steered", [5] * 7), "7 tokens were given, and from 1 to 6 fit"),
    (lambda e: e.drop("nobody"), "'nobody' is unknown, or has ended"),
    (lambda e: e.drop("beams"), "'beams' is a beam search"),
    (
        lambda e: e.add_request("new", PROMPT, greedily(), steered=True),
        "a steered request offers candidates: logprobs, .*, must be from 1 to 20, not None",
    ),
    (
        lambda e: e.add_request("new", PROMPT, greedily(logprobs=0, n=2), steered=True),
        "not 0; n must be 1, not 2; fork it instead",
    ),
    (
        lambda e: e.add_request("new", PROMPT, steerable(21), steered=True),
        "logprobs=21 is over the limit of 20",
    ),
    (
        lambda e: e.add_request(
            "new", PROMPT, steerable(output_kind=RequestOutputKind.FINAL_ONLY), steered=True
        ),
        "output_kind must be CUMULATIVE, not FINAL_ONLY",
    ),
]


@pytest.mark.parametrize(("act", "message"), REFUSED)
def test_what_cannot_be_done_is_refused_and_harms_nobody(engine, act, message):
    # sample 1 stops at its second token, sample 0 goes on
    params = seeded(n=2, max_tokens=9)
    engine.add_request("flying", PROMPT, params)
    expected = [sample.token_ids for sample in last(engine)["flying"].outputs]
    assert expected[1][1] not in expected[0]
    engine.add_request("ended", PROMPT, greedily(1))
    last(engine)
    engine.add_request("flying", PROMPT, seeded(n=2, max_tokens=9, stop_token_ids=[expected[1][1]]))
    engine.add_request("steered", PROMPT, steerable(max_tokens=6), steered=True)
    engine.add_beam_search("beams", PROMPT, BeamSearchParams(2, 5, ignore_eos=True))
    for _ in range(3):
        engine.step()
    pages = num_held_pages(engine)

    with pytest.raises(RequestRejected, match=message):
        act(engine)

    assert num_held_pages(engine) == pages and engine.get_num_unfinished_requests() == 3
    engine.extend("steered", [5] * 6)
    finished = last(engine)
    assert [sample.token_ids for sample in finished["flying"].outputs] == [
        expected[0],
        expected[1][:2],
    ]
    assert first(finished["steered"]).token_ids == [5] * 6
    assert len(finished["beams"].outputs) == 2


def test_a_prompt_of_two_steps_pauses_behind_the_second(engine):
    prompt = random_prompts(604, 1, shortest=40, longest=40)[0]  # two steps of 32
    engine.add_request("steered", prompt, steerable(), steered=True)
    assert engine.step() == []
    answer(engine, "steered")
    engine.extend("steered", 5)
    assert answer(engine, "steered")["steered"].token_ids == [5]
    engine.drop("steered")


def test_a_fork_without_a_name_gets_one_that_is_free(engine):
    engine.add_request("parent", PROMPT, greedily(4))
    names = [engine.fork("parent") for _ in range(3)]
    engine.add_request(f"fork-{int(names[-1].split('-')[1]) + 2}", PROMPT, greedily(4))
    names += [engine.fork("parent") for _ in range(2)]
    assert len(set(names)) == 5
    assert set(last(engine)) >= {"parent", *names}


def test_an_aborted_fork_and_a_closed_engine_leave_nothing(tiny_llama):
    engine = an_engine(tiny_llama, warmup="none")
    engine.add_request("parent", PROMPT, steerable(), steered=True)
    answer(engine, "parent")
    engine.fork("parent", "child")
    engine.abort_request("parent")
    assert candidates_of(answer(engine, "child")["child"])
    engine.close()
    with pytest.raises(RequestRejected, match="'child' is unknown, or has ended"):
        engine.fork("child")
    assert not engine.has_unfinished_requests()
