"""Requests that arrive together compute their common prefix once, in the very same step."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from engines import (
    an_engine,
    first,
    greedily,
    last,
    logprobs,
    num_held_pages,
    random_prompts,
    stats,
    tokens_of,
)
from tiny import greedy_of, load_hf, save_tiny
from transformers import LlamaConfig

from jpaged import LLMEngine
from pallas_kernels import native

COUNT = 12
PAGES = 3  # of the common prefix
VOCAB = 256
CLOSE = 1e-4  # float32 sums in another order


class Setting(NamedTuple):
    page_size: int
    folder: Path

    @property
    def prefix(self) -> list[int]:
        length = PAGES * self.page_size
        return [token % VOCAB for token in random_prompts(400, 1, length, length)[0]]

    def build(self, **options: Any) -> LLMEngine:
        sizes = {"page_size": self.page_size, "max_num_seqs": 6, "max_num_batched_tokens": 512}
        sizes |= {"warmup": "none", "skip_tokenizer_init": True}  # only the steps that are needed
        return an_engine(self.folder, **{**sizes, **options})


@pytest.fixture(scope="module", params=["reference", "native"])
def setting(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Setting:
    """Pages of four tokens, and what the C++ kernels take: sixteen, and heads of sixteen."""
    is_native = request.param == "native"
    if is_native and not native.is_available():
        pytest.skip(f"no native kernels: {native.why_not()}")
    config = LlamaConfig(
        vocab_size=VOCAB,
        hidden_size=64 if is_native else 32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=128,
    )
    folder = save_tiny(tmp_path_factory.mktemp(request.param), config, seed=3)
    return Setting(16 if is_native else 4, folder)


@pytest.fixture(scope="module")
def sharing(setting) -> Iterator[LLMEngine]:
    engine = setting.build()
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def alone(setting) -> Iterator[LLMEngine]:
    engine = setting.build(enable_prefix_caching=False)
    yield engine
    engine.close()


@pytest.fixture
def engine(sharing) -> Iterator[LLMEngine]:
    """With nothing in its cache that these prompts could share."""
    forget(sharing)
    sharing.records.clear()
    yield sharing
    assert num_held_pages(sharing) == 0 and not sharing.has_unfinished_requests()
    sharing.scheduler.pool.check()


def forget(engine: LLMEngine) -> None:
    """Evicts every idle page, by asking for all pages there are."""
    pool = engine.scheduler.pool
    pool.release(pool.allocate(pool.num_free))
    assert pool.num_idle == 0


def suffixes(seed: int, *lengths: int) -> list[list[int]]:
    """No two begin alike."""
    drawn = (random_prompts(seed + i, 1, n, n)[0] for i, n in enumerate(lengths))
    return [[i, *(token % VOCAB for token in rest[1:])] for i, rest in enumerate(drawn, start=1)]


def add_all(engine: LLMEngine, prompts: list[list[int]], **params: Any) -> None:
    for number, prompt in enumerate(prompts):
        engine.add_request(str(number), prompt, greedily(COUNT, **params))


def told(engine: LLMEngine) -> list[list[int]]:
    outputs = last(engine)
    return tokens_of(outputs[name] for name in sorted(outputs, key=int))


def expected_of(alone: LLMEngine, prompts: list[list[int]]) -> list[list[int]]:
    add_all(alone, prompts)
    return told(alone)


def test_the_kernels_are_those_this_is_about(setting, engine):
    add_all(engine, [[5, 6, 7]])
    last(engine)
    compiled = [step.as_text() or "" for step in engine.executor.compiled.steps.values()]
    is_native = setting.page_size == 16
    assert all(("jpaged_paged_attention" in text) == is_native for text in compiled)
    assert len(compiled) >= 2


@pytest.mark.parametrize("lengths", [(1, 2, 3, 4, 2, 1), (1,) * 6, (9, 1, 30, 5, 17, 2)])
def test_the_first_step_computes_a_common_prefix_once(setting, engine, alone, lengths):
    prompts = [setting.prefix + suffix for suffix in suffixes(410, *lengths)]
    expected = expected_of(alone, prompts)
    add_all(engine, prompts)

    outputs = last(engine)

    record = engine.records[0]
    assert record.num_tokens == len(setting.prefix) + sum(lengths)
    assert record.num_sequences == 6
    own = sum(-(-length // setting.page_size) for length in lengths)
    assert record.pages_held == PAGES + own
    assert tokens_of(outputs[str(number)] for number in range(6)) == expected
    cached = [outputs[str(number)].num_cached_tokens for number in range(6)]
    assert cached == [0] + [len(setting.prefix)] * 5
    # all they computed: the prompts once, and every token but the last of each
    assert sum(each.num_tokens for each in engine.records) == record.num_tokens + 6 * (COUNT - 1)


def test_without_the_prefix_cache_every_prompt_is_computed(setting, alone):
    alone.records.clear()
    expected_of(alone, [setting.prefix + suffix for suffix in suffixes(410, *[2] * 6)])
    assert alone.records[0].num_tokens == 6 * (len(setting.prefix) + 2)


def test_tokens_are_those_of_transformers(setting, engine):
    prompts = [setting.prefix + suffix for suffix in suffixes(410, 3, 1, 7, 2, 5, 4)]
    oracle = load_hf(setting.folder)
    theirs, margins = zip(*(greedy_of(oracle, prompt, COUNT) for prompt in prompts), strict=True)
    assert min(margins) > 5 * CLOSE, "a near-tie proves nothing: choose another seed"
    add_all(engine, prompts)
    assert told(engine) == list(theirs)


def test_only_whole_pages_are_shared(setting, engine, alone):
    """Two tokens more in common, which lie in a page of each one's own."""
    rest = suffixes(420, 2, 3, 1, 2, 4, 1)
    prompts = [[*setting.prefix, 7, 8, *suffix] for suffix in rest]
    expected = expected_of(alone, prompts)
    add_all(engine, prompts)

    assert told(engine) == expected

    assert engine.records[0].num_tokens == len(setting.prefix) + sum(2 + len(s) for s in rest)


def test_samples_of_one_request_share_their_prompt(setting, engine, alone):
    """All of it: each computes the last token once more, whose logits give the next."""
    for each in (engine, alone):
        each.add_request("a", setting.prefix, greedily(COUNT, n=6))

    samples = last(engine)["a"].outputs

    assert [s.token_ids for s in samples] == [s.token_ids for s in last(alone)["a"].outputs]
    assert engine.records[0].num_tokens == len(setting.prefix) + 5
    assert engine.records[0].pages_held == PAGES


def test_prefixes_of_different_lengths_share_what_they_have_in_common(setting, engine, alone):
    size, prefix = setting.page_size, setting.prefix
    prompts = [
        prefix[: size * pages] + suffix
        for pages, suffix in zip((3, 1, 2, 3, 0, 2), suffixes(430, 2, 2, 2, 2, 2, 2), strict=True)
    ]
    expected = expected_of(alone, prompts)
    add_all(engine, prompts)

    assert told(engine) == expected

    assert engine.records[0].num_tokens == len(prefix) + 6 * 2


def test_a_prefix_longer_than_a_step_is_computed_once_too(setting, alone):
    budget = 2 * setting.page_size
    prompts = [setting.prefix + suffix for suffix in suffixes(440, 1, 2, 3, 1, 2, 3)]
    expected = expected_of(alone, prompts)
    engine = setting.build(max_num_batched_tokens=budget)
    add_all(engine, prompts)

    assert told(engine) == expected

    total = sum(record.num_tokens for record in engine.records)
    assert total == len(setting.prefix) + 12 + 6 * (COUNT - 1)
    assert max(record.num_tokens for record in engine.records) <= budget
    engine.close()


@pytest.mark.parametrize("num_steps", [0, 1, 2])
def test_the_others_go_on_when_the_one_who_wrote_the_prefix_is_aborted(
    setting, engine, alone, num_steps
):
    prompts = [setting.prefix + suffix for suffix in suffixes(450, 2, 3, 1, 2, 4, 1)]
    expected = expected_of(alone, prompts)
    add_all(engine, prompts)
    for _ in range(num_steps):
        engine.step()

    engine.abort_request("0")

    assert told(engine) == expected[1:]


def test_a_step_that_failed_leaves_no_page_that_others_could_take_for_written(
    setting, engine, alone, monkeypatch
):
    prompts = [setting.prefix + suffix for suffix in suffixes(460, 2, 3, 1, 2, 4, 1)]
    expected = expected_of(alone, prompts)
    submit = engine.executor.submit

    def broken(batch):
        monkeypatch.setattr(engine.executor, "submit", submit)
        raise RuntimeError("the device is gone")

    monkeypatch.setattr(engine.executor, "submit", broken)
    add_all(engine, prompts)
    with pytest.raises(RuntimeError, match="device is gone"):
        engine.step()
    assert num_held_pages(engine) == 0 and engine.scheduler.pool.num_idle == 0

    assert told(engine) == expected

    assert engine.records[0].num_tokens == len(setting.prefix) + sum((2, 3, 1, 2, 4, 1))


def test_logprobs_are_those_without_sharing(setting, engine, alone):
    prompts = [setting.prefix + suffix for suffix in suffixes(470, 2, 3, 1, 2, 4, 1)]
    found = []
    for each in (engine, alone):
        add_all(each, prompts, logprobs=3)
        outputs = last(each)
        found.append([logprobs(first(outputs[str(number)])) for number in range(6)])
    for mine, theirs in zip(*found, strict=True):
        for one, other in zip(mine, theirs, strict=True):
            assert {t: e.logprob for t, e in one.items()} == pytest.approx(
                {t: e.logprob for t, e in other.items()}, abs=CLOSE
            )


def test_whoever_wants_logprobs_of_the_prompt_computes_all_of_it(setting, engine):
    prompts = [setting.prefix + suffix for suffix in suffixes(480, 2, 3, 1)]
    engine.add_request("0", prompts[0], greedily(COUNT))
    engine.add_request("1", prompts[1], greedily(COUNT, prompt_logprobs=1))
    engine.add_request("2", prompts[2], greedily(COUNT))

    outputs = last(engine)

    assert engine.records[0].num_tokens == 2 * len(setting.prefix) + 2 + 3 + 1
    entries = outputs["1"].prompt_logprobs
    assert entries is not None and all(entry for entry in entries[1:])


def test_sharing_survives_a_pool_that_is_too_small(setting, alone):
    prompts = [setting.prefix + suffix for suffix in suffixes(490, 2, 3, 1, 2, 4, 1)]
    expected = expected_of(alone, prompts)
    tokens = PAGES * setting.page_size + 16
    pages = -(-tokens // setting.page_size) + 3
    engine = setting.build(num_pages=pages, max_model_len=tokens)
    add_all(engine, prompts)

    outputs = last(engine)

    assert tokens_of(outputs[str(number)] for number in range(6)) == expected
    if setting.page_size == 4:  # of sixteen, three pages more are enough for all
        assert sum(stats(output).num_preemptions for output in outputs.values()) > 0
    engine.close()
