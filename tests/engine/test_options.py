"""Engine options: what they mean, what is refused, and policies that misbehave."""

import pytest
from engines import SMALL, an_engine, greedily, last, num_held_pages, random_prompts, tokens_of
from tiny_llama import MAX_POSITIONS

import jpaged
from jpaged import ConfigError, LLMEngine, PolicyWarning
from jpaged.config import EngineConfig

PROMPTS = random_prompts(80, 6)

BAD_OPTIONS = [
    ({"page_sise": 4}, "no engine option 'page_sise'; did you mean 'page_size'"),
    ({"blok_size": 4}, "did you mean 'block_size'"),
    ({"gpu_memory_utilisation": 0.5}, "did you mean 'gpu_memory_utilization'"),
    ({"enforce_eager": True}, "enforce_eager is an option of vLLM's .* leave it out"),
    ({"xyzzy": 1}, "no engine option 'xyzzy'; there are .*page_size"),
    ({"page_size": 4, "block_size": 4}, "block_size and page_size are one option"),
    ({"block_size": 4, "page_size": 4}, "block_size and page_size are one option"),
    ({"policy": "fcfs", "scheduling_policy": "fcfs"}, "scheduling_policy and policy are one"),
    ({"dtype": "float8"}, "dtype must be one of auto, .*bfloat16.*, not 'float8'"),
    ({"jit_monitor": "loud"}, "jit_monitor must be one of warn, error, off, not 'loud'"),
    ({"page_size": 0}, "page_size must be .* at least 1, not 0"),
    ({"page_size": 1.5}, "page_size must be a whole number"),
    ({"max_num_seqs": None}, "max_num_seqs must be a whole number"),
    ({"max_num_batched_tokens": "many"}, "max_num_batched_tokens must be a whole number"),
    ({"max_num_seqs": 64, "max_num_batched_tokens": 32}, r"\(32\) must be at least .* \(64\)"),
    ({"max_model_len": 1}, "max_model_len=1 has no room"),
    ({"num_pages": 8, "kv_cache_memory_bytes": 10**6}, "give one of them"),
    ({"kv_cache_memory_bytes": 0}, "kv_cache_memory_bytes must be"),
    ({"gpu_memory_utilization": 1.5}, r"gpu_memory_utilization must be in \(0, 1\], not 1.5"),
    ({"gpu_memory_utilization": "half"}, "gpu_memory_utilization .* not 'half'"),
    ({"max_logprobs": -1}, "max_logprobs must be from 0 to 1000"),
    ({"max_logprobs": None}, "max_logprobs must be from 0 to 1000"),
    ({"tensor_parallel_size": 2}, "tensor_parallel_size=2"),
    ({"trust_remote_code": True}, "trust_remote_code"),
    ({"enable_prefix_caching": "no"}, "enable_prefix_caching must be True or False, not 'no'"),
    ({"async_scheduling": "x"}, "async_scheduling must be True or False"),
    ({"seed": "x"}, "seed must be a whole number, not 'x'"),
    ({"swap_space": True}, "swap_space must be GiB"),
]

BAD_SIZES = [
    ({"max_model_len": MAX_POSITIONS + 1}, "max_model_len=129 is beyond the model's 128"),
    ({"max_model_len": 100, "num_pages": 24}, "96 tokens is too small for one sequence of 100"),
    ({"num_pages": 1, "page_size": 1}, "cache of 1 tokens is too small"),
    ({"num_pages": None, "kv_cache_memory_bytes": 100}, "100 hold no page of 1024 bytes"),
    ({"enable_chunked_prefill": False}, r"\(32\) is less than max_model_len \(128\)"),
    ({"policy": "fifo"}, "no policy 'fifo'.*there are fcfs, priority"),
    ({"policy": object()}, "has no method propose and no victim"),
]


class Raises:
    """Fails after a while, when requests are in the middle of their output."""

    def __init__(self):
        self.num_calls = 0

    def propose(self, view):
        self.num_calls += 1
        if self.num_calls > 6:
            raise ZeroDivisionError("by my own fault")
        yield from ((sequence, 5) for sequence in (*view.running, *view.waiting))

    def victim(self, view):
        raise KeyError("nobody")


class TalksNonsense:
    def propose(self, view):
        yield from (None, 5, "a", (1, 2), (None, None), (view, 3))
        for sequence in (*view.waiting, *view.running, *view.waiting):
            yield from ((sequence, -1), (sequence, 10**9), (sequence, "all"), (sequence, 0))

    def victim(self, view):
        return "somebody"


class SaysNothing:
    def propose(self, view):
        return ()

    def victim(self, view):
        return None


@pytest.mark.parametrize(("options", "reason"), BAD_OPTIONS)
def test_a_bad_option_is_refused(options, reason):
    with pytest.raises(ConfigError, match=reason):
        EngineConfig.from_options("any", **options)


@pytest.mark.parametrize(("options", "reason"), BAD_SIZES)
def test_options_at_odds_with_the_model_or_the_memory_are_refused(tiny_llama, options, reason):
    with pytest.raises(ConfigError, match=reason):
        LLMEngine(str(tiny_llama), **{**SMALL, **options})


def test_a_misspelt_sampling_option_of_the_one_liner_finds_its_name():
    with pytest.raises(ConfigError, match="did you mean 'max_tokens'"):
        jpaged.generate("demo", "hi", max_token=5)


def test_a_policy_must_be_an_object_not_its_class():
    with pytest.raises(ConfigError, match="policy is the class Raises"):
        EngineConfig.from_options("any", policy=Raises)


def test_all_bad_options_are_named_at_once():
    with pytest.raises(ConfigError) as caught:
        EngineConfig.from_options("any", page_size=0, dtype="float8", max_num_seqs="two")
    assert all(name in str(caught.value) for name in ("page_size", "dtype", "max_num_seqs"))


def test_the_names_of_vllm_are_aliases():
    config = EngineConfig.from_options("any", block_size=8, scheduling_policy="priority")
    assert (config.page_size, config.policy) == (8, "priority")


def test_a_length_nobody_chose_gives_way_to_the_cache(tiny_llama):
    engine = an_engine(tiny_llama, num_pages=10, warmup="none")
    assert engine.sizes.max_model_len == 40
    engine.close()


def test_memory_in_bytes_becomes_pages(tiny_llama):
    engine = an_engine(tiny_llama, num_pages=None, kv_cache_memory_bytes=40_000, warmup="none")
    # 2 layers * (k, v) * 2 heads * 8 wide * 4 bytes * 4 tokens
    assert engine.sizes.num_pages == 40_000 // 1024
    engine.close()


@pytest.mark.parametrize(
    ("policy", "told"),
    [
        (Raises, "Raises raised ZeroDivisionError: by my own fault"),
        (TalksNonsense, "TalksNonsense proposed None, which is no wish"),
    ],
)
def test_a_bad_policy_changes_no_token(llm, tiny_llama, policy, told):
    expected = tokens_of(llm.generate(PROMPTS, greedily()))
    engine = an_engine(tiny_llama, policy=policy())
    for number, prompt in enumerate(PROMPTS):
        engine.add_request(str(number), prompt, greedily())
    with pytest.warns(PolicyWarning, match=told):
        finished = last(engine)
    assert tokens_of(finished[str(number)] for number in range(6)) == expected
    assert num_held_pages(engine) == 0
    engine.close()


def test_a_policy_that_proposes_nothing_starves_nobody(llm, tiny_llama):
    expected = tokens_of(llm.generate(PROMPTS, greedily(3)))
    engine = an_engine(tiny_llama, policy=SaysNothing())
    for number, prompt in enumerate(PROMPTS):
        engine.add_request(str(number), prompt, greedily(3))
    finished = last(engine)
    assert tokens_of(finished[str(number)] for number in range(6)) == expected
    engine.close()
