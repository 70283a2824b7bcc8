"""Workloads served in virtual time by the real scheduler."""

import pytest
from filler import a_scheduler

from jpaged.sampling_params import SamplingParams
from jpaged.scheduling.events import StepRecord
from jpaged.scheduling.scheduler import Scheduler
from jpaged.simulator.lengths import ALPACA
from jpaged.simulator.replay import replay
from jpaged.simulator.workload import EOS, TimedRequest, generate


class Kept(Scheduler):
    """Remembers what it was given."""

    def add(self, request, is_steered=False):
        sequences = super().add(request, is_steered)
        self.kept = [*getattr(self, "kept", []), *sequences]
        return sequences


def a_kept_scheduler(num_pages: int = 200) -> Kept:
    plain = a_scheduler(num_pages, page_size=16)
    return Kept(plain.pool, plain.policy)


def run(workload, scheduler, context: int = 2048) -> list[StepRecord]:
    return list(replay(workload, scheduler, lambda batch: 0.25, context))


@pytest.mark.parametrize("n", [1, 3])
def test_every_sequence_says_what_was_foreseen_and_stops(n):
    workload = generate(ALPACA, 40, rate=20.0, seed=0, params=SamplingParams(n=n))
    scheduler = a_kept_scheduler()

    records = run(workload, scheduler)

    foreseen = {request.name: request.num_output for request in workload}
    assert len(scheduler.kept) == 40 * n
    for sequence in scheduler.kept:
        assert sequence.num_generated == foreseen[sequence.request.id]
        assert (sequence.finish_reason, sequence.tokens[-1]) == ("stop", EOS)
    assert sum(record.num_finished for record in records) == 40 * n


def test_samples_of_a_prompt_say_different_things():
    workload = [TimedRequest("a", 0.0, (1, 2, 3), 5, SamplingParams(n=4))]
    scheduler = a_kept_scheduler()

    run(workload, scheduler)

    assert len({tuple(sequence.generated[:-1]) for sequence in scheduler.kept}) == 4


def test_time_passes_by_steps_and_jumps_to_the_next_arrival():
    workload = [TimedRequest("a", 1.0, (1, 2), 2), TimedRequest("b", 9.0, (3,), 1)]

    records = run(workload, a_scheduler(), context=100)

    assert [(record.start, record.end) for record in records] == [
        (1.0, 1.25),
        (1.25, 1.5),
        (9.0, 9.25),
    ]


def test_nobody_is_served_before_they_arrive():
    workload = generate(ALPACA, 40, rate=2.0, seed=0)
    scheduler = a_kept_scheduler()

    run(workload, scheduler)

    assert all(s.timing.scheduled >= s.arrival for s in scheduler.kept)


def test_what_a_request_may_say_at_most_changes_nothing_under_pressure():
    """The scheduler must not use `max_tokens` as if it knew the future."""
    workload = generate(ALPACA, 60, rate=100.0, seed=0)

    modest, generous = (run(workload, a_scheduler(100, 16), context) for context in (500, 1600))

    assert modest == generous
    assert sum(record.num_preempted for record in modest) > 0
    assert max(record.num_waiting for record in modest) > 0
