"""POST /generate, as transformers' pipeline would be called."""

import pytest
from servers import Running, events

PROMPT = "Once upon a time"


def post(server: Running, **fields):
    with server.client() as http:
        return http.post("/generate", json={"prompt": PROMPT, **fields})


@pytest.fixture
def text(demo_server: Running) -> str:
    """What follows the prompt, in OpenAI's words, which are held against the offline engine."""
    with demo_server.client() as http:
        fields = {"prompt": PROMPT, "temperature": 0, "max_tokens": 40}
        return http.post("/v1/completions", json=fields).json()["choices"][0]["text"]


def test_one_sequence_is_a_text_that_begins_with_its_prompt(demo_server, text):
    answer = post(demo_server, max_length=44, num_return_sequences=1, do_sample=False)

    assert answer.status_code == 200
    assert answer.json() == {"generated_text": PROMPT + text}


def test_max_length_counts_the_prompt_and_max_new_tokens_does_not(demo_server, text):
    tokenizer = demo_server.engine.tokenizer
    count = len(tokenizer.encode(PROMPT))
    options = {"do_sample": False, "return_full_text": False}

    by_length = post(demo_server, max_length=count + 6, **options).json()["generated_text"]
    by_tokens = post(demo_server, max_new_tokens=6, **options).json()["generated_text"]

    assert by_length == by_tokens
    assert text.startswith(by_length)
    assert len(tokenizer.encode(by_length, add_special_tokens=False)) == 6


def test_several_sequences_are_a_list(demo_server):
    fields = {"max_length": 20, "num_return_sequences": 3, "temperature": 2.0, "seed": 1}

    texts = post(demo_server, **fields).json()["generated_text"]

    assert len(set(texts)) == 3
    assert all(each.startswith(PROMPT) for each in texts)


def test_a_stream_says_the_same_piece_by_piece(demo_server):
    fields = {"max_length": 20, "num_return_sequences": 2, "temperature": 2.0, "seed": 1}
    whole = post(demo_server, **fields).json()["generated_text"]

    *pieces, done = events(post(demo_server, **fields, stream=True).text)

    texts = ["", ""]
    for piece in pieces:
        texts[piece["index"]] += piece["generated_text"]
    assert texts == whole
    assert done == "[DONE]"


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"max_length": 2}, "max_length=2 counts the prompt's"),
        ({"max_length": 0}, "max_length"),
        ({"num_return_sequences": 10**9}, "num_return_sequences"),
        ({"temperature": "hot"}, "temperature"),
        ({"num_beams": 4}, "num_beams: unknown field"),
        ({"max_tokens": 5}, "max_tokens is not of this route; it has max_length"),
        ({"prompt": ["a", "b"]}, "prompt"),
        ({"prompt": ""}, "empty"),
    ],
)
def test_what_cannot_be_done_is_refused_by_name(demo_server, fields, said):
    answer = post(demo_server, **fields)

    assert answer.status_code == 400
    assert said in answer.json()["error"]["message"]
