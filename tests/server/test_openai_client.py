"""OpenAI's own client, unmodified, against a server with the bundled model."""

from collections.abc import Iterator
from typing import Any

import openai
import pytest
from servers import DEMO, Running, eventually

from jpaged import LLM, BeamSearchParams, SamplingParams

PROMPTS = ["Once upon a time", "One rainy morning", "The old fox"]
HELLO: Any = [{"role": "user", "content": "Tell me a story about a fox."}]


@pytest.fixture
def client(demo_server: Running) -> Iterator[openai.OpenAI]:
    url = f"{demo_server.url}/v1"
    with openai.OpenAI(base_url=url, api_key="none needed", max_retries=0, timeout=30) as client:
        yield client


@pytest.fixture(scope="module")
def llm() -> Iterator[LLM]:
    """The oracle: the same engine, offline."""
    with LLM("demo", **DEMO) as llm:
        yield llm


def greedy(llm: LLM, prompt: str, max_tokens: int, **options: Any) -> str:
    params = SamplingParams(temperature=0, max_tokens=max_tokens, **options)
    return llm.generate([prompt], params, use_tqdm=False)[0].outputs[0].text


def test_greedy_completions_are_those_of_the_offline_engine(client, llm):
    answer = client.completions.create(
        model="demo", prompt=PROMPTS, temperature=0, max_tokens=24, timeout=20
    )

    assert [choice.text for choice in answer.choices] == [
        greedy(llm, prompt, 24) for prompt in PROMPTS
    ]
    assert [choice.index for choice in answer.choices] == [0, 1, 2]
    assert answer.id.startswith("cmpl-")
    assert answer.object == "text_completion"


def test_a_stream_says_what_a_whole_answer_says(client, llm):
    chunks = list(
        client.completions.create(
            model="demo", prompt=PROMPTS[0], temperature=0, max_tokens=24, stream=True
        )
    )

    assert "".join(chunk.choices[0].text for chunk in chunks) == greedy(llm, PROMPTS[0], 24)
    assert len(chunks) > 5
    assert {chunk.id for chunk in chunks} == {chunks[0].id}
    assert [chunk.choices[0].finish_reason for chunk in chunks[-2:]] == [None, "length"]


def test_a_chat_is_what_the_offline_engine_says_of_its_messages(client, llm):
    [expected] = llm.chat(HELLO, SamplingParams(temperature=0, max_tokens=24), use_tqdm=False)

    answer = client.chat.completions.create(
        model="demo", messages=HELLO, temperature=0, max_completion_tokens=24
    )
    chunks = list(
        client.chat.completions.create(
            model="demo", messages=HELLO, temperature=0, max_tokens=24, stream=True
        )
    )

    assert answer.choices[0].message.content == expected.outputs[0].text
    assert answer.choices[0].message.role == "assistant"
    assert answer.usage.prompt_tokens == len(expected.prompt_token_ids)
    assert chunks[0].choices[0].delta.role == "assistant"
    said = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    assert said == expected.outputs[0].text


def test_usage_counts_prompt_and_answer_and_what_was_cached(client):
    prompt = "The little bear went into the deep dark wood to look for honey and"
    ask: Any = {"model": "demo", "prompt": prompt, "temperature": 0, "max_tokens": 5}
    client.completions.create(**ask)

    usage = client.completions.create(**ask).usage
    *chunks, last = client.completions.create(
        **ask, stream=True, stream_options={"include_usage": True}
    )

    assert usage.completion_tokens == 5
    assert usage.total_tokens == usage.prompt_tokens + 5
    assert 0 < usage.prompt_tokens_details.cached_tokens < usage.prompt_tokens
    assert last.choices == []
    assert last.usage.completion_tokens == 5
    assert all(chunk.usage is None for chunk in chunks)


def test_usage_may_come_with_every_chunk(client):
    chunks = list(
        client.completions.create(
            model="demo",
            prompt="One day",
            max_tokens=4,
            stream=True,
            extra_body={
                "ignore_eos": True,
                "stream_options": {"include_usage": True, "continuous_usage_stats": True},
            },
        )
    )

    counts = [chunk.usage.completion_tokens for chunk in chunks]
    assert counts[0] < 4  # a reader who is late finds several tokens in one chunk
    assert counts == sorted(counts)
    assert counts[-2:] == [4, 4]


def test_logprobs_of_a_completion_are_those_of_the_offline_engine(client, llm):
    params = SamplingParams(temperature=0, max_tokens=6, logprobs=3)
    [expected] = llm.generate([PROMPTS[0]], params, use_tqdm=False)
    positions = expected.outputs[0].logprobs or []

    answer = client.completions.create(
        model="demo", prompt=PROMPTS[0], temperature=0, max_tokens=6, logprobs=3
    )

    logprobs = answer.choices[0].logprobs
    assert "".join(logprobs.tokens) == answer.choices[0].text
    assert logprobs.text_offset[0] == 0
    assert logprobs.text_offset[1] == len(logprobs.tokens[0])
    for position, chosen, top in zip(
        positions, logprobs.token_logprobs, logprobs.top_logprobs, strict=True
    ):
        assert chosen == pytest.approx(next(iter(position.values())).logprob, abs=1e-4)
        assert len(top) == 3
        assert max(top.values()) == pytest.approx(chosen)


def test_an_echo_scores_the_prompt(client, llm):
    params = SamplingParams(temperature=0, max_tokens=1, prompt_logprobs=1)
    [expected] = llm.generate([PROMPTS[1]], params, use_tqdm=False)

    answer = client.completions.create(
        model="demo", prompt=PROMPTS[1], temperature=0, max_tokens=1, logprobs=1, echo=True
    )

    choice = answer.choices[0]
    count = len(expected.prompt_token_ids)
    assert choice.text == PROMPTS[1] + expected.outputs[0].text
    assert choice.logprobs.token_logprobs[0] is None
    for token, position, logprob in zip(
        expected.prompt_token_ids[1:],
        (expected.prompt_logprobs or [])[1:],
        choice.logprobs.token_logprobs[1:count],
        strict=True,
    ):
        assert logprob == pytest.approx(position[token].logprob, abs=1e-4)
    assert len(choice.logprobs.tokens) == count + 1


def test_an_echo_alone_says_nothing_new(client):
    answer = client.completions.create(model="demo", prompt="One day", max_tokens=0, echo=True)

    assert answer.choices[0].text == "One day"
    assert answer.usage.completion_tokens == 0


def test_logprobs_of_a_chat_have_bytes_and_the_likeliest(client):
    answer = client.chat.completions.create(
        model="demo", messages=HELLO, temperature=0, max_tokens=4, logprobs=True, top_logprobs=2
    )
    chunks = list(
        client.chat.completions.create(
            model="demo",
            messages=HELLO,
            temperature=0,
            max_tokens=4,
            logprobs=True,
            top_logprobs=2,
            stream=True,
        )
    )

    content = answer.choices[0].logprobs.content
    assert bytes(sum((each.bytes for each in content), [])).decode() == (
        answer.choices[0].message.content
    )
    for each in content:
        assert [top.token for top in each.top_logprobs][0] == each.token
        assert each.top_logprobs[0].logprob >= each.top_logprobs[1].logprob
    streamed = [
        each for chunk in chunks for each in getattr(chunk.choices[0].logprobs, "content", ())
    ]
    assert [each.token for each in streamed] == [each.token for each in content]


def test_several_samples_of_several_prompts_have_their_places(client):
    answer = client.completions.create(
        model="demo", prompt=PROMPTS[:2], n=3, max_tokens=4, temperature=1.5, seed=1
    )
    chunks = client.completions.create(
        model="demo", prompt=PROMPTS[:2], n=3, max_tokens=4, temperature=1.5, seed=1, stream=True
    )

    streamed = dict.fromkeys(range(6), "")
    for chunk in chunks:
        streamed[chunk.choices[0].index] += chunk.choices[0].text
    assert [choice.index for choice in answer.choices] == list(range(6))
    assert {choice.index: choice.text for choice in answer.choices} == streamed
    assert len({choice.text for choice in answer.choices[:3]}) > 1


def test_samples_of_a_seed_differ_and_come_again(client):
    def say() -> list[str]:
        answer = client.completions.create(
            model="demo", prompt=PROMPTS[:2], n=8, max_tokens=6, temperature=2.0, seed=1
        )
        return [choice.text for choice in answer.choices]

    texts = say()

    assert len(set(texts)) == 16  # at this temperature six tokens are hardly ever the same
    assert say() == texts


def test_a_seed_repeats_and_another_does_not(client):
    def say(seed: int) -> str:
        answer = client.completions.create(
            model="demo", prompt="One", max_tokens=12, temperature=2.0, seed=seed
        )
        return answer.choices[0].text

    assert say(7) == say(7) != say(8)


def test_stop_strings_end_the_text_before_them(client, llm):
    whole = greedy(llm, PROMPTS[0], 40)
    stop = whole.split()[4]

    answer = client.completions.create(
        model="demo", prompt=PROMPTS[0], temperature=0, max_tokens=40, stop=[stop, "§"]
    )
    kept = client.completions.create(
        model="demo",
        prompt=PROMPTS[0],
        temperature=0,
        max_tokens=40,
        stop=stop,
        extra_body={"include_stop_str_in_output": True},
    )

    assert answer.choices[0].text == whole[: whole.index(stop)]
    assert answer.choices[0].finish_reason == "stop"
    assert answer.choices[0].stop_reason == stop
    assert kept.choices[0].text.endswith(stop)


def test_token_ids_are_taken_and_given(client, demo_server):
    tokens = demo_server.engine.tokenizer.encode(PROMPTS[0])
    by_text, by_tokens = (
        client.completions.create(
            model="demo",
            prompt=prompt,
            temperature=0,
            max_tokens=5,
            extra_body={"return_token_ids": True},
        ).choices[0]
        for prompt in (PROMPTS[0], tokens)
    )

    assert by_text.text == by_tokens.text
    assert by_text.token_ids == by_tokens.token_ids
    assert by_text.prompt_token_ids == tokens
    several = client.completions.create(
        model="demo", prompt=[tokens, tokens[:2]], temperature=0, max_tokens=5
    )
    assert several.choices[0].text == by_text.text


def test_the_checkpoints_sampling_defaults_hold_where_a_request_is_silent(client, llm):
    defaults = llm.get_default_sampling_params()
    assert defaults.temperature == 0.5
    params = SamplingParams(temperature=0.5, top_p=0.95, seed=3, max_tokens=16)
    [expected] = llm.generate(["A bird"], params, use_tqdm=False)

    silent = client.completions.create(model="demo", prompt="A bird", seed=3)

    assert silent.choices[0].text == expected.outputs[0].text


def test_fields_of_openai_that_mean_nothing_here_are_accepted(client):
    answer = client.chat.completions.create(
        model="demo",
        messages=HELLO,
        max_tokens=2,
        store=True,
        metadata={"team": "bears"},
        service_tier="auto",
        user="somebody",
        parallel_tool_calls=True,
        tool_choice="none",
        response_format={"type": "text"},
    )

    assert answer.choices[0].message.content


def test_models_are_listed_and_found(client):
    assert [model.id for model in client.models.list()] == ["demo"]
    assert client.models.retrieve("demo").owned_by == "jpaged"


def test_errors_are_the_clients_own(client):
    with pytest.raises(openai.NotFoundError, match="'nothing' does not exist"):
        client.completions.create(model="nothing", prompt="Hi")
    with pytest.raises(openai.BadRequestError, match="temperature") as caught:
        client.completions.create(model="demo", prompt="Hi", temperature=-1)
    body: Any = caught.value.body
    assert body["type"] == "BadRequestError"
    with pytest.raises(openai.BadRequestError, match="response_format") as caught:
        client.chat.completions.create(
            model="demo", messages=HELLO, response_format={"type": "json_object"}
        )
    assert caught.value.param == "response_format"
    with pytest.raises(openai.BadRequestError, match="max_model_len"):
        client.completions.create(model="demo", prompt="word " * 2000, stream=True)
    with pytest.raises(openai.NotFoundError):
        client.embeddings.create(model="demo", input="Hi")


SEARCH = BeamSearchParams(beam_width=3, max_tokens=12, temperature=1.0, length_penalty=0.6)


def ended(server: Running, *reasons: str) -> float:
    """How many sequences did, by /metrics."""
    with server.client() as http:
        lines = http.get("/metrics").text.splitlines()
    counts = [each for each in lines if each.startswith("vllm:request_success_total")]
    named = [each for each in counts if any(f'"{reason}"' in each for reason in reasons)]
    assert len(named) == len(reasons)
    return sum(float(each.split()[-1]) for each in named)


def test_a_beam_search_finds_what_the_offline_engine_finds(client, llm, demo_server):
    expected = llm.beam_search(PROMPTS[:2], SEARCH)
    successes, aborts = ended(demo_server, "stop", "length"), ended(demo_server, "abort")

    answer = client.completions.create(
        model="demo",
        prompt=PROMPTS[:2],
        n=3,
        max_tokens=12,
        temperature=1.0,
        logprobs=0,
        extra_body={"use_beam_search": True, "length_penalty": 0.6, "return_token_ids": True},
    )

    found = [sequence for output in expected for sequence in output.sequences]
    assert [choice.text for choice in answer.choices] == [sequence.text for sequence in found]
    assert len({choice.text for choice in answer.choices}) == 6
    for choice, sequence in zip(answer.choices, found, strict=True):
        assert choice.logprobs and choice.logprobs.token_logprobs
        assert sum(choice.logprobs.token_logprobs) == pytest.approx(sequence.cum_logprob, abs=1e-3)
        assert choice.finish_reason == sequence.finish_reason
    # whom others overtake was not aborted, and a search is one success
    assert eventually(lambda: ended(demo_server, "stop", "length") == successes + 2)
    assert ended(demo_server, "abort") == aborts


def test_a_chat_may_be_searched_too(client, llm):
    tokenizer = llm.llm_engine.need_tokenizer()
    text = tokenizer.render_chat(HELLO, add_generation_prompt=True)
    prompt = tokenizer.encode(text, add_special_tokens=False)
    [expected] = llm.beam_search([prompt], SEARCH)

    answer = client.chat.completions.create(
        model="demo",
        messages=HELLO,
        n=3,
        max_tokens=12,
        temperature=1.0,
        logprobs=True,
        extra_body={"use_beam_search": True, "length_penalty": 0.6},
    )

    texts = [choice.message.content for choice in answer.choices]
    assert texts == [sequence.text for sequence in expected.sequences]
    assert answer.choices[0].logprobs.content[0].top_logprobs == []


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"stream": True}, "cannot be streamed"),
        ({"top_k": 5}, "top_k"),
        ({"stop": ["."]}, "stop"),
        ({"logprobs": 2}, "ask for none beside it"),
        ({"logprobs": 0, "echo": True}, "scores no prompts"),
        ({"n": 5}, "beam_width=5 is over the engine's 4 seats"),
        ({"length_penalty": 1e9}, "length_penalty"),
    ],
)
def test_what_a_beam_search_cannot_follow_is_refused_by_name(demo_server, fields, said):
    asked = {"prompt": "Once", "n": 2, "max_tokens": 5, "use_beam_search": True, **fields}
    with demo_server.client() as http:
        answer = http.post("/v1/completions", json=asked)

    assert answer.status_code == 400
    assert said in answer.json()["error"]["message"]
