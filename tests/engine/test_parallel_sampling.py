"""n samples of one prompt: computed once, in one memory, independent of each other."""

import itertools
import math
from collections.abc import Iterable
from typing import Any

import pytest
from engines import (
    an_engine,
    first,
    last,
    logprobs,
    num_held_pages,
    prompt_logprobs,
    random_prompts,
)

from jpaged import LLMEngine, RequestOutput, RequestOutputKind, RequestRejected, SamplingParams

SIZE = 4  # tokens a page
MOST = 10
PROMPT = random_prompts(700, 1, shortest=42, longest=42)[0]  # ten pages and a half


def sampled(n: int, **params: Any) -> SamplingParams:
    return SamplingParams(**{"n": n, "seed": 3, "max_tokens": MOST, "ignore_eos": True, **params})


def generate(engine: LLMEngine, params: SamplingParams, prompt: Any = PROMPT) -> RequestOutput:
    engine.add_request("request", prompt, params)
    output = last(engine)["request"]
    assert num_held_pages(engine) == 0
    engine.scheduler.pool.check()
    return output


def said_by(output: RequestOutput) -> list[list[int]]:
    return [sample.token_ids for sample in output.outputs]


def num_computed(engine: LLMEngine) -> int:
    return sum(record.num_tokens for record in engine.records)


def test_eight_samples_hold_one_prompt_and_eight_tails(tiny_llama):
    engine = an_engine(tiny_llama, warmup="none", max_num_seqs=8)
    output = generate(engine, sampled(8))
    assert len({tuple(tokens) for tokens in said_by(output)}) == 8
    # the half page and all behind it are each sample's own: 2 + 10 tokens less the very last,
    # which is never computed
    tail = math.ceil((42 % SIZE + MOST - 1) / SIZE)
    records = [record for record in engine.records if record.num_sequences == 8]
    assert max(record.pages_held for record in records) == 42 // SIZE + 8 * tail
    assert max(record.pages_unshared for record in records) == 8 * (42 // SIZE + tail)
    # before anybody has written behind the prompt there is nothing but the prompt
    assert engine.records[0].pages_held <= math.ceil(42 / SIZE) + 7
    engine.close()


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"enable_prefix_caching": False},
        {"max_num_batched_tokens": 16},
        {"max_num_batched_tokens": 64},
        {"max_num_seqs": 3},
        {"max_num_seqs": 3, "enable_prefix_caching": False},
        {"async_scheduling": False, "max_num_batched_tokens": 16},
    ],
    ids=lambda options: " ".join(f"{k}={v}" for k, v in options.items()) or "plain",
)
def test_a_prompt_is_computed_once_whatever_n_is(tiny_llama, options):
    engine = an_engine(tiny_llama, **{"warmup": "none", "max_num_seqs": 8, **options})
    num_seats = engine.config.max_num_seqs
    for n, length in itertools.product((1, 5), (40, 41, 42, 43, 1)):
        engine.reset_prefix_cache()
        engine.records.clear()
        generate(engine, sampled(n), PROMPT[:length])
        # without a cache nobody remembers the prompt once those who had seats have all ended
        num_waves = 1 if engine.config.enable_prefix_caching else math.ceil(n / num_seats)
        # the first token follows from the prompt, the last is never computed; the other samples
        # read the prompt's last token again, for its logits
        assert num_computed(engine) <= num_waves * length + n * (MOST - 1) + (n - num_waves)
    engine.close()


def test_prompt_logprobs_cost_no_second_prompt(tiny_llama):
    engine = an_engine(tiny_llama, warmup="none", max_num_seqs=8, max_num_batched_tokens=16)
    alone = generate(engine, sampled(1, prompt_logprobs=2))
    engine.records.clear()
    output = generate(engine, sampled(5, prompt_logprobs=2))
    assert num_computed(engine) <= 42 + 5 * (MOST - 1) + 4
    for mine, theirs in zip(prompt_logprobs(output), prompt_logprobs(alone), strict=True):
        assert list(mine) == list(theirs)
        assert all(mine[t].logprob == pytest.approx(theirs[t].logprob, abs=1e-5) for t in mine)
    engine.close()


def test_samples_depend_on_their_seed_and_on_nothing_else(tiny_llama):
    engine = an_engine(tiny_llama, warmup="none", max_num_seqs=8)
    expected = said_by(generate(engine, sampled(5)))
    assert said_by(generate(engine, sampled(5))) == expected
    # how many they are
    assert said_by(generate(engine, sampled(2))) == expected[:2]
    # whoever runs beside them
    for number, prompt in enumerate(random_prompts(701, 4)):
        engine.add_request(f"other {number}", prompt, sampled(2, seed=number))
    assert said_by(generate(engine, sampled(5))) == expected
    # another seed
    others = said_by(generate(engine, sampled(5, seed=4)))
    assert not {*map(tuple, others)} & {*map(tuple, expected)}
    engine.close()


def test_samples_are_drawn_independently(tiny_llama):
    """Which tokens two samples begin with is as if each had drawn alone."""
    engine = an_engine(tiny_llama, warmup="none", max_num_seqs=16)
    bias = {5: 100.0, 6: 100.0}  # two tokens, about as likely as their logits say
    pairs = {(a, b): 0 for a in (5, 6) for b in (5, 6)}
    runs = [generate(engine, sampled(16, seed=s, max_tokens=1, logit_bias=bias)) for s in range(25)]
    firsts = [[tokens[0] for tokens in said_by(run)] for run in runs]
    for drawn in firsts:
        for pair in zip(drawn[::2], drawn[1::2], strict=True):
            pairs[pair] += 1
    share = sum(drawn.count(5) for drawn in firsts) / (25 * 16)
    assert 0.1 < share < 0.9, "one of the two is too likely for the test to prove anything"
    for (a, b), count in pairs.items():
        expected = 200 * math.prod(share if token == 5 else 1 - share for token in (a, b))
        # three standard deviations
        assert abs(count - expected) < 3 * math.sqrt(expected * (1 - expected / 200))
    engine.close()


# best_of


def means(output: RequestOutput) -> list[float]:
    """The mean log-probability of each sample's tokens, from each token's entry."""
    return [
        math.fsum(p[t].logprob for p, t in zip(logprobs(s), s.token_ids, strict=True))
        / len(s.token_ids)
        for s in output.outputs
    ]


@pytest.mark.parametrize("wanted", [0, None])
def test_best_of_returns_those_of_highest_mean_logprob(tiny_llama, wanted):
    engine = an_engine(tiny_llama, warmup="none", max_num_seqs=8)
    stops = list(range(4, 384, 12))  # lengths differ, so a mean is not a sum
    everyone = generate(engine, sampled(7, logprobs=0, stop_token_ids=stops))
    order = sorted(range(7), key=lambda i: -means(everyone)[i])
    assert len(set(map(len, said_by(everyone)))) > 2

    params = sampled(3, best_of=7, logprobs=wanted, stop_token_ids=stops)
    best = generate(engine, params)

    assert said_by(best) == [said_by(everyone)[i] for i in order[:3]]
    assert [sample.index for sample in best.outputs] == [0, 1, 2]
    for sample, i in zip(best.outputs, order, strict=False):
        assert sample.cumulative_logprob == pytest.approx(
            everyone.outputs[i].cumulative_logprob, abs=1e-5
        )
        assert (sample.logprobs is None) == (wanted is None)
    engine.close()


def test_best_of_n_is_n_and_knows_no_logprobs_unasked(tiny_llama):
    engine = an_engine(tiny_llama, warmup="none")
    plain = generate(engine, sampled(3))
    assert said_by(generate(engine, sampled(3, best_of=3))) == said_by(plain)
    assert all(sample.cumulative_logprob is None for sample in plain.outputs)
    engine.close()


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"best_of": 2}, "best_of must be at least 3, not 2"),
        ({"best_of": 257}, "best_of must be at most 256, not 257"),
        ({"best_of": 5, "output_kind": RequestOutputKind.DELTA}, "cannot come in deltas"),
    ],
)
def test_what_best_of_cannot_do_is_refused(params, message):
    with pytest.raises(RequestRejected, match=message):
        sampled(3, **params)


# More than fits at once


def assert_all_said(engine: LLMEngine, n: int, expected: Iterable[list[int]]) -> None:
    assert said_by(generate(engine, sampled(n))) == list(expected)


@pytest.mark.parametrize("is_cached", [True, False])
@pytest.mark.parametrize(("num_pages", "max_num_seqs"), [(13, 8), (17, 8), (24, 32), (128, 2)])
def test_more_samples_than_fit_take_turns(tiny_llama, num_pages, max_num_seqs, is_cached):
    roomy = an_engine(tiny_llama, warmup="none", max_num_seqs=8)
    expected = said_by(generate(roomy, sampled(24)))
    roomy.close()
    engine = an_engine(
        tiny_llama,
        warmup="none",
        num_pages=num_pages,
        max_num_seqs=max_num_seqs,
        max_model_len=52,
        enable_prefix_caching=is_cached,
    )
    assert_all_said(engine, 24, expected)
    assert max(record.num_waiting for record in engine.records) > 0
    engine.close()


def test_what_can_never_fit_is_refused_with_numbers(tiny_llama):
    engine = an_engine(tiny_llama, warmup="none", num_pages=12)  # 48 tokens
    engine.add_request("other", [5, 6, 7], sampled(2))
    engine.step()
    for n in (1, 256):
        with pytest.raises(RequestRejected, match="the prompt has 60 tokens, .* holds 48 with"):
            engine.add_request("bad", [5] * 60, sampled(n))
    with pytest.raises(RequestRejected, match="n must be at most 256, not 257"):
        engine.add_request("bad", PROMPT, sampled(257))
    assert [len(tokens) for tokens in said_by(last(engine)["other"])] == [MOST, MOST]
    # the output is cut to what there is room for
    assert len(first(generate(engine, sampled(2))).token_ids) == 6
    engine.close()
