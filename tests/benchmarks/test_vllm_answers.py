"""The comparison with vLLM's answers sees what differs, and only that."""

import copy
from typing import Any

from vllm_answers import compared, folded
from vllm_requests import Case

GREEDY = Case("greedy", "POST", "/v1/completions", b"{}")
SAMPLED = Case("sampled", "POST", "/v1/completions", b"{}", is_exact=False)
CHOICE = {"index": 0, "text": " fox", "finish_reason": "length", "token_ids": [7, 8]}
LOGPROBS = {"top_logprobs": [{" fox": -0.5}]}
BODY = {"id": "cmpl-1", "created": 5, "choices": [{**CHOICE, "logprobs": LOGPROBS}]}
ANSWER = {"status": 200, "headers": {"content-type": "application/json"}, "body": BODY}


def with_choice(**fields: Any) -> dict[str, Any]:
    answer = copy.deepcopy(ANSWER)
    answer["body"]["choices"][0].update(fields)
    return answer


def stream(*texts: str, ends: bool = True) -> dict[str, Any]:
    chunks = [f'{{"choices": [{{"index": 0, "text": "{text}"}}]}}' for text in texts]
    last = '{"choices": [{"index": 0, "text": "", "finish_reason": "stop"}]}'
    events = [*chunks, last, *(["[DONE]"] if ends else [])]
    return {**ANSWER, "body": folded("".join(f"data: {event}\n\n" for event in events))}


def test_equal_answers_differ_in_nothing():
    other = copy.deepcopy(ANSWER)
    other["body"] |= {"id": "cmpl-2", "created": 6}

    assert compared(GREEDY, ANSWER, other) == []


def test_every_word_token_and_figure_of_a_greedy_answer_counts():
    assert compared(GREEDY, ANSWER, with_choice(text=" dog")) == [
        "choices.text: ' fox', vLLM ' dog'"
    ]
    assert compared(GREEDY, ANSWER, with_choice(token_ids=[7, 9])) == [
        "choices.token_ids: 8, vLLM 9"
    ]
    assert compared(GREEDY, ANSWER, with_choice(token_ids=[7])) != []
    assert compared(GREEDY, ANSWER, with_choice(logprobs={"top_logprobs": [{" fox": -0.6}]})) != []
    assert compared(GREEDY, ANSWER, with_choice(logprobs={"top_logprobs": [{" dog": -0.5}]})) != []


def test_of_a_drawn_answer_the_types_and_the_end_count():
    drawn = with_choice(text=" dog", logprobs={"top_logprobs": [{" dog": -3.5}]})

    assert compared(SAMPLED, ANSWER, drawn) == []
    assert compared(SAMPLED, ANSWER, with_choice(finish_reason="stop")) == [
        "choices.finish_reason: 'length', vLLM 'stop'"
    ]
    assert compared(SAMPLED, ANSWER, with_choice(text=None)) == ["choices.text: a text, vLLM null"]


def test_statuses_headers_and_keys_count():
    assert compared(SAMPLED, ANSWER, {**ANSWER, "status": 400}) == ["status: 200, vLLM 400"]
    assert compared(SAMPLED, ANSWER, {**ANSWER, "headers": {}}) == [
        "header.content-type: only ours"
    ]
    assert compared(SAMPLED, ANSWER, with_choice(stop_reason=None)) == [
        "choices.stop_reason: only vLLM's"
    ]


def test_a_stream_may_come_in_other_pieces_but_says_and_ends_the_same():
    assert compared(GREEDY, stream("a", "b", "c"), stream("ab", "c")) == []
    assert compared(GREEDY, stream("a", "b"), stream("a", "c")) == ["texts: 'ab', vLLM 'ac'"]
    assert len(compared(GREEDY, stream("a"), stream("a", ends=False))) == 1
