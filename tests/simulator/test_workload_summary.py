"""What a summary says of workloads whose figures can be told by hand."""

import pytest
from alone import num_findable, serve_alone

from jpaged.scheduling.terms import Terms
from jpaged.simulator.workload import (
    TimedRequest,
    gamma,
    mix,
    poisson,
    sessions,
    shared_prefix_tree,
    summary,
)


def plain(name: str, arrival: float, prompt: tuple[int, ...], num_output: int = 1, **rest):
    return TimedRequest(name, arrival, prompt, num_output, **rest)


def test_counts_rates_and_lengths_by_hand():
    lengths = [10, 20, 30, 40, 100]
    workload = [
        plain(str(i), 2.0 * i + 5, tuple(range(1000 * i, 1000 * i + n)), n // 10)
        for i, n in enumerate(lengths)
    ]
    found = summary(workload)

    assert (found.num_requests, found.num_arrivals) == (5, 5)
    assert (found.seconds, found.rate, found.burstiness) == (8.0, 0.5, 0.0)
    assert (found.prompts.mean, found.prompts.p50, found.prompts.most) == (40.0, 30, 100)
    assert (found.outputs.mean, found.outputs.p50, found.outputs.most) == (4.0, 3, 10)
    assert found.shareable == 0.0


def test_burstiness_is_the_variation_of_gaps():
    assert summary(gamma(3.0, 2.5, 6000, 1, 1)).burstiness == pytest.approx(2.5, rel=0.1)
    # gaps 1 and 3: a deviation of 1 around a mean of 2
    workload = [plain(str(i), at, (i,)) for i, at in enumerate([0.0, 1.0, 4.0])]
    assert summary(workload).burstiness == pytest.approx(0.5)


def test_later_turns_count_with_all_that_was_said_before():
    workload = sessions(1.0, 8, num_turns=3, prompt_len=10, output_len=5)
    found = summary(workload)
    assert (found.num_requests, found.num_arrivals) == (24, 8)
    assert found.prompts.mean == (10 + 25 + 40) / 3
    assert found.shareable == pytest.approx((0 + 15 + 30) / (10 + 25 + 40))


def test_what_could_be_shared_is_what_a_cache_without_limits_finds():
    workload = shared_prefix_tree(1.0, 40, (1, 3), (32, 20), prompt_len=25, output_len=3)
    prompts = [tuple(each.prompt) for each in workload]

    shareable = summary(workload).shareable

    assert shareable == sum(num_findable(prompts)) / sum(map(len, prompts))
    assert shareable == pytest.approx(serve_alone(workload).summary()["hit_rate"])


def test_plain_prompts_are_compared_by_chunks():
    prompt = tuple(range(40))
    workload = [plain("a", 0.0, prompt), plain("b", 1.0, (*prompt[:35], 99, 98, 97, 96, 95))]
    assert summary(workload).shareable == 32 / 80
    again = [plain("a", 0.0, prompt), plain("b", 1.0, prompt)]
    assert summary(again).shareable == 39 / 80  # the last token is always computed


def test_it_prints_a_table_with_a_row_a_client():
    workload = mix(poisson(2.0, 30, terms=Terms("greedy")), poisson(1.0, 10, 5, 5))
    text = str(summary(workload))
    assert text == repr(summary(workload))
    assert "40 arrivals in" in text
    greedy, nobody = text.splitlines()[-2:]
    assert greedy.split()[:2] == ["greedy", "30"] and nobody.split()[:2] == ["(none)", "10"]
    assert max(map(len, text.splitlines())) <= 80


def test_many_clients_are_cut_off():
    workload = [plain(str(i), i, (i,), terms=Terms(f"c{i}")) for i in range(20)]
    assert str(summary(workload)).endswith("and 8 more")


def test_one_request_and_none_have_summaries():
    assert summary([]).num_requests == 0 and "0 arrivals" in str(summary([]))
    assert summary([plain("a", 3.0, (1, 2))]).rate == 0.0


def test_an_iterator_will_do():
    assert summary(iter(poisson(1.0, 50))) == summary(poisson(1.0, 50))
