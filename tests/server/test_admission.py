"""Who may queue: the bounds, what is told when they are reached, and deadlines."""

import asyncio
import random
import time
from typing import Any

import httpx
import pytest
from servers import Running, events, eventually, running

from jpaged.errors import RequestRejected
from jpaged.server.admission import Admission
from jpaged.server.errors import Overloaded

SLOW = {"pretend": "constant:0.02", "max_num_seqs": 4}
LONG = {"prompt": "Once upon a time", "max_tokens": 100, "ignore_eos": True}
SAID = {**LONG, "stream": True}


def at_once(server: Running, bodies: list[dict[str, Any]], **headers: str) -> list[httpx.Response]:
    async def ask() -> list[httpx.Response]:
        async with httpx.AsyncClient(base_url=server.url, trust_env=False, timeout=30) as client:
            return await asyncio.gather(
                *(client.post("/v1/completions", json=body, headers=headers) for body in bodies)
            )

    return asyncio.run(ask())


@pytest.mark.parametrize("is_stream", [False, True])
def test_of_sixteen_at_once_those_that_do_not_fit_are_sent_away(is_stream: bool):
    with running(SLOW, max_num_queued_reqs=4) as server:
        bodies = [{**LONG, "max_tokens": 20, "stream": is_stream}] * 16
        answers = at_once(server, bodies)

        codes = sorted(answer.status_code for answer in answers)
        assert codes == [200] * codes.count(200) + [503] * codes.count(503)
        # four queue; those that got a seat meanwhile make room for others
        assert 4 <= codes.count(200) <= 12
        for answer in answers:
            if answer.status_code == 503:
                assert int(answer.headers["retry-after"]) >= 1
                assert answer.headers["content-type"] == "application/json"
                assert answer.json()["error"]["code"] == 503
            elif is_stream:
                assert events(answer.text)[-1] == "[DONE]"
        admission = server.service.models.find("").admission
        assert admission.refused.total() == codes.count(503)
        assert eventually(lambda: admission.num_queued == admission.num_live == 0)
        [again] = at_once(server, [{**LONG, "max_tokens": 2}])
        assert again.status_code == 200


def test_the_tokens_of_waiting_prompts_are_bounded_too():
    with running(SLOW, max_num_queued_tokens=100) as server:
        prompts = [{"prompt": [number + 5] * 60, "max_tokens": 50} for number in range(8)]
        codes = [answer.status_code for answer in at_once(server, prompts)]

        assert set(codes) == {200, 503}
        too_many = at_once(server, [{"prompt": [5] * 101}])[0]
        assert too_many.status_code == 400
        assert "101 tokens" in too_many.json()["error"]["message"]


def test_all_prompts_of_a_request_are_let_in_or_none():
    with running(SLOW, max_num_queued_reqs=4) as server:
        [refused] = at_once(server, [{**LONG, "prompt": ["a"] * 5}])

        assert refused.status_code == 400
        assert server.service.live == set()
        assert server.service.models.find("").admission.num_live == 0


def test_one_key_cannot_take_all_places():
    with running(SLOW, api_key=("a", "b"), max_requests_per_key=2) as server:
        answers = at_once(server, [{**LONG, "max_tokens": 10}] * 5, authorization="Bearer a")
        [other] = at_once(server, [{**LONG, "max_tokens": 2}], authorization="Bearer b")

        codes = sorted(answer.status_code for answer in answers)
        assert codes == [200, 200, 429, 429, 429]
        refused = next(answer for answer in answers if answer.status_code == 429)
        assert refused.json()["error"]["type"] == "RateLimitError"
        assert int(refused.headers["retry-after"]) >= 1
        assert other.status_code == 200


@pytest.fixture(scope="module")
def slow_server():
    with running({**SLOW, "max_num_seqs": 1}) as server:
        yield server


@pytest.mark.parametrize("by", ["field", "header"])
def test_what_takes_too_long_is_given_up(slow_server: Running, by: str):
    body = {**LONG, "timeout": 0.1} if by == "field" else LONG
    headers = {"x-request-timeout": "0.1"} if by == "header" else {}
    start = time.monotonic()

    [answer] = at_once(slow_server, [body], **headers)

    assert answer.status_code == 504
    assert "0.1 seconds" in answer.json()["error"]["message"]
    assert time.monotonic() - start < 1
    assert eventually(lambda: slow_server.num_pages_held() == 0)


def test_a_stream_that_takes_too_long_ends_with_an_error(slow_server: Running):
    [answer] = at_once(slow_server, [{**LONG, "timeout": 0.2, "stream": True}])

    *said, last = events(answer.text)
    assert answer.status_code == 200
    assert len(said) >= 2
    assert last["error"]["code"] == 504
    assert "[DONE]" not in answer.text
    assert all(each["choices"][0]["finish_reason"] is None for each in said)


def test_a_stream_that_waits_too_long_is_an_error_from_the_start(slow_server: Running):
    with slow_server.client() as http, http.stream("POST", "/v1/completions", json=SAID) as first:
        lines = first.iter_lines()  # to forget it is to leave
        next(lines)  # it runs, and there is one seat
        [second] = at_once(slow_server, [{**LONG, "timeout": 0.1, "stream": True}])

    assert first.status_code == 200
    assert second.status_code == 504


def test_the_urgent_go_first():
    options = {"pretend": "constant:0.01", "max_num_seqs": 1, "policy": "priority"}
    with running(options) as server:
        ended: list[str] = []
        server.service.listeners.append(lambda started, _: ended.append(started.ask.request_id))
        bodies = [
            {**LONG, "max_tokens": 5, "priority": priority, "request_id": f"p{priority}"}
            for priority in (9, 5, 1)
        ]
        blocker = {**LONG, "max_tokens": 30, "priority": -5, "request_id": "blocker"}
        at_once(server, [blocker, *bodies])

    order = [each.removeprefix("cmpl-").removesuffix("-0") for each in ended]
    assert order == ["blocker", "p1", "p5", "p9"]


def test_tickets_add_up_whatever_happens():
    chance = random.Random(5)
    admission = Admission(20, 500, max_of_client=8)
    tickets: list = []
    for step in range(3000):
        act = chance.random()
        if act < 0.5:
            sizes = [chance.randrange(1, 60) for _ in range(chance.randrange(1, 4))]
            try:
                tickets += admission.enter(sizes, chance.choice("abc"), now=step)
            except Overloaded as error:
                assert 1 <= error.retry_after <= 60
        elif tickets and act < 0.75:
            admission.begin(chance.choice(tickets), now=step)
        elif tickets:
            admission.leave(tickets.pop(chance.randrange(len(tickets))))
        queued = [ticket for ticket in tickets if ticket.is_queued]
        assert admission.num_queued == len(queued) <= 20
        assert admission.num_queued_tokens == sum(each.num_tokens for each in queued) <= 500
        assert admission.num_live == len(tickets)
        assert max(admission.of_client.values(), default=0) <= 8
        assert sum(admission.of_client.values()) == len(tickets)
    for ticket in tickets:
        admission.leave(ticket)
    assert (admission.num_queued, admission.num_live, len(admission.of_client)) == (0, 0, 0)
    with pytest.raises(RequestRejected, match="21 prompts"):
        admission.enter([1] * 21, "", now=0)
