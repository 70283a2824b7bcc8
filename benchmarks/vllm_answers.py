"""Asks a server, and tells how the answers of two differ: for `against_vllm.py` and its test."""

import http.client
import json
import re
from collections.abc import Iterator
from typing import Any

from vllm_requests import Case

HEADERS = ("content-type", "retry-after", "allow", "www-authenticate")
LITERAL = {"object", "role", "finish_reason", "stop_reason"}  # what of an event is told as it is
FREE = {"id", "created", "message", "detail", "system_fingerprint"}  # only their type is compared
BY_TOKEN = {"top_logprobs", "prompt_logprobs"}  # objects whose keys are tokens
TOLERANCE = 1e-3  # of log-probabilities: float32, summed in different orders

Address = tuple[str, int]


def ask(address: Address, case: Case) -> dict[str, Any]:
    """{"status", "headers", "body"}; a body is JSON, {"events": …}, {"metrics": …} or a text."""
    connection = http.client.HTTPConnection(*address, timeout=60)
    try:
        connection.request(case.method, case.path, case.body, case.headers)
        answer = connection.getresponse()
        content = answer.read().decode()
    finally:
        connection.close()
    headers = {name: answer.headers[name] for name in HEADERS if name in answer.headers}
    kind = answer.headers.get_content_type() if content else ""
    if kind == "text/event-stream":
        body: Any = folded(content)
    elif case.path == "/metrics":
        body = {"metrics": dict(re.findall(r"^# TYPE (vllm:\S+) (\S+)", content, re.MULTILINE))}
    else:
        body = json.loads(content) if kind == "application/json" else content
    return {"status": answer.status, "headers": headers, "body": body}


def folded(stream: str) -> dict[str, Any]:
    """A stream without what depends on when its tokens came: of each choice the shapes of its
    events, like neighbours as one, and its text."""
    datas = [line[6:] for line in stream.split("\n") if line.startswith("data: ")]
    events: dict[str, list[Any]] = {}
    texts: dict[str, str] = {}
    usage = None
    for event in (json.loads(data) for data in datas if data != "[DONE]"):
        choices = event.get("choices")
        index = str(choices[0]["index"]) if choices else "none"
        shapes, found = events.setdefault(index, []), shape(event)
        if not shapes or shapes[-1] != found:
            shapes.append(found)
        for choice in choices or ():
            said = choice.get("text") or choice.get("delta", {}).get("content") or ""
            texts[index] = texts.get(index, "") + said
        usage = event.get("usage") or usage
    return {"events": events, "texts": texts, "usage": usage, "end": datas[-1][:6]}


def staged(body: Any, other: Any) -> Any:
    """A folded stream as its first and last events and those between, of which a quick server may
    have none.  A choice that all came at once, while it did not from the other, is left out."""
    if not isinstance(body, dict) or "events" not in body or "events" not in other:
        return body
    events = {}
    for index, kinds in body["events"].items():
        if (len(kinds) == 1) == (len(other["events"].get(index, ())) == 1):
            events[index] = {"first": kinds[0], "between": kinds[1:-1], "last": kinds[-1]}
    return {**body, "events": events}


def shape(value: Any, name: str = "") -> Any:
    """Types in place of values."""
    if isinstance(value, dict):
        if name in BY_TOKEN and "token" not in value:
            return {"TOKEN": shape(next(iter(value.values()), None))}
        return {key: shape(each, key) for key, each in value.items()}
    if isinstance(value, list):
        found: list[Any] = []
        for each in value:
            if (kind := shape(each, name)) not in found:
                found.append(kind)
        return found
    return value if name in LITERAL or value is None else kind_of(value)


def kind_of(value: Any) -> str:
    if value is None:
        return "null"
    kinds = {bool: "a truth", int: "a number", float: "a number", str: "a text"}
    return {**kinds, dict: "an object", list: "a list"}[type(value)]


def differences(ours: Any, theirs: Any, is_exact: bool, path: str = "") -> Iterator[str]:
    """How two bodies differ, in words; a path has no indices, so that alike ones become one."""
    name = path.rpartition(".")[2]
    if isinstance(ours, dict) and isinstance(theirs, dict):
        if name in BY_TOKEN and not is_exact:
            ours, theirs = shape(ours, name), shape(theirs, name)
        yield from _of_objects(ours, theirs, is_exact, path)
    elif isinstance(ours, list) and isinstance(theirs, list):
        if is_exact and len(ours) != len(theirs) and name != "between":
            yield f"{path}: {len(ours)} elements, vLLM {len(theirs)}"
        count = None if is_exact else 1
        for one, other in zip(ours[:count], theirs[:count], strict=False):
            yield from differences(one, other, is_exact, path)
    elif kind_of(ours) != kind_of(theirs):
        yield f"{path}: {kind_of(ours)}, vLLM {kind_of(theirs)}"
    elif is_exact and name not in FREE and not _are_equal(ours, theirs):
        yield f"{path}: {ours!r}, vLLM {theirs!r}"


def _of_objects(ours: dict, theirs: dict, is_exact: bool, path: str) -> Iterator[str]:
    for key in {**theirs, **ours}:
        place = path if key.isdigit() else f"{path}.{key}" if path else key
        if key not in theirs:
            yield f"{place}: only ours"
        elif key not in ours:
            yield f"{place}: only vLLM's"
        else:
            # what a thing is, and how it ended, is no matter of chance
            yield from differences(ours[key], theirs[key], is_exact or key in LITERAL, place)


def _are_equal(ours: Any, theirs: Any) -> bool:
    if isinstance(ours, float) or isinstance(theirs, float):
        return abs(ours - theirs) <= TOLERANCE
    return ours == theirs


def compared(case: Case, ours: dict[str, Any], theirs: dict[str, Any]) -> list[str]:
    """How two answers differ.  Of two statuses nothing more is told."""
    if ours["status"] != theirs["status"]:
        return [f"status: {ours['status']}, vLLM {theirs['status']}"]
    headers = differences(ours["headers"], theirs["headers"], True, "header")
    is_error = ours["status"] >= 400
    mine, its = ours["body"], theirs["body"]
    body = differences(staged(mine, its), staged(its, mine), case.is_exact or is_error)
    return list(dict.fromkeys([*headers, *body]))
