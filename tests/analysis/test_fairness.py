"""Fairness between clients, by hand."""

import pytest
from runs import a_request_record, a_run

from jpaged.analysis.fairness import jain, service_by_client, service_over_time


@pytest.mark.parametrize(
    ("shares", "index"),
    [
        ([1, 2, 3], 36 / (3 * 14)),
        ([5, 5, 5, 5], 1.0),
        ([7, 0, 0, 0], 1 / 4),
        ([], 1.0),
        ([0, 0], 1.0),
    ],
)
def test_jains_index(shares, index):
    assert jain(shares) == pytest.approx(index)


def test_jains_index_does_not_depend_on_the_unit():
    assert jain([0.1, 0.7, 0.2]) == pytest.approx(jain([100, 700, 200]))


def test_service_is_prompt_tokens_once_and_output_tokens_twice():
    ended = [
        a_request_record(client="a", num_prompt=10, num_output=3),
        a_request_record(client="a", num_prompt=1, num_output=1),
        a_request_record(client="b", num_prompt=5, num_output=5),
        a_request_record(client="b", num_prompt=99, num_output=0, first_token=None),
    ]
    assert service_by_client(ended) == {"a": 10 + 6 + 1 + 2, "b": 5 + 10}


def test_service_comes_with_the_tokens():
    record = a_request_record(num_prompt=10, num_output=3, token_times=(2.0, 4.0, 6.0))
    assert service_over_time([record], [1.9, 2.0, 3.9, 4.0, 6.0]) == {"": [0, 12, 12, 14, 16]}


def test_without_times_tokens_are_taken_to_be_evenly_apart():
    kept = a_request_record(num_output=5, token_times=(2.0, 3.0, 4.0, 5.0, 6.0))
    times = [1.5, 2.5, 3.5, 4.5, 5.5, 6.5]
    assert service_over_time([a_request_record(num_output=5)], times) == service_over_time(
        [kept], times
    )


def test_in_the_end_all_service_has_come():
    ended = a_run().ended
    last = max(each.last_token or 0.0 for each in ended)
    over_time = service_over_time(ended, [last])
    assert {client: values[-1] for client, values in over_time.items()} == service_by_client(ended)
