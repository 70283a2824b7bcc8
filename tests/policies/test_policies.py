"""The policies that come with the engine: what each promises, on schedules small enough to read."""

import math
from typing import Any

import pytest
from filler import a_request, a_scheduler, add, counts, names, run, step

from jpaged import policies
from jpaged.errors import ConfigError
from jpaged.policies import Fcfs, Headroom, PrefillFirst, Priority, Sarathi, ShortestFirst
from jpaged.scheduling.request import Sequence


def order_of_ends(scheduler, sequences: list[Sequence]) -> str:
    """The ids in order of finishing; those that end in one step in order of arrival."""
    run(scheduler)
    ends = sorted(sequences, key=lambda s: (s.timing.last_token, s.serial))
    return names(ends)


def steps_until_end(scheduler, sequence: Sequence, name: str, most: int, **small) -> int:
    """Adds a small request before every step and counts the steps until `sequence` ends."""
    for now in range(most):
        if sequence.is_finished:
            return now
        add(scheduler, f"{name} {now}", arrival=float(now), **small)
        step(scheduler, now=float(now))
    return most


def test_fcfs_admits_in_order_of_arrival():
    scheduler = a_scheduler(max_num_seqs=2, policy=Fcfs())
    sequences = [
        add(scheduler, name, prompt=n, max_tokens=2)
        for name, n in zip("abcd", (9, 1, 5, 1), strict=True)
    ]

    assert order_of_ends(scheduler, sequences) == "abcd"


def test_fcfs_serves_the_running_before_the_waiting():
    scheduler = a_scheduler(max_num_batched_tokens=4, policy=Fcfs())
    add(scheduler, "a", prompt=6)
    add(scheduler, "b", prompt=3)

    ran = [counts(step(scheduler)) for _ in range(3)]

    assert ran == [{"a": 4}, {"a": 2, "b": 2}, {"a": 1, "b": 1}]


@pytest.mark.parametrize("policy", [Priority(), Priority(aging=math.inf)], ids=["aging", "strict"])
def test_priority_runs_the_lowest_number_first(policy):
    scheduler = a_scheduler(max_num_seqs=1, policy=policy)
    for name, priority in (("a", 5), ("b", 0), ("c", -3), ("d", 0)):
        add(scheduler, name, max_tokens=1, priority=priority)

    assert "".join(names(s for s, _ in batch.items) for batch in run(scheduler)) == "cbda"


@pytest.mark.parametrize(("aging", "steps"), [(5.0, 11), (math.inf, 40)])
def test_under_priority_the_patient_win_unless_it_is_strict(aging, steps):
    scheduler = a_scheduler(max_num_seqs=1, policy=Priority(aging))
    patient = add(scheduler, "patient", max_tokens=1, priority=2)

    taken = steps_until_end(scheduler, patient, "urgent", 40, max_tokens=1, priority=0)

    # 2 · 5 seconds later it ranks with the newest urgent one, and it came first
    assert taken == steps


@pytest.mark.parametrize("aging", [0, -1.0, math.nan])
def test_an_ageing_that_cannot_be_is_refused_with_the_way_out(aging):
    with pytest.raises(ConfigError, match="above 0 seconds.*inf means none"):
        Priority(aging)


def test_priority_takes_pages_from_the_least_urgent():
    scheduler = a_scheduler(num_pages=4, page_size=4, policy=Priority())
    for name, priority in (("a", 0), ("b", 9), ("c", 1)):
        add(scheduler, name, max_tokens=9, priority=priority)
    step(scheduler)

    assert names(step(scheduler).preempted) == "b"


def test_shortest_first_ends_the_short_ones_sooner_than_fcfs():
    ends = []
    for policy in (Fcfs(), ShortestFirst(aging=0)):
        scheduler = a_scheduler(max_num_seqs=1, policy=policy)
        sizes = zip("abc", (30, 20, 10), strict=True)
        sequences = [add(scheduler, name, prompt=n, max_tokens=2) for name, n in sizes]
        ends.append(order_of_ends(scheduler, sequences))

    assert ends == ["abc", "cba"]


def test_shortest_first_decodes_everyone_before_any_prompt():
    scheduler = a_scheduler(max_num_batched_tokens=4, policy=ShortestFirst())
    add(scheduler, "a", prompt=2)
    add(scheduler, "b", prompt=2)
    step(scheduler)
    add(scheduler, "c", prompt=9)

    assert counts(step(scheduler)) == {"a": 1, "b": 1, "c": 2}


@pytest.mark.parametrize(("aging", "steps"), [(0.0, 60), (5.0, 21)])
def test_under_shortest_first_only_ageing_saves_a_long_prompt(aging, steps):
    scheduler = a_scheduler(max_num_seqs=1, policy=ShortestFirst(aging))
    long = add(scheduler, "long", prompt=100, max_tokens=1)

    taken = steps_until_end(scheduler, long, "short", 60, prompt=4, max_tokens=1)

    # (100 - 4) / 5 = 19.2 seconds old it costs no more than a newcomer
    assert taken == steps


def test_shortest_first_gives_no_prompt_more_than_a_chunk():
    scheduler = a_scheduler(policy=ShortestFirst(chunk=6))
    add(scheduler, "a", prompt=20)

    assert [counts(step(scheduler))["a"] for _ in range(4)] == [6, 6, 6, 2]


def test_under_sarathi_no_decode_waits_for_a_long_prompt():
    chunk = 16
    scheduler = a_scheduler(policy=Sarathi(chunk))
    talking = [add(scheduler, name, prompt=2, max_tokens=30) for name in "abc"]
    step(scheduler)
    long = add(scheduler, "d", prompt=100, max_tokens=2)

    batches = []
    while not long.generated:
        batches.append(step(scheduler))

    assert len(batches) == math.ceil(100 / (chunk - 3))
    for batch in batches:
        assert all(counts(batch)[sequence.request.id] == 1 for sequence in talking)
        assert batch.num_tokens <= chunk


def test_sarathi_ends_a_prompt_under_way_before_it_begins_another():
    scheduler = a_scheduler(policy=Sarathi(chunk=8))
    add(scheduler, "a", prompt=12, max_tokens=9)
    add(scheduler, "b", prompt=12, max_tokens=9)

    assert [counts(step(scheduler)) for _ in range(3)] == [
        {"a": 8},
        {"a": 4, "b": 4},
        {"a": 1, "b": 7},
    ]


def test_prefill_first_runs_prompts_before_decodes():
    scheduler = a_scheduler(max_num_batched_tokens=8, policy=PrefillFirst())
    add(scheduler, "a", prompt=2, max_tokens=9)
    add(scheduler, "b", prompt=2, max_tokens=9)
    step(scheduler)
    add(scheduler, "c", prompt=9)

    # the eldest keeps its token; b stalls while the prompt runs, then both go on
    assert [counts(step(scheduler)) for _ in range(2)] == [
        {"a": 1, "c": 7},
        {"a": 1, "b": 1, "c": 2},
    ]


def test_fcfs_evicts_who_came_last_although_a_fork_of_the_first_runs_after_him():
    scheduler = a_scheduler(num_pages=4, page_size=4, policy=Fcfs())
    first, last = (add(scheduler, name, prompt=2, max_tokens=9) for name in "ab")
    step(scheduler)
    fork = scheduler.fork(first, a_request("c", prompt=2, max_tokens=9))
    assert scheduler.running == (first, last, fork)

    preempted = [s for _ in range(7) for s in step(scheduler).preempted]

    assert preempted[0] is last


@pytest.mark.parametrize(
    ("policy", "admitted", "evicts"), [(Fcfs(), 4, True), (Headroom(), 2, False)]
)
def test_headroom_leaves_each_a_page_to_grow_into(policy, admitted, evicts):
    scheduler = a_scheduler(num_pages=4, page_size=4, policy=policy)
    for name in "abcd":
        add(scheduler, name, prompt=3, max_tokens=5)

    batches = run(scheduler)

    assert batches[0].num_sequences == admitted
    assert any(batch.preempted for batch in batches) is evicts


def test_headroom_lets_one_in_whatever_it_needs():
    scheduler = a_scheduler(num_pages=4, page_size=4, policy=Headroom(pages=3))
    sequence = add(scheduler, prompt=15, max_tokens=1)

    run(scheduler)

    assert sequence.finish_reason == "length"


def test_a_headroom_that_cannot_be_is_refused_with_the_way_out():
    with pytest.raises(ConfigError, match="at least 0, not -1; 0 leaves no headroom"):
        Headroom(-1)


@pytest.mark.parametrize("name", policies.NAMES)
def test_every_name_resolves_to_a_policy_that_serves(name):
    scheduler = a_scheduler(num_pages=8, policy=policies.resolve(name), max_num_batched_tokens=16)
    sequences = [s for i in range(5) for s in scheduler.add(a_request(str(i), prompt=3 * i + 1))]

    run(scheduler)

    assert isinstance(scheduler.policy, policies.NAMES[name])
    assert all(sequence.finish_reason == "length" for sequence in sequences)


def test_a_misspelt_policy_is_told_the_nearest():
    with pytest.raises(ConfigError, match=r"no policy 'sarati' \(did you mean 'sarathi'\?\)"):
        policies.resolve("sarati")


def test_an_unknown_policy_is_told_all_names():
    with pytest.raises(
        ConfigError, match="fcfs, priority, shortest, sarathi, prefill_first, headroom"
    ):
        policies.resolve("zzz")


def test_a_policy_object_passes_as_it_is():
    policy = Sarathi(chunk=7)

    assert policies.resolve(policy) is policy


def test_an_object_that_is_no_policy_is_refused_with_what_it_lacks():
    class Half:
        def propose(self, view):
            return []

    with pytest.raises(ConfigError, match="no method victim"):
        policies.resolve(Half())  # pyright: ignore[reportArgumentType]
    with pytest.raises(ConfigError, match="no method propose and no victim"):
        policies.resolve(7)  # pyright: ignore[reportArgumentType]


def test_a_class_in_place_of_a_policy_is_refused_with_the_way_out():
    with pytest.raises(ConfigError, match=r"pass Sarathi\(\)"):
        policies.resolve(Sarathi)  # pyright: ignore[reportArgumentType]


class ShortestAnswerFirst:
    """What a user may write in a notebook: whoever asks for the fewest tokens goes first."""

    def propose(self, view):
        everyone = (*view.running, *view.waiting)
        for sequence in sorted(everyone, key=lambda s: s.request.max_tokens):
            yield sequence, sequence.num_pending

    def victim(self, view):
        return max(view.running, key=lambda s: s.request.max_tokens)


def test_a_policy_of_ten_lines_works():
    policy: Any = ShortestAnswerFirst()  # it needs no base class
    scheduler = a_scheduler(max_num_seqs=1, policy=policies.resolve(policy))
    sizes = zip("abc", (9, 2, 5), strict=True)
    sequences = [add(scheduler, name, max_tokens=n) for name, n in sizes]

    assert order_of_ends(scheduler, sequences) == "bca"
    assert scheduler.policy_error is None
