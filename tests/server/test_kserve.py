"""The Open Inference Protocol and Triton's generate extension, in plain HTTP."""

from typing import Any

import pytest
from servers import Running, events, eventually

from jpaged import __version__

PROMPT = "Once upon a time"
GREEDY = {"temperature": 0, "max_tokens": 10}


@pytest.fixture
def story(demo_server: Running) -> str:
    """What follows, in OpenAI's words, which are held against the offline engine."""
    return openai_says(demo_server, PROMPT)


def openai_says(server: Running, prompt: str) -> str:
    with server.client() as http:
        answer = http.post("/v1/completions", json={"prompt": prompt, **GREEDY})
    return answer.json()["choices"][0]["text"]


def get(server: Running, path: str) -> Any:
    with server.client() as http:
        return http.get(f"/v2{path}")


def post(server: Running, what: str, model: str = "demo", **fields: Any) -> Any:
    with server.client() as http:
        return http.post(f"/v2/models/{model}/{what}", json=fields)


def text_tensor(*texts: str) -> dict[str, Any]:
    return {"name": "text_input", "shape": [len(texts)], "datatype": "BYTES", "data": list(texts)}


def test_it_says_what_it_is_and_that_it_is_ready(demo_server):
    assert get(demo_server, "").json() == {
        "name": "jpaged",
        "version": __version__,
        "extensions": ["generate"],
    }
    assert get(demo_server, "/health/live").json() == {"live": True}
    assert get(demo_server, "/health/ready").json() == {"ready": True}
    for path in ("/models/demo/ready", "/models/demo/versions/1/ready"):
        assert get(demo_server, path).json() == {"name": "demo", "ready": True}


def test_a_model_tells_its_versions_and_tensors(demo_server):
    metadata = get(demo_server, "/models/demo").json()

    assert metadata == get(demo_server, "/models/demo/versions/1").json()
    assert (metadata["name"], metadata["versions"]) == ("demo", ["1"])
    assert metadata["inputs"][0] == {"name": "text_input", "datatype": "BYTES", "shape": [-1]}
    assert [each["name"] for each in metadata["outputs"]] == ["text_output"]


@pytest.mark.parametrize("model", ["demo", "demo/versions/1"])
def test_generate_gives_prompt_and_answer(demo_server, story, model):
    answer = post(demo_server, "generate", model, text_input=PROMPT, parameters=GREEDY)

    assert answer.json() == {
        "model_name": "demo",
        "model_version": "1",
        "text_output": PROMPT + story,
        "finish_reason": "length",
    }


def test_a_prompt_may_be_left_out_and_an_id_comes_back(demo_server, story):
    fields = {"text_input": PROMPT, "parameters": GREEDY, "stream": False, "id": "mine"}

    answer = post(demo_server, "generate", exclude_input_in_output=True, **fields).json()

    assert (answer["text_output"], answer["id"]) == (story, "mine")


def test_a_stream_says_what_is_new(demo_server, story):
    answer = post(demo_server, "generate_stream", text_input=PROMPT, parameters=GREEDY)

    said = events(answer.text)
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert "".join(each["text_output"] for each in said) == story
    assert len(said) > 2
    assert ["finish_reason" in each for each in said] == [False] * (len(said) - 1) + [True]


def test_sampling_parameters_may_be_json_as_triton_has_it(demo_server, story):
    text = '{"temperature": 0, "max_tokens": 10}'

    answer = post(
        demo_server,
        "generate",
        text_input=PROMPT,
        sampling_parameters=text,
        parameters={"exclude_input_in_output": True, "max_tokens": 3},
    )

    assert answer.json()["text_output"] == story


def test_infer_takes_a_batch_of_texts(demo_server, story):
    other = "One rainy morning"

    answer = post(
        demo_server,
        "infer",
        id="batch",
        inputs=[
            text_tensor(PROMPT, other),
            {"name": "exclude_input_in_output", "shape": [1], "datatype": "BOOL", "data": [True]},
        ],
        outputs=[{"name": "text_output"}],
        parameters=GREEDY,
    )

    [tensor] = answer.json()["outputs"]
    assert answer.json()["id"] == "batch"
    assert (tensor["name"], tensor["datatype"], tensor["shape"]) == ("text_output", "BYTES", [2])
    assert tensor["data"] == [story, openai_says(demo_server, other)]


def test_infer_takes_nested_data(demo_server, story):
    nested = {**text_tensor(PROMPT), "shape": [1, 1], "data": [[PROMPT]]}

    answer = post(demo_server, "infer", inputs=[nested], parameters=GREEDY)

    assert answer.json()["outputs"][0]["data"] == [PROMPT + story]
    assert answer.json()["outputs"][0]["shape"] == [1, 1]


@pytest.mark.parametrize(
    ("what", "fields", "said"),
    [
        ("generate", {}, "text_input: Field required"),
        ("generate", {"text_input": ""}, "empty"),
        ("generate", {"text_input": "Hi", "stream": True}, "generate_stream"),
        ("generate_stream", {"text_input": "Hi", "stream": False}, "generate"),
        ("generate", {"text_input": "Hi", "parameters": {"beam_width": 2}}, "beam_width"),
        ("generate", {"text_input": "Hi", "parameters": {"top_p": 0}}, "top_p"),
        ("generate_stream", {"text_input": "Hi", "parameters": {"top_p": 0}}, "top_p"),
        ("generate", {"text_input": "word " * 200}, "max_model_len"),
        ("generate", {"text_input": "Hi", "sampling_parameters": "{"}, "not JSON"),
        ("generate", {"text_input": "Hi", "sampling_parameters": '{"n": 2}'}, "n: "),
        ("generate", {"text_input": "Hi", "sampling_parameters": "[]"}, "sampling_parameters"),
        ("generate", {"text_input": "Hi", "id": "a\r\nb"}, "id"),
        ("infer", {"inputs": []}, "inputs"),
        ("infer", {"inputs": [{**text_tensor("Hi"), "shape": [2]}]}, "its shape says 2"),
        ("infer", {"inputs": [{**text_tensor("Hi"), "datatype": "FP32"}]}, "BYTES"),
        ("infer", {"inputs": [{**text_tensor("Hi"), "data": [5]}]}, "must have texts"),
        ("infer", {"inputs": [{**text_tensor("Hi"), "name": "image"}]}, "text_input"),
        ("infer", {"inputs": [text_tensor("Hi"), text_tensor("Hi")]}, "once each"),
        ("infer", {"inputs": [text_tensor("Hi")], "outputs": [{"name": "x"}]}, "outputs"),
        (
            "infer",
            {"inputs": [text_tensor("Hi")], "parameters": {"binary_data_output": True}},
            "parameters.binary_data_output: binary tensors are not read",
        ),
        (
            "infer",
            {
                "inputs": [text_tensor("Hi")],
                "outputs": [{"name": "text_output", "parameters": {"binary_data": True}}],
            },
            "give binary_data=False to InferInput.set_data_from_numpy",
        ),
    ],
)
def test_what_cannot_be_done_is_refused_in_one_line(demo_server, what, fields, said):
    answer = post(demo_server, what, **fields)

    assert answer.status_code == 400
    assert list(answer.json()) == ["error"]
    assert said in answer.json()["error"]


def test_a_client_that_sends_bytes_is_told_how_to_send_json(demo_server):
    """As tritonclient does when nobody tells it otherwise."""
    head = b'{"inputs":[{"name":"text_input","shape":[1],"datatype":"BYTES","parameters":{}}]}'
    headers = {
        "inference-header-content-length": str(len(head)),
        "content-type": "application/octet-stream",
    }
    with demo_server.client() as http:
        answer = http.post("/v2/models/demo/infer", content=head + b"\xff\0\0\0Hi", headers=headers)

    assert answer.status_code == 400
    assert "give binary_data=False to InferInput.set_data_from_numpy" in answer.json()["error"]


def test_models_and_versions_that_are_not_there_are_not_found(demo_server):
    for model in ("nothing", "demo/versions/2"):
        assert get(demo_server, f"/models/{model}").status_code == 404
        assert get(demo_server, f"/models/{model}/ready").status_code == 404
        assert post(demo_server, "generate", model, text_input="Hi").status_code == 404
        answer = post(demo_server, "generate_stream", model, text_input="Hi")
        assert "does not exist" in answer.json()["error"]


def test_a_deadline_in_microseconds_ends_a_request(server):
    parameters = {"timeout": 100_000, "ignore_eos": True}

    answer = post(server, "generate", text_input=PROMPT, parameters=parameters)

    assert answer.status_code == 504
    assert "within its 0.1 seconds" in answer.json()["error"]


def test_what_fails_in_a_stream_is_an_error_and_no_end(demo_server):
    async def abort() -> None:
        await demo_server.engine.abort([each.request.id for each in demo_server.service.live])

    said = []
    with (
        demo_server.client() as http,
        http.stream(
            "POST",
            "/v2/models/demo/generate_stream",
            json={"text_input": PROMPT, "parameters": {"ignore_eos": True}},
        ) as stream,
    ):
        for line in stream.iter_lines():
            if not said and line:
                demo_server.call(abort())
            said.append(line)
    found = events("\n".join(said))
    assert list(found[-1]) == ["error"]
    assert not any("finish_reason" in each for each in found)


def test_a_reader_who_leaves_ends_the_request(demo_server):
    fields = {"text_input": PROMPT, "parameters": {"ignore_eos": True}}
    url = "/v2/models/demo/generate_stream"
    with demo_server.client() as http, http.stream("POST", url, json=fields) as stream:
        next(stream.iter_lines())

    assert eventually(lambda: not demo_server.service.live)
