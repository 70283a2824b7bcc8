"""Page traces, against the pool itself at every step."""

from dataclasses import dataclass, field

import pytest
from runs import a_replica, a_run, serve

from jpaged.scheduling.events import StepRecord
from jpaged.scheduling.page_trace import FREE, Cell, PageTrace
from jpaged.scheduling.scheduler import Scheduler


@dataclass
class Witness:
    """Copies the pool's own books at each look."""

    scheduler: Scheduler
    seen: list[tuple[StepRecord, list[int], list[bool], dict[int, set[str]]]] = field(
        default_factory=list
    )

    def look(self):
        pool, holders = self.scheduler.pool, {}
        for sequence in self.scheduler.running:
            name = sequence.request.id + (f"#{sequence.index}" if sequence.index else "")
            for page in sequence.pages:
                holders.setdefault(page, set()).add(name)
        return list(pool.holders), list(pool.remembered), holders

    def keep(self, record, seen):
        self.seen.append((record, *seen))


def watched(ahead: int) -> tuple[PageTrace, Witness]:
    replica = a_replica(ahead)
    witness = Witness(replica.scheduler)
    replica.loop.watchers.append(witness)
    trace = PageTrace.of(replica)
    serve(replica)
    return trace, witness


@pytest.mark.parametrize("ahead", [0, 1])
def test_changes_replayed_are_the_pool_at_every_step(ahead):
    trace, witness = watched(ahead)
    steps = list(trace.replay())

    assert len(steps) == len(witness.seen) > 20
    for (step, cells), (record, num_holders, remembered, holders) in zip(
        steps, witness.seen, strict=True
    ):
        assert (step.index, step.start, step.end) == (record.index, record.start, record.end)
        assert [len(cell.holders) for cell in cells] == num_holders
        assert [cell.is_cached for cell in cells] == remembered
        names = [{trace.names[number] for number in cell.holders} for cell in cells]
        assert {page: each for page, each in enumerate(names) if each} == holders


def test_cells_add_up_to_what_each_step_records():
    result = a_run()
    [trace] = result.page_traces

    assert len(trace.steps) == len(result.records)
    for (_, cells), record in zip(trace.replay(), result.records, strict=True):
        held = [cell for cell in cells if cell.holders]
        assert len(held) == record.pages_held
        assert sum(cell.is_cached and not cell.holders for cell in cells) == record.pages_idle
        assert sum(cell == FREE for cell in cells) == record.pages_free
        assert sum(cell.num_tokens for cell in held) == record.slots_used
    assert any(len(cell.holders) > 1 for _, cells in trace.replay() for cell in cells)


def test_a_trace_of_each_replica():
    result = a_run(num_replicas=2)

    assert [len(trace.steps) for trace in result.page_traces] == [
        result.run_on.count(replica) for replica in (0, 1)
    ]


def test_a_full_trace_ends_and_nobody_watches_any_more():
    replica = a_replica()
    trace = PageTrace.of(replica, most=30)
    serve(replica)

    assert trace.is_full and trace.num_changes <= 30
    assert 0 < len(trace.steps) < replica.loop.num_steps
    assert not replica.loop.watchers
    assert [step.index for step, _ in trace.replay()] == list(range(len(trace.steps)))


def test_only_changes_are_kept():
    result = a_run()
    [trace] = result.page_traces
    before: list[Cell] = [FREE] * trace.num_pages
    for step, cells in trace.replay():
        assert all(before[page] != cell for page, cell in step.changes.items())
        before = list(cells)
    assert trace.num_changes == sum(len(step.changes) for step in trace.steps)


def test_nobody_watches_unless_asked():
    assert a_replica().loop.watchers == []
    assert a_run(3, trace_pages=False).page_traces == []
