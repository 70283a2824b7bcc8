"""Every field of every body, with values that are odd: it is refused by name, or it is an answer.

What is odd is the document's to say, /openapi.json: what it forbids may not be let in.
"""

import json
import math
import random
from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest
from servers import Running, running

HELLO = [{"role": "user", "content": "Hi"}]
# the way to a nested body, and a proper one
BODIES: dict[str, tuple[str, dict[str, Any], tuple[str, ...]]] = {
    "completion": ("/v1/completions", {"prompt": "Hi", "max_tokens": 2}, ()),
    "chat": ("/v1/chat/completions", {"messages": HELLO, "max_tokens": 2}, ()),
    "tokenize": ("/tokenize", {"prompt": "Hi"}, ()),
    "detokenize": ("/detokenize", {"tokens": [5]}, ()),
    "simple": ("/generate", {"prompt": "Hi", "max_new_tokens": 2}, ()),
    "ollama": ("/api/generate", {"model": "demo", "prompt": "Hi"}, ()),
    "ollama options": ("/api/chat", {"model": "demo", "messages": HELLO}, ("options",)),
    "ollama chat": ("/api/chat", {"model": "demo", "messages": HELLO}, ()),
    "kserve": ("/v2/models/{model}/generate", {"text_input": "Hi"}, ()),
    "kserve parameters": ("/v2/models/{model}/generate", {"text_input": "Hi"}, ("parameters",)),
    "labels": ("/admin/labels", {"model": "demo", "labels": {"x": None}}, ()),
}
ODD = [
    *(None, True, 0, -1, 1.5, 10**30, -(10**30), 1e308, math.nan, math.inf, -math.inf),
    *("", "fox", "5", "true", "x" * 5000, "🦊\u202e\0", "\x1b[31m\r\nX: 1", "\ud800"),
    *([], [0], ["a"], [[]], [None], [-1], {}, {"a": 1}, {"": {}}, [{}] * 2000),
]
PER_FIELD = 12  # of the odd ones, others for each field


@pytest.fixture(scope="module")
def quick() -> Iterator[Running]:
    """Whatever is let in is over soon."""
    with running({"pretend": "constant:0.0001", "max_model_len": 32, "num_pages": 64}) as server:
        yield server


@pytest.fixture(scope="module")
def document(quick: Running) -> dict[str, Any]:
    with quick.client() as client:
        return client.get("/openapi.json").json()


def body_schema(document: dict[str, Any], path: str, steps: tuple[str, ...]) -> dict[str, Any]:
    """Of the body, or of an object within it, with the components that it refers to."""
    operation = document["paths"][path]["post"]
    schema = operation["requestBody"]["content"]["application/json"]["schema"]
    for step in ("", *steps):
        found = schema["properties"][step] if step else schema
        [name] = [each["$ref"] for each in (found, *found.get("anyOf", ())) if "$ref" in each]
        schema = document["components"]["schemas"][name.rpartition("/")[2]]
    return {**schema, "components": document["components"]}


def with_field(body: dict[str, Any], steps: tuple[str, ...], name: str, value: Any) -> Any:
    if not steps:
        return {**body, name: value}
    return {**body, steps[0]: {name: value}}


def is_json(value: Any) -> bool:
    """Half a character and NaN are not, whatever a schema says."""
    is_number = not isinstance(value, float) or math.isfinite(value)
    return is_number and value != "\ud800"


@pytest.mark.parametrize("case", BODIES)
def test_an_odd_value_is_refused_by_name_or_answered(quick: Running, document: dict, case: str):
    path, body, steps = BODIES[case]
    schema = body_schema(document, path, steps)
    random_ones, wrong = random.Random(case), []
    with quick.client(headers={"content-type": "application/json"}) as client:
        for name, property_ in schema["properties"].items():
            allows = jsonschema.Draft202012Validator(
                {**property_, "components": schema["components"]}
            ).is_valid
            for value in random_ones.sample(ODD, PER_FIELD):
                answer = client.post(
                    path.replace("{model}", "demo"),
                    content=json.dumps(with_field(body, steps, name, value)),
                )
                is_allowed = is_json(value) and allows(value)
                documented = document["paths"][path]["post"]["responses"]
                said = f"{name}={value!r:.40}: {answer.status_code} {answer.text[:200]}"
                if answer.status_code >= 500 or str(answer.status_code) not in documented:
                    wrong.append(said)
                elif not is_allowed and answer.status_code != 400:
                    wrong.append(f"let in: {said}")
                elif is_json(value) and not is_allowed and name not in answer.text:
                    wrong.append(f"not named: {said}")

    assert not wrong, "\n".join(wrong)


def test_every_body_is_among_them(document: dict):
    bodies = {path for path, methods in document["paths"].items() if "requestBody" in str(methods)}
    named = {path for path, _, _ in BODIES.values()}
    # one that has the body of another, and some whose few fields have tests of their own
    others = {path for path in bodies if path.startswith("/v2/")}
    others |= {"/admin/models/load", "/admin/models/unload", "/api/show"}

    assert bodies - others <= named
