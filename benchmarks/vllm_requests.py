"""The fixed list of requests that jpaged and vLLM are both asked, for `against_vllm.py`.

Most are greedy, so that two servers with one model must say the same words.  The malformed ones are
those of `tests/server/malformed.py`.
"""

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).parents[1] / "tests" / "server"))
import malformed  # noqa: E402  # pyright: ignore[reportMissingImports]

JSON = {"content-type": "application/json"}
PROMPT = "Once upon a time there was a"
TEXT = {"model": "demo", "prompt": PROMPT, "temperature": 0, "max_tokens": 8}
HELLO = [{"role": "user", "content": "Tell me a story about a fox."}]
CHAT = {"model": "demo", "messages": HELLO, "temperature": 0, "max_tokens": 8}
SAMPLED = {"temperature": 0.8, "seed": 7}
USAGE = {"stream_options": {"include_usage": True}}
CONTINUOUS = {"stream_options": {"include_usage": True, "continuous_usage_stats": True}}
IDS = [20, 21, 22, 23, 24]
WEATHER = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
PARTS = [{"type": "text", "text": "Tell me a story"}, {"type": "text", "text": "about a fox."}]
BEGUN = [*HELLO, {"role": "assistant", "content": "There once was"}]

# fields over TEXT
COMPLETIONS: dict[str, dict[str, Any]] = {
    "greedy": {},
    "no model": {"model": None},
    "unknown model": {"model": "nothing"},
    "no max_tokens": {"max_tokens": None},
    "a token": {"max_tokens": 1},
    "several prompts": {"prompt": [PROMPT, "One day"]},
    "token ids": {"prompt": IDS},
    "several lists of token ids": {"prompt": [IDS, IDS[:2]]},
    "special tokens in a text": {"prompt": "<|user|>Hi<|end|><|assistant|>"},
    "no special tokens added": {"add_special_tokens": False},
    "n": {"n": 2, **SAMPLED},
    "n, several prompts": {"n": 2, "prompt": [PROMPT, "One day"], **SAMPLED},
    "n, greedy": {"n": 2},
    "best_of": {"best_of": 2, **SAMPLED},
    "echo": {"echo": True},
    "echo of token ids": {"echo": True, "prompt": IDS},
    "echo alone": {"echo": True, "max_tokens": 0},
    "echo with logprobs": {"echo": True, "logprobs": 2},
    "echo with logprobs alone": {"echo": True, "logprobs": 1, "max_tokens": 0},
    "echo with logprobs, one token": {"echo": True, "logprobs": 1, "max_tokens": 1},
    "logprobs 0": {"logprobs": 0},
    "logprobs 3": {"logprobs": 3},
    "prompt_logprobs": {"prompt_logprobs": 1},
    "prompt_logprobs 0": {"prompt_logprobs": 0},
    "return_token_ids": {"return_token_ids": True},
    "return_tokens_as_token_ids": {"return_tokens_as_token_ids": True, "logprobs": 1},
    "stop": {"stop": " a", "max_tokens": 24},
    "stop, included": {
        "stop": [" a", " was"],
        "max_tokens": 24,
        "include_stop_str_in_output": True,
    },
    "stop_token_ids": {"stop_token_ids": list(range(300, 700)), "max_tokens": 24},
    "the end": {"logit_bias": {"0": 100}},
    "the end, ignored": {"logit_bias": {"0": 100}, "ignore_eos": True},
    "the end, shown": {"logit_bias": {"2": 100}, "skip_special_tokens": False},
    "min_tokens": {"logit_bias": {"0": 100}, "min_tokens": 3},
    "allowed_token_ids": {"allowed_token_ids": IDS},
    "bad_words": {"bad_words": ["little"]},
    "penalties": {"presence_penalty": 1, "frequency_penalty": 0.5, "repetition_penalty": 1.2},
    "sampled": {"top_p": 0.9, "top_k": 20, "min_p": 0.01, **SAMPLED},
    "truncate_prompt_tokens": {"truncate_prompt_tokens": 3, "echo": True},
    "request_id": {"request_id": "mine"},
    "priority": {"priority": 5},
    "cache_salt": {"cache_salt": "salt"},
    "user": {"user": "me"},
    "suffix": {"suffix": "The end."},
    "suffix, empty": {"suffix": ""},
    "response_format text": {"response_format": {"type": "text"}},
    "max_tokens over the context": {"max_tokens": 5000},
    "a prompt of all the context": {"prompt": [20] * 1024, "max_tokens": None},
    "OpenAI's metadata": {"metadata": {"a": "b"}, "store": False, "service_tier": "auto"},
    "stream": {"stream": True},
    "stream, usage": {"stream": True, **USAGE},
    "stream, usage all the time": {"stream": True, **CONTINUOUS},
    "stream, n": {"stream": True, "n": 2, **SAMPLED},
    "stream, several prompts": {"stream": True, "prompt": [PROMPT, "One day"], **USAGE},
    "stream, logprobs": {"stream": True, "logprobs": 2},
    "stream, echo": {"stream": True, "echo": True},
    "stream, echo with logprobs": {"stream": True, "echo": True, "logprobs": 1},
    "stream, stop": {"stream": True, "stop": " a", "max_tokens": 24},
    "stream, the end": {"stream": True, "logit_bias": {"0": 100}, "min_tokens": 2},
    "stream, return_token_ids": {"stream": True, "return_token_ids": True},
    "stream, unknown model": {"stream": True, "model": "nothing"},
}

# fields over CHAT
CHATS: dict[str, dict[str, Any]] = {
    "greedy": {},
    "no model": {"model": None},
    "unknown model": {"model": "nothing"},
    "system": {"messages": [{"role": "system", "content": "Be brief."}, *HELLO]},
    "a role that the template refuses": {"messages": [{"role": "tool", "content": "Hi"}]},
    "parts": {"messages": [{"role": "user", "content": PARTS}]},
    "an assistant's message": {"messages": [*BEGUN, *HELLO]},
    "max_completion_tokens": {"max_tokens": None, "max_completion_tokens": 3},
    "n": {"n": 2, **SAMPLED},
    "logprobs": {"logprobs": True},
    "top_logprobs": {"logprobs": True, "top_logprobs": 2},
    "top_logprobs 0": {"logprobs": True, "top_logprobs": 0},
    "prompt_logprobs": {"prompt_logprobs": 1},
    "return_token_ids": {"return_token_ids": True},
    "stop": {"stop": [" a"], "max_tokens": 24},
    "the end": {"logit_bias": {"2": 100}, "min_tokens": 2},
    "seed": SAMPLED,
    "no generation prompt": {"add_generation_prompt": False},
    "a message gone on with": {
        **{"messages": BEGUN, "add_generation_prompt": False},
        "continue_final_message": True,
    },
    "a message gone on with, echo": {
        **{"messages": BEGUN, "add_generation_prompt": False},
        **{"continue_final_message": True, "echo": True},
    },
    "response_format text": {"response_format": {"type": "text"}},
    "tool_choice none": {"tools": [WEATHER], "tool_choice": "none"},
    "tool_choice auto": {"tools": [WEATHER], "tool_choice": "auto"},
    "OpenAI's metadata": {"metadata": {"a": "b"}, "store": False, "parallel_tool_calls": True},
    "stream": {"stream": True},
    "stream, usage": {"stream": True, **USAGE},
    "stream, usage all the time": {"stream": True, **CONTINUOUS},
    "stream, n": {"stream": True, "n": 2, **SAMPLED},
    "stream, logprobs": {"stream": True, "logprobs": True, "top_logprobs": 1},
    "stream, return_token_ids": {"stream": True, "return_token_ids": True},
    "stream, stop": {"stream": True, "stop": " a", "max_tokens": 24},
    "stream, the end": {"stream": True, "logit_bias": {"2": 100}, "min_tokens": 2},
    "stream, a message gone on with, echo": {
        **{"messages": BEGUN, "add_generation_prompt": False, "stream": True},
        **{"continue_final_message": True, "echo": True},
    },
    "stream, unknown model": {"stream": True, "model": "nothing"},
}

OTHERS: dict[str, tuple[str, str, Any]] = {
    "tokenize": ("POST", "/tokenize", {"model": "demo", "prompt": PROMPT}),
    "tokenize, no model": ("POST", "/tokenize", {"prompt": PROMPT}),
    "tokenize, with texts": ("POST", "/tokenize", {"prompt": PROMPT, "return_token_strs": True}),
    "tokenize, none added": ("POST", "/tokenize", {"prompt": PROMPT, "add_special_tokens": False}),
    "tokenize a chat": ("POST", "/tokenize", {"messages": HELLO}),
    "tokenize an unfinished chat": (
        *("POST", "/tokenize"),
        {"messages": BEGUN, "add_generation_prompt": False, "continue_final_message": True},
    ),
    "tokenize for an unknown model": ("POST", "/tokenize", {"model": "nothing", "prompt": "Hi"}),
    "detokenize": ("POST", "/detokenize", {"model": "demo", "tokens": IDS}),
    "detokenize special ones": ("POST", "/detokenize", {"tokens": [0, 4, *IDS]}),
    "detokenize nothing": ("POST", "/detokenize", {"tokens": []}),
    "models": ("GET", "/v1/models", None),
    "health": ("GET", "/health", None),
    "ping": ("GET", "/ping", None),
    "ping by POST": ("POST", "/ping", None),
    "version": ("GET", "/version", None),
    "load": ("GET", "/load", None),
    "metrics": ("GET", "/metrics", None),
    "an embedding": ("POST", "/v1/embeddings", {"model": "demo", "input": "Hi"}),
    "HEAD of health": ("HEAD", "/health", None),
    "OPTIONS of completions": ("OPTIONS", "/v1/completions", None),
}


@dataclass(frozen=True)
class Case:
    """is_exact: two servers of one model must say the same."""

    name: str
    method: str
    path: str
    body: bytes | None
    headers: dict[str, str] = field(default_factory=lambda: JSON)
    is_exact: bool = True


def cases() -> Iterator[Case]:
    for route, base, kind, more in (
        ("/v1/completions", TEXT, "completion", COMPLETIONS),
        ("/v1/chat/completions", CHAT, "chat", CHATS),
    ):
        for name, fields in more.items():
            body = {key: value for key, value in {**base, **fields}.items() if value is not None}
            is_exact = body["temperature"] == 0
            yield _posted(f"{kind}: {name}", route, body, is_exact)
    for name, (method, path, body) in OTHERS.items():
        yield Case(name, method, path, None if body is None else json.dumps(body).encode())
    yield from _malformed()


def _posted(name: str, path: str, body: Any, is_exact: bool) -> Case:
    return Case(name, "POST", path, json.dumps(body).encode(), is_exact=is_exact)


def _malformed() -> Iterator[Case]:
    for name, (path, body) in malformed.FIELDS.items():
        yield _posted(f"malformed: {name}", path, body, False)
    post = ("POST", "/v1/completions")
    for name, (content, _) in malformed.BODIES.items():
        yield Case(f"malformed body: {name}", *post, content, is_exact=False)
    for name, (headers, _) in malformed.HEADERS.items():
        body = json.dumps(malformed.TEXT).encode()
        yield Case(f"malformed header: {name}", *post, body, {**JSON, **headers}, False)
    for name, (method, path, _) in malformed.ROUTES.items():
        yield Case(f"malformed route: {name}", method, path, None, {}, False)
