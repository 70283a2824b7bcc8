"""Requests that are none, by name, and the status that each is refused with.

FIELDS have some value that is wrong, BODIES are no JSON, HEADERS are wrong beside a proper body,
ROUTES lead nowhere, WIRE is no proper HTTP, and KEYS open nothing where one is needed.
"""

import gzip
from typing import Any

TEXT: dict[str, Any] = {"model": "demo", "prompt": "Hi", "max_tokens": 2}
CHAT: dict[str, Any] = {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 2}


def completion(**fields: Any) -> tuple[str, Any]:
    return "/v1/completions", {**TEXT, **fields}


def chat(**fields: Any) -> tuple[str, Any]:
    return "/v1/chat/completions", {**CHAT, **fields}


FIELDS: dict[str, tuple[str, Any]] = {
    # numbers that are none, or out of range
    "max_tokens is true": completion(max_tokens=True),
    "max_tokens is a text": completion(max_tokens="5"),
    "max_tokens is a fraction": completion(max_tokens=1.5),
    "max_tokens is 0": completion(max_tokens=0),
    "max_tokens is negative": completion(max_tokens=-1),
    "max_tokens is huge": completion(max_tokens=10**30),
    "max_tokens is a list": completion(max_tokens=[1]),
    "min_tokens over max_tokens": completion(min_tokens=3),
    "n is 0": completion(n=0),
    "n is a billion": completion(n=10**9),
    "n over the samples of one": completion(n=1000),
    "best_of below n": completion(n=3, best_of=2),
    "best_of in a stream": completion(best_of=3, stream=True),
    "temperature is negative": completion(temperature=-0.1),
    "temperature is a text": completion(temperature="hot"),
    "temperature overflows": completion(temperature=10**308 * 10),
    "top_p is 0": completion(top_p=0),
    "top_p over 1": completion(top_p=1.1),
    "top_k below -1": completion(top_k=-2),
    "top_k is true": completion(top_k=True),
    "min_p over 1": completion(min_p=1.5),
    "presence_penalty over 2": completion(presence_penalty=2.5),
    "frequency_penalty below -2": completion(frequency_penalty=-3),
    "repetition_penalty is 0": completion(repetition_penalty=0),
    "seed over 64 bits": completion(seed=2**64),
    "seed is a text": completion(seed="lucky"),
    "priority is a fraction": completion(priority=0.5),
    "timeout is 0": completion(timeout=0),
    "truncate_prompt_tokens over the model": completion(truncate_prompt_tokens=10**6),
    # log-probabilities
    "logprobs is negative": completion(logprobs=-1),
    "logprobs over the limit": completion(logprobs=21),
    "logprobs is true": completion(logprobs=True),
    "prompt_logprobs over the limit": completion(prompt_logprobs=1000),
    "top_logprobs without logprobs": chat(top_logprobs=2),
    "top_logprobs over the limit": chat(logprobs=True, top_logprobs=1000),
    # lists
    "stop has an empty text": completion(stop=[""]),
    "stop has a number": completion(stop=[5]),
    "stop has a thousand": completion(stop=["x"] * 1000),
    "stop is very long": completion(stop="x" * 10_000),
    "stop_token_ids are not of the vocabulary": completion(stop_token_ids=[10**6]),
    "stop_token_ids are negative": completion(stop_token_ids=[-1]),
    "logit_bias for no token": completion(logit_bias={"10000000": 1}),
    "logit_bias for a word": completion(logit_bias={"fox": 1}),
    "logit_bias of a text": completion(logit_bias={"5": "much"}),
    "logit_bias of a thousand": completion(logit_bias={str(i): 1 for i in range(1000)}),
    "allowed_token_ids is empty": completion(allowed_token_ids=[]),
    "allowed_token_ids are not of the vocabulary": completion(allowed_token_ids=[10**6]),
    "bad_words has a number": completion(bad_words=[1]),
    # prompts
    "no prompt": ("/v1/completions", {"model": "demo"}),
    "prompt is null": completion(prompt=None),
    "prompt is a number": completion(prompt=5),
    "prompt is empty": completion(prompt=""),
    "prompt is an empty list": completion(prompt=[]),
    "prompt has an empty list": completion(prompt=[[]]),
    "prompt mixes texts and tokens": completion(prompt=["Hi", 5]),
    "prompt has a token that is not of the vocabulary": completion(prompt=[10**6]),
    "prompt has a negative token": completion(prompt=[-5]),
    "prompt has true": completion(prompt=[True]),
    "prompt is too long": completion(prompt="word " * 3000),
    "prompt is a text without end": completion(prompt="a" * 5_000_000),
    "too many prompts": completion(prompt=["Hi"] * 2000),
    # chats
    "no messages": ("/v1/chat/completions", {"model": "demo"}),
    "messages is empty": chat(messages=[]),
    "messages is a text": chat(messages="Hi"),
    "a message without a role": chat(messages=[{"content": "Hi"}]),
    "a message of an unknown role": chat(messages=[{"role": "fox", "content": "Hi"}]),
    "a message with an image": chat(
        messages=[
            {
                "role": "user",
                "content": [{"type": "image_url", "image_url": {"url": "http://169.254.169.254"}}],
            }
        ]
    ),
    "a message with an unknown field": chat(
        messages=[{"role": "user", "content": "Hi", "template": "x"}]
    ),
    "a template of the client's": chat(chat_template="{{ 1 }}"),
    "a template among the template's words": chat(chat_template_kwargs={"chat_template": "x"}),
    "a template's word that is the renderer's": chat(chat_template_kwargs={"messages": "x"}),
    "a template's word that is the tokenizer's": chat(chat_template_kwargs={"eos_token": "x"}),
    "a template's word that is no name": chat(chat_template_kwargs={"__class__": "x"}),
    "a template's word that is deep": chat(chat_template_kwargs={"thinking": {"a": [1]}}),
    "both ends of a message": chat(continue_final_message=True),
    "a message without content": chat(messages=[{"role": "user"}]),
    "a message of null": chat(messages=[None]),
    # what is not there yet
    "response_format": chat(response_format={"type": "json_object"}),
    "a schema": chat(response_format={"type": "json_schema", "json_schema": {"name": "x"}}),
    "structured_outputs": completion(structured_outputs={"regex": "(a+)+$"}),
    "tools": chat(tools=[{"type": "function", "function": {"name": "f"}}]),
    "tool_choice required": chat(tool_choice="required"),
    "functions": chat(functions=[{"name": "f"}]),
    "suffix": completion(suffix="the end"),
    "a beam search in a stream": completion(use_beam_search=True, n=2, stream=True),
    "a beam search that draws": completion(use_beam_search=True, n=2, top_p=0.5),
    "length_penalty without a beam search": completion(length_penalty=2.0),
    "an unknown field": completion(tempersture=1),
    "vllm_xargs": completion(vllm_xargs={"a": 1}),
    # names and ids
    "model is a number": completion(model=5),
    "model is very long": completion(model="x" * 100_000),
    "request_id with a line": completion(request_id="a\r\nX-Evil: 1"),
    "request_id with a colour": completion(request_id="\x1b[31mred"),
    "request_id is very long": completion(request_id="x" * 65),
    "cache_salt is empty": completion(cache_salt=""),
    "cache_salt is a number": completion(cache_salt=7),
    "user is a list": completion(user=["me"]),
    "stream_options without stream": completion(stream_options={"include_usage": True}),
    "stream_options with more": completion(stream=True, stream_options={"x": 1}),
    "stream is a text": completion(stream="yes"),
    # other routes
    "tokenize with nothing": ("/tokenize", {}),
    "tokenize with both": ("/tokenize", {"messages": CHAT["messages"], "prompt": "Hi"}),
    "detokenize a text": ("/detokenize", {"tokens": "abc"}),
    "detokenize a number over 64 bits": ("/detokenize", {"tokens": [2**70]}),
    "detokenize what is not of the vocabulary": ("/detokenize", {"tokens": [10**9]}),
    "load a model from anywhere": ("/admin/models/load", {"model": "x", "path": "/etc"}),
    "load a model from above": ("/admin/models/load", {"model": "x", "path": "../.."}),
    "unload what is not there": ("/admin/models/unload", {"model": "x"}),
    "load an adapter": ("/v1/load_lora_adapter", {"lora_name": "x", "lora_path": "../x"}),
    "load an adapter from anywhere": (
        "/v1/load_lora_adapter",
        {"lora_name": "x", "lora_path": "/etc"},
    ),
    "label what is not there": ("/admin/labels", {"model": "x", "labels": {"stable": "1"}}),
}

BODIES: dict[str, tuple[bytes, int]] = {
    "nothing": (b"", 400),
    "a space": (b" ", 400),
    "no JSON": (b"{", 400),
    "a list": (b"[]", 400),
    "null": (b"null", 400),
    "a number": (b"1", 400),
    "NaN": (b'{"prompt": "Hi", "temperature": NaN}', 400),
    "Infinity": (b'{"prompt": "Hi", "temperature": Infinity}', 400),
    "a float that overflows": (b'{"prompt": "Hi", "temperature": 1e999}', 400),
    "a number of 10,000 digits": (b'{"prompt": "Hi", "seed": ' + b"9" * 10_000 + b"}", 400),
    "one key twice": (b'{"prompt": "Hi", "prompt": "Ho"}', 400),
    "one key twice, deeper": (b'{"prompt": "Hi", "logit_bias": {"5": 1, "5": 2}}', 400),
    "half a character": (b'{"prompt": "\\ud800"}', 400),
    "half a character as a key": (b'{"prompt": "Hi", "\\udfff": 1}', 400),
    "bytes that are no UTF-8": (b'{"prompt": "\xff\xfe"}', 400),
    "UTF-16": ('{"prompt": "Hi"}'.encode("utf-16"), 400),
    "a byte-order mark": (b'\xef\xbb\xbf{"prompt": "Hi"}', 400),
    "a NUL": (b'{"prompt": "Hi"}\0', 400),
    "50,000 lists": (b'{"prompt": ' + b"[" * 50_000 + b"]" * 50_000 + b"}", 400),
    "50,000 objects": (b'{"logit_bias":' * 50_000 + b"1" + b"}" * 50_000, 400),
    "a comment": (b'{"prompt": "Hi"} // please', 400),
    "32 MiB": (b'{"prompt": "' + b"a" * (32 << 20) + b'"}', 413),
}

HEADERS: dict[str, tuple[dict[str, str], int]] = {
    "text/plain": ({"content-type": "text/plain"}, 415),
    "a form": ({"content-type": "application/x-www-form-urlencoded"}, 415),
    "a form with parts": ({"content-type": "multipart/form-data; boundary=x"}, 415),
    "UTF-16 as its charset": ({"content-type": "application/json; charset=utf-16"}, 415),
    "gzip": ({"content-encoding": "gzip"}, 415),
    "br": ({"content-encoding": "br"}, 415),
    "an id with spaces": ({"x-request-id": "a b c"}, 400),
    "an id that is an address": ({"x-request-id": "http://169.254.169.254/"}, 400),
    "an id that is very long": ({"x-request-id": "x" * 65}, 400),
    "an id that is empty": ({"x-request-id": ""}, 400),
    "a name that public DNS could give": ({"host": "rebound.example"}, 403),
    "an address within a public name": ({"host": "127.0.0.1.rebound.example:8000"}, 403),
    "a deadline that is a word": ({"x-request-timeout": "soon"}, 400),
    "a deadline of nan": ({"x-request-timeout": "nan"}, 400),
    "a deadline that is over": ({"x-request-timeout": "-1"}, 400),
    "a deadline without end": ({"x-request-timeout": "inf"}, 400),
    "150 headers": ({f"x-{number}": "1" for number in range(150)}, 431),
}

ROUTES: dict[str, tuple[str, str, int]] = {
    "a wrong path": ("GET", "/v1/nothing", 404),
    "no version": ("POST", "/completions", 404),
    "a slash behind": ("GET", "/v1/models/", 404),
    "two slashes": ("GET", "//v1/models", 404),
    "an encoded slash": ("GET", "/v1%2fmodels", 404),
    "dots": ("GET", "/health/../v1/models", 404),
    "encoded dots": ("GET", "/%2e%2e/etc/passwd", 404),
    "a NUL": ("GET", "/v1/models%00", 404),
    "a backslash": ("GET", "/v1%5cmodels", 404),
    "a model that is no name": ("GET", "/v1/models/%2e%2e%2f%2e%2e", 404),
    "GET where POST is meant": ("GET", "/v1/completions", 405),
    "DELETE": ("DELETE", "/v1/models", 405),
    "PATCH": ("PATCH", "/v1/chat/completions", 405),
    "a long URL": ("GET", "/v1/models?" + "x" * 9000, 414),
}

JSON = b"content-type: application/json\r\n"
POST = b"POST /v1/completions HTTP/1.1\r\nhost: localhost\r\n"
GET = b"GET /v1/models HTTP/1.1\r\nhost: localhost\r\n"
BOMB = gzip.compress(b"[" + b"0," * (8 << 20) + b"0]")
FLOOD = b"".join(b"x-%d: %s\r\n" % (number, b"y" * 1000) for number in range(2000))
CHUNK = b"10000\r\n" + b"a" * 0x10000 + b"\r\n"

WIRE: dict[str, tuple[bytes, int]] = {
    "what is no HTTP": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\r\n\r\n", 400),
    "two lengths": (POST + JSON + b"content-length: 2\r\ncontent-length: 20\r\n\r\n{}", 400),
    "a length that is no number": (POST + JSON + b"content-length: 1e3\r\n\r\n{}", 400),
    "a negative length": (POST + JSON + b"content-length: -1\r\n\r\n{}", 400),
    "a length, and chunks": (
        POST + JSON + b"content-length: 4\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        400,
    ),
    "two content types": (
        POST + JSON + b"content-type: text/plain\r\ncontent-length: 2\r\n\r\n{}",
        415,
    ),
    "no content type": (POST + b"content-length: 2\r\n\r\n{}", 415),
    "a bomb": (
        POST + JSON + b"content-encoding: gzip\r\ncontent-length: %d\r\n\r\n" % len(BOMB) + BOMB,
        415,
    ),
    "headers without end": (GET + FLOOD, 431),
    "one header without end": (GET + b"x: " + b"y" * 1_000_000, 431),
    "chunks without end": (
        POST + JSON + b"transfer-encoding: chunked\r\n\r\n" + CHUNK * 200,
        413,
    ),
    "a colour in an id": (GET + b"x-request-id: \x1b[31mred\r\n\r\n", 400),
    "two ids": (GET + b"x-request-id: a\r\nx-request-id: b\r\n\r\n", 400),
    "two hosts": (GET + b"host: rebound.example\r\n\r\n", 403),
    "a space in a header's name": (GET + b"x y: 1\r\n\r\n", 400),
    "a header in two lines": (GET + b"x-a: 1\r\n b: 2\r\n\r\n", 400),
    "a version of HTTP that is none": (b"GET /health HTTP/9.9\r\nhost: localhost\r\n\r\n", 400),
    "a method that is none": (b"FOX /v1/models HTTP/1.1\r\nhost: localhost\r\n\r\n", 400),
}

BEARER = b"authorization: Bearer "
KEYS: dict[str, tuple[bytes, int]] = {
    "no key": (GET + b"\r\n", 401),
    "an empty key": (GET + BEARER + b"\r\n\r\n", 401),
    "a wrong key": (GET + BEARER + b"wrong\r\n\r\n", 401),
    "the key and more": (GET + BEARER + b"KEY1\r\n\r\n", 401),
    "the key in small letters": (GET + BEARER + b"key\r\n\r\n", 401),
    "another scheme": (GET + b"authorization: Basic KEY\r\n\r\n", 401),
    "the key twice": (GET + (BEARER + b"KEY\r\n") * 2 + b"\r\n", 401),
    "no key, on the tokenizer's route": (
        b"POST /tokenize HTTP/1.1\r\nhost: localhost\r\n" + JSON + b"content-length: 2\r\n\r\n{}",
        401,
    ),
    "no key, and a route that is none": (b"GET /nothing HTTP/1.1\r\nhost: localhost\r\n\r\n", 401),
    "no key, and two slashes": (b"GET //v1/models HTTP/1.1\r\nhost: localhost\r\n\r\n", 404),
    "no key, and an encoded slash": (
        b"GET /v1%2fmodels HTTP/1.1\r\nhost: localhost\r\n\r\n",
        404,
    ),
    "no key, by way of an open route": (
        b"GET /health/../v1/models HTTP/1.1\r\nhost: localhost\r\n\r\n",
        404,
    ),
}
