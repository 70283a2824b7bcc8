"""Ollama's own client, unmodified, against a server with the bundled model."""

import json
from collections.abc import Iterator
from typing import Any

import ollama
import pytest
from servers import Running, eventually

from jpaged import __version__

FOX: Any = [{"role": "user", "content": "Tell me a story about a fox."}]
GREEDY: Any = {"temperature": 0, "num_predict": 12}


@pytest.fixture
def client(demo_server: Running) -> Iterator[ollama.Client]:
    with ollama.Client(demo_server.url, timeout=30, trust_env=False) as client:
        yield client


def openai_says(server: Running, route: str, **fields: Any) -> Any:
    """The oracle: the same in OpenAI's words, which are held against the offline engine."""
    with server.client() as http:
        answer = http.post(f"/v1/{route}", json={"temperature": 0, "max_tokens": 12, **fields})
    return answer.json()["choices"][0]


@pytest.fixture
def story(demo_server: Running) -> str:
    return openai_says(demo_server, "chat/completions", messages=FOX)["message"]["content"]


def test_a_prompt_is_answered_in_the_models_template(client, story):
    answer = client.generate("demo", FOX[0]["content"], options=GREEDY)

    assert answer.response == story
    assert (answer.done, answer.done_reason) == (True, "length")
    assert (answer.eval_count, answer.prompt_eval_count) == (12, 11)
    # nanoseconds; no step takes less than 0.1 ms
    assert min(answer.prompt_eval_duration, answer.eval_duration / 11) > 1e5
    assert answer.prompt_eval_duration + answer.eval_duration <= answer.total_duration < 30e9


def test_a_raw_prompt_is_gone_on_with(client, demo_server):
    expected = openai_says(demo_server, "completions", prompt="Once upon a time")

    answer = client.generate("demo", "Once upon a time", raw=True, options=GREEDY)

    assert answer.response == expected["text"]


def test_a_stream_says_what_a_whole_answer_says_and_counts_at_the_end(client, story):
    chunks = list(client.chat("demo", FOX, stream=True, options=GREEDY))

    assert "".join(chunk.message.content for chunk in chunks) == story
    assert len(chunks) > 2
    assert [chunk.done for chunk in chunks] == [False] * (len(chunks) - 1) + [True]
    assert chunks[0].eval_count is None
    assert chunks[-1].eval_count == 12
    assert client.chat("demo", FOX, options=GREEDY).message.content == story


def test_lines_of_json_come_unless_a_client_says_otherwise(demo_server):
    with demo_server.client() as http:
        answer = http.post("/api/chat", json={"model": "demo", "messages": FOX, "options": GREEDY})

    assert answer.headers["content-type"] == "application/x-ndjson"
    lines = [json.loads(line) for line in answer.text.splitlines()]
    assert lines[-1]["done"] and not any(line["done"] for line in lines[:-1])


def test_options_mean_what_they_are_called(client, story):
    def say(**options: Any) -> Any:
        return client.chat("demo", FOX, options={**GREEDY, **options})

    stop = story.split()[3]
    stopped = say(stop=[stop])
    hot = [say(temperature=2, seed=seed).message.content for seed in (7, 7, 8)]

    assert stopped.message.content == story[: story.index(stop)]
    assert stopped.done_reason == "stop"
    assert hot[0] == hot[1] != hot[2]
    assert say(temperature=2, top_k=1).message.content == story
    assert say(temperature=2, top_p=1e-6).message.content == story
    assert say(temperature=2, min_p=1.0).message.content == story
    assert say(repeat_penalty=50.0).message.content != story
    assert say(num_ctx=128, num_gpu=0, num_thread=2).message.content == story
    assert say(num_predict=-2, seed=-1, stop=[stop]).done_reason == "stop"


def test_a_system_text_comes_first(client, demo_server):
    system = {"role": "system", "content": "You are a bear."}
    expected = openai_says(demo_server, "chat/completions", messages=[system, *FOX])

    answer = client.generate("demo", FOX[0]["content"], system=system["content"], options=GREEDY)

    assert answer.response == expected["message"]["content"]


def test_logprobs_tell_of_each_token(client, story):
    answer = client.chat("demo", FOX, logprobs=True, top_logprobs=2, options=GREEDY)

    assert "".join(each.token for each in answer.logprobs) == story
    assert all(each.top_logprobs[0].logprob == each.logprob <= 0 for each in answer.logprobs)
    assert all(len(each.top_logprobs) == 2 for each in answer.logprobs)


def test_an_empty_prompt_finds_the_model_loaded(client):
    assert client.generate("demo").done_reason == "load"
    assert client.chat("demo", []).done_reason == "load"
    assert client.generate("demo", keep_alive=0).done_reason == "unload"
    assert client.chat("demo", [], keep_alive="0s").done_reason == "unload"


def test_a_last_message_of_the_models_own_is_gone_on_with(client, demo_server, story):
    begun = [*FOX, {"role": "assistant", "content": "Once upon a"}]
    fields = {"add_generation_prompt": False, "continue_final_message": True}
    expected = openai_says(demo_server, "chat/completions", messages=begun, **fields)

    answer = client.chat("demo", begun, options=GREEDY)

    assert answer.message.content == expected["message"]["content"] != story


def test_models_are_listed_and_described(client, demo_server):
    [listed], [running] = client.list().models, client.ps().models
    shown = client.show("demo:latest")

    assert listed.model == running.model == "demo"
    assert listed.details.parameter_size == "3.8M"
    assert listed.size == running.size > 3.8e6 * 2
    assert running.context_length == 128
    assert shown.details == listed.details
    assert "<|assistant|>" in shown.template
    assert shown.capabilities == ["completion"]
    assert shown.modelinfo["general.parameter_count"] == demo_server.engine.card.num_parameters
    with demo_server.client() as http:
        assert http.get("/api/version").json() == {"version": __version__}


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"options": {"num_ctx": 4096}}, "num_ctx=4096 is over the model's 128"),
        ({"options": {"temperature": -1}}, "temperature"),
        ({"options": {"mirostat": 2}}, "mirostat is not there; only 0"),
        ({"options": {"repeat_last_n": 64}}, "repeat_last_n is not there; only -1"),
        ({"options": {"num_predict": 0}}, "num_predict must be at least 1"),
        ({"format": "json"}, "format"),
        ({"tools": [{"type": "function", "function": {"name": "f"}}]}, "tools"),
        ({"think": True}, "think"),
        ({"top_logprobs": 2}, "top_logprobs"),
        ({"messages": [{"role": "user", "content": "Hi", "images": [b"png"]}]}, "images"),
        ({"messages": [{"role": "fox", "content": "Hi"}]}, "Unknown role"),
        ({"messages": [{"role": "user", "content": "word " * 200}]}, "max_model_len"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_what_cannot_be_done_is_refused_by_name(client, fields, said, stream):
    with pytest.raises(ollama.ResponseError, match=said) as caught:
        list(client.chat(**{"model": "demo", "messages": FOX, "stream": stream, **fields}))
    assert caught.value.status_code == 400
    assert isinstance(caught.value.error, str)


def test_an_unknown_model_is_not_found(client):
    with pytest.raises(ollama.ResponseError, match="'nothing' does not exist") as caught:
        client.generate("nothing", "Hi")
    assert caught.value.status_code == 404
    with pytest.raises(ollama.ResponseError, match="does not exist"):
        client.show("demo:7b")


def test_a_reader_who_leaves_ends_the_request(client, demo_server):
    chunks = client.chat("demo", FOX, stream=True, options={"num_predict": -1})
    next(chunks)
    chunks.close()

    assert eventually(lambda: not demo_server.service.live)


def test_what_fails_in_a_stream_is_an_error_and_no_end(client, demo_server):
    async def abort() -> None:
        await demo_server.engine.abort([each.request.id for each in demo_server.service.live])

    said = []
    with pytest.raises(ollama.ResponseError, match="failed"):
        for chunk in client.chat("demo", FOX, stream=True, options={"num_predict": -1}):
            said.append(chunk)
            if len(said) == 1:
                demo_server.call(abort())
    assert not any(chunk.done for chunk in said)
