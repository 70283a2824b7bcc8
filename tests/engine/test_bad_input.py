"""What cannot be served is refused at the door, with the numbers and the way out, and requests
already in flight do not notice."""

import numpy as np
import pytest
from engines import a_llm, an_engine, first, greedily, last, random_prompts, tokens_of
from tiny_llama import MAX_POSITIONS, VOCAB

from jpaged import RequestRejected, SamplingParams

PROMPTS = random_prompts(70, 3)

BAD_PROMPTS = [
    ([], "empty"),
    ("", "empty"),
    ([5] * MAX_POSITIONS, r"128 tokens.* holds 128 .*\(max_model_len\); shorten it or raise"),
    ([5] * 1000, "1000 tokens"),
    ([5, VOCAB], r"390, .* from 0 to 389"),
    ([5, -1, -2], r"-1, .*\(2 such\)"),
    ([5, 1.5], "1.5, .* ints"),
    ([5, True], "True, .* ints"),
    ([5, "a"], "'a', .* ints"),
    ([5, None], "None, .* ints"),
    (None, "not NoneType"),
    (5, "not int"),
    (5.0, "not float"),
    (b"bytes", "not bytes"),
    (np.array([5.5, 6.0]), "ids are ints"),
    ({}, "not dict"),
    ({"prompt": 5}, "not dict"),
    ({"prompt_token_ids": 5}, "not dict"),
    ({"prompt_token_ids": None}, "not dict"),
    ({"prompt": "Hi", "multi_modal_data": {}}, "no field 'multi_modal_data'"),
]

BAD_PARAMS = [
    ({"max_tokens": 0}, "max_tokens must be at least 1, not 0"),
    ({"max_tokens": -3}, "max_tokens"),
    ({"max_tokens": 1.5}, "max_tokens must be a whole number, not 1.5"),
    ({"temperature": float("nan")}, "temperature .* not nan"),
    ({"temperature": -0.1}, "temperature .* not -0.1"),
    ({"temperature": float("inf")}, "temperature .* not inf"),
    ({"temperature": "hot"}, "temperature .* not 'hot'"),
    ({"top_p": 0.0}, "top_p must be above 0 and at most 1, not 0.0"),
    ({"top_p": 1.01}, "top_p .* not 1.01"),
    ({"top_p": float("nan")}, "top_p .* not nan"),
    ({"top_k": -2}, "top_k must be at least -1, not -2"),
    ({"min_p": 1.5}, "min_p .* from 0 to 1, not 1.5"),
    ({"repetition_penalty": 0}, "repetition_penalty must be above 0"),
    ({"presence_penalty": 2.5}, "presence_penalty .* from -2 to 2, not 2.5"),
    ({"frequency_penalty": float("nan")}, "frequency_penalty"),
    ({"n": 0}, "n must be at least 1, not 0"),
    ({"n": 10**9}, "n must be at most 256, not 1000000000"),
    ({"n": True}, "n must be a whole number, not True"),
    ({"seed": 1.5}, "seed must be a whole number"),
    ({"min_tokens": 20, "max_tokens": 10}, "min_tokens must be at most 10, not 20"),
    ({"stop": ""}, "stop holds an empty string"),
    ({"stop": ["a", ""]}, "stop holds an empty string"),
    ({"stop": [None]}, "stop must hold strings, not None"),
    ({"stop": 5}, "stop must hold strings, not 5"),
    ({"stop": "a", "detokenize": False}, "detokenize=True"),
    ({"bad_words": [""]}, "bad_words holds an empty string"),
    ({"bad_words": [5]}, "bad_words must hold strings, not 5"),
    ({"logprobs": -1}, "logprobs must be at least 0, not -1"),
    ({"logprobs": 21}, r"logprobs=21 is over the limit of 20; raise the engine's max_logprobs"),
    ({"prompt_logprobs": 21}, "prompt_logprobs=21 is over the limit"),
    ({"logit_bias": {VOCAB: 1.0}}, "logit_bias has 390, .* from 0 to 389"),
    ({"logit_bias": {"x": 1.0}}, "logit_bias must map token ids to numbers, not 'x'"),
    ({"logit_bias": {5: "much"}}, "logit_bias must map token ids .* 5 to 'much'"),
    ({"logit_bias": {5: float("nan")}}, "logit_bias .* 5 to nan"),
    ({"logit_bias": [5]}, "logit_bias must map"),
    ({"logit_bias": dict.fromkeys(range(301), 1.0)}, "301 entries, at most 300"),
    ({"allowed_token_ids": []}, "allowed_token_ids is empty"),
    ({"allowed_token_ids": [-1]}, "allowed_token_ids has -1"),
    ({"stop_token_ids": [VOCAB]}, "stop_token_ids has 390"),
    ({"stop_token_ids": ["a"]}, "stop_token_ids has 'a'"),
    ({"output_kind": "delta"}, "output_kind must be a RequestOutputKind"),
]


@pytest.fixture(scope="module")
def undisturbed(shared_llm) -> list[list[int]]:
    return tokens_of(shared_llm.generate(PROMPTS, greedily(10)))


@pytest.fixture
def in_flight(engine, undisturbed):
    """Three requests under way; in the end their tokens must be what they are without trouble."""
    for number, prompt in enumerate(PROMPTS):
        engine.add_request(f"flying {number}", prompt, greedily(10))
    for _ in range(4):
        engine.step()
    yield engine
    finished = last(engine)
    assert tokens_of(finished[f"flying {number}"] for number in range(3)) == undisturbed


@pytest.mark.parametrize(("prompt", "reason"), BAD_PROMPTS)
def test_a_bad_prompt_is_refused(in_flight, llm, prompt, reason):
    with pytest.raises(RequestRejected, match=reason):
        in_flight.add_request("bad", prompt, greedily())
    with pytest.raises(RequestRejected):
        llm.generate(["good", prompt], greedily())
    assert in_flight.get_num_unfinished_requests() == 3


@pytest.mark.parametrize(("params", "reason"), BAD_PARAMS)
def test_bad_parameters_are_refused(in_flight, params, reason):
    with pytest.raises(RequestRejected, match=reason):
        in_flight.add_request("bad", "Hello", SamplingParams(**params))
    assert in_flight.get_num_unfinished_requests() == 3


def test_all_bad_parameters_are_named_at_once():
    with pytest.raises(RequestRejected) as caught:
        SamplingParams(temperature=-1, n=0, stop="", top_p=2)
    assert all(name in str(caught.value) for name in ("temperature", "n must", "stop", "top_p"))


@pytest.mark.parametrize(
    ("label", "reason"),
    [
        ({"priority": "high"}, "priority must be a whole number .* not 'high'"),
        ({"priority": float("nan")}, "priority .* not nan"),
        ({"arrival_time": float("inf")}, "arrival_time .* not inf"),
        ({"request_id": 7}, "request id must be a string, not 7"),
        ({"params": {"temperature": 0}}, "sampling_params must be SamplingParams, not dict"),
    ],
)
def test_bad_labels_are_refused_before_a_policy_compares_them(in_flight, label, reason):
    with pytest.raises(RequestRejected, match=reason):
        in_flight.add_request(**{"request_id": "bad", "prompt": "Hello", **label})


@pytest.mark.parametrize("params", [{"temperature": 0}, "greedy", 5])
def test_params_of_another_type_are_refused_by_generate(in_flight, llm, params):
    with pytest.raises(RequestRejected, match="sampling_params"):
        llm.generate("Hello", params)


@pytest.mark.parametrize("prompts", [None, 5, b"bytes"])
def test_generate_refuses_what_is_no_prompt_at_all(in_flight, llm, prompts):
    with pytest.raises(RequestRejected, match="a prompt is a string"):
        llm.generate(prompts)


def test_an_engine_without_a_tokenizer_takes_token_ids_only(tiny_llama, undisturbed):
    with a_llm(tiny_llama, skip_tokenizer_init=True) as llm:
        outputs = llm.generate(PROMPTS, greedily(10, logprobs=1))
        with pytest.raises(RequestRejected, match="pass prompt_token_ids"):
            llm.generate("Hello")
        with pytest.raises(RequestRejected, match="stop and bad_words need a tokenizer"):
            llm.generate([5], greedily(stop="a"))
        with pytest.raises(RequestRejected, match="skip_tokenizer_init"):
            llm.get_tokenizer()
        with pytest.raises(RequestRejected, match="skip_tokenizer_init"):
            llm.chat([{"role": "user", "content": "Hello"}])
    assert tokens_of(outputs) == undisturbed
    assert all(first(output).text == "" for output in outputs)


def test_a_prompt_larger_than_the_cache_is_refused(tiny_llama):
    # a length nobody chose shrinks to what the cache holds, and the door knows
    engine = an_engine(tiny_llama, num_pages=8, warmup="none")
    with pytest.raises(RequestRejected, match="40 tokens, this engine holds 32"):
        engine.add_request("a", [5] * 40, greedily())
    assert not engine.has_unfinished_requests()
    engine.close()
