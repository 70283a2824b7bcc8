"""Tables from event logs, against logs small enough to count by hand."""

from dataclasses import astuple

import pytest
from filler import a_scheduler
from matplotlib.figure import Figure

from jpaged.analysis.memory import (
    PAGES,
    STATES,
    Slots,
    mean_shares,
    pages,
    saved_by_sharing,
    slots,
    slots_in_pieces,
    slots_of,
    while_waiting,
)
from jpaged.analysis.plots import draw_pages, draw_shares
from jpaged.policies import Orca
from jpaged.sampling_params import SamplingParams
from jpaged.scheduling.events import StepRecord
from jpaged.simulator.replay import replay
from jpaged.simulator.workload import TimedRequest


def a_record(
    seconds: float = 1.0, waiting: int = 1, held: int = 2, idle: int = 1, free: int = 1, **rest: int
) -> StepRecord:
    fields = {"pages_unshared": held, "slots_held": 4 * held, "slots_used": 4 * held - 1, **rest}
    return StepRecord(
        index=0,
        start=0.0,
        end=seconds,
        bucket=None,
        num_tokens=1,
        num_sequences=1,
        num_waiting=waiting,
        num_preempted=0,
        num_finished=0,
        pages_held=held,
        pages_idle=idle,
        pages_free=free,
        **fields,
    )


def served(n: int = 3) -> list[StepRecord]:
    """A prompt of two pages and a bit in a pool of 20 pages of 4, sampled n times."""
    workload = [TimedRequest("a", 0.0, tuple(range(10)), 4, SamplingParams(n=n))]
    return list(replay(workload, a_scheduler(20, 4), lambda batch: 1.0, context=40))


def in_pieces(num_pages: int, asked: int, *lengths: tuple[int, int]) -> list[Slots]:
    """Requests of (prompt, output) tokens under Orca, which reserves `asked` slots for each."""
    workload = [
        TimedRequest(str(i), 0.0, tuple(range(num_prompt)), num_output)
        for i, (num_prompt, num_output) in enumerate(lengths)
    ]
    final = {request.name: request.num_final - 1 for request in workload}
    orca = Orca(lambda sequence: asked)
    scheduler = a_scheduler(num_pages, 4, policy=orca, enable_prefix_caching=False)
    return [
        slots_in_pieces(
            record,
            sum(final[name] for name in orca.pieces),
            sum(orca.num_asked.values()),
            orca.num_given,
        )
        for record in replay(workload, scheduler, lambda batch: 1.0, context=40)
    ]


def states(step: Slots) -> tuple[int, ...]:
    """(tokens, reserved, internal, external, free)"""
    return astuple(step)[3:]


def test_a_page_is_held_idle_or_free_in_every_row():
    table = pages(served())

    assert set(table[PAGES].sum(axis="columns")) == {20}
    assert set(table.pages_unshared - table.pages_held - table.pages_saved) == {0}
    assert table.pages_saved.max() >= 2 * 2, "two full pages of the prompt, two readers more"


def test_the_slots_of_a_paged_step():
    step = slots_of(a_record(held=3, idle=2, free=5, slots_used=9))

    assert step == Slots(0.0, 1.0, 1, tokens=9, reserved=0, internal=3, external=0, free=28)


def test_shares_are_averages_over_time_and_add_up_to_one():
    log = [a_record(1.0, slots_used=8), a_record(3.0, slots_used=4)]

    shares = mean_shares(slots(map(slots_of, log)))

    # of 16 slots: 8 hold tokens for a second, 4 for three
    assert shares["tokens"] == pytest.approx((8 * 1 + 4 * 3) / 4 / 16)
    assert shares["free"] == pytest.approx(8 / 16)
    assert sum(shares.values()) == pytest.approx(1)


def test_savings_are_pages_saved_over_pages_without_sharing():
    log = [a_record(1.0, held=2, pages_unshared=4), a_record(2.0, held=1, pages_unshared=1)]

    assert saved_by_sharing(pages(log)) == pytest.approx((2 * 1) / (4 * 1 + 1 * 2))


def test_nothing_is_saved_without_samples():
    assert saved_by_sharing(pages(served(n=1))) == 0
    assert 0 < saved_by_sharing(pages(served(n=2))) < saved_by_sharing(pages(served(n=6))) < 1


def test_only_steps_between_the_first_and_the_last_wait_count():
    table = pages([a_record(waiting=waiting) for waiting in (0, 2, 0, 1, 0, 0)])
    assert list(while_waiting(table).index) == [1, 2, 3]
    with pytest.raises(ValueError, match="raise the rate"):
        while_waiting(table.loc[4:])


def test_a_figure_stacks_all_pages():
    axes = Figure().subplots()
    draw_pages(pages(served()), axes)

    labels = axes.get_legend_handles_labels()[1]
    assert labels == ["held", "idle", "free", "held without sharing"]
    assert axes.dataLim.ymax == 20


def test_bars_of_all_allocators_reach_a_hundred():
    axes = Figure().subplots()
    shares = dict(zip(STATES, (0.4, 0.3, 0.2, 0.1, 0.0), strict=True))
    draw_shares({"one": shares, "two": shares}, axes)

    assert axes.dataLim.ymax == pytest.approx(100)
    assert len(axes.patches) == 2 * len(STATES)


@pytest.mark.parametrize(
    ("asked", "internal", "external"),
    # 5 prompt tokens and 4 of the 5 outputs fill 9 slots at the end, and 16 are given
    [(13, 4, 3), (9, 0, 7)],
)
def test_a_step_of_pieces_is_accounted_slot_by_slot(asked, internal, external):
    steps = in_pieces(10, asked, (5, 5))

    assert [states(step) for step in steps] == [
        (tokens, 9 - tokens, internal, external, 24) for tokens in (5, 6, 7, 8, 9)
    ]


def test_free_slots_are_external_fragmentation_only_to_someone_who_waits():
    steps = in_pieces(12, 10, *[(9, 2)] * 4)

    # 48 slots are three pieces of 16: the fourth request has to wait
    assert [step.num_waiting for step in steps] == [1, 1, 0, 0]
    assert [states(step) for step in steps] == [
        (27, 3, 0, 18, 0),
        (30, 0, 0, 18, 0),
        (9, 1, 0, 6, 32),
        (10, 0, 0, 6, 32),
    ]
