"""The serving loop: schedule, submit, collect, update, and a record of each step."""

import pytest
from filler import EOS, FILLER, a_request, a_scheduler, add, names

from jpaged.scheduling.batch import ScheduledBatch, StepOutput
from jpaged.scheduling.buckets import Bucket
from jpaged.scheduling.events import StepRecord
from jpaged.scheduling.loop import ServingLoop


class VirtualDevice:
    """An executor in virtual time: a step takes a second, and a tenth for each token."""

    def __init__(self, token: int = FILLER):
        self.now = 0.0
        self.token = token
        self.log: list[str] = []

    def submit(self, batch: ScheduledBatch) -> ScheduledBatch:
        self.log.append("submit")
        self.now += 1 + 0.1 * batch.num_tokens
        return batch

    def collect(self, handle: ScheduledBatch) -> StepOutput:
        self.log.append("collect")
        return StepOutput.filler(handle, self.token)

    def bucket(self, batch: ScheduledBatch) -> Bucket:
        return Bucket(batch.num_tokens, batch.num_sequences, 1)


class Interrupted(VirtualDevice):
    """Is interrupted once, while it waits for the first answer."""

    def collect(self, handle):
        output = super().collect(handle)
        if self.log.count("collect") == 1:
            raise KeyboardInterrupt
        return output


def a_loop(device: VirtualDevice | None = None, **options):
    device = device or VirtualDevice()
    records: list[StepRecord] = []
    loop = ServingLoop(a_scheduler(**options), device, lambda: device.now, records.append)
    return loop, device, records


def run(loop: ServingLoop) -> int:
    steps = 0
    while loop.scheduler.has_unfinished:
        loop.step()
        steps += 1
    return steps


def test_an_idle_loop_does_nothing():
    loop, device, records = a_loop()

    assert loop.step() == ([], None, None)
    assert (device.log, records, loop.num_steps) == ([], [], 0)


def test_a_step_submits_collects_and_returns_who_got_a_token():
    loop, device, _ = a_loop(max_num_batched_tokens=8)
    done = add(loop.scheduler, "a", prompt=4)
    add(loop.scheduler, "b", prompt=9)

    advanced, output, batch = loop.step()

    assert device.log == ["submit", "collect"]
    assert advanced == [done]
    assert done.generated == [FILLER]
    assert batch is not None and names(s for s, _ in batch.items) == "ab"
    assert output is not None and output.tokens == (FILLER, FILLER)


def test_submit_and_collect_can_be_called_apart():
    loop, device, _ = a_loop()
    sequence = add(loop.scheduler, "a")

    batch = loop.scheduler.schedule(0.0)
    assert batch is not None
    handle = device.submit(batch)
    before = list(sequence.tokens)
    loop.scheduler.update(batch, device.collect(handle), 1.0)

    assert sequence.tokens == [*before, FILLER]


def test_virtual_time_is_all_the_time_there_is():
    loop, device, records = a_loop()
    sequence = add(loop.scheduler, "a", prompt=5, max_tokens=3)

    run(loop)

    assert device.now == pytest.approx(1.5 + 1.1 + 1.1)
    assert [(r.start, r.end) for r in records] == [
        (0.0, pytest.approx(1.5)),
        (pytest.approx(1.5), pytest.approx(2.6)),
        (pytest.approx(2.6), pytest.approx(3.7)),
    ]
    assert sequence.timing.scheduled == 0.0
    assert sequence.timing.first_token == pytest.approx(1.5)
    assert sequence.timing.last_token == pytest.approx(3.7)


def test_a_record_tells_what_a_step_did():
    loop, _, records = a_loop(max_num_seqs=2)
    add(loop.scheduler, "a", prompt=5, max_tokens=1)
    add(loop.scheduler, "b", prompt=3, max_tokens=2)
    add(loop.scheduler, "c", prompt=2, max_tokens=1)

    run(loop)
    first = records[0]

    assert [record.index for record in records] == [0, 1]
    assert (first.num_tokens, first.num_sequences) == (8, 2)
    assert (first.num_waiting, first.num_preempted, first.num_finished) == (1, 0, 1)
    assert first.bucket == (8, 2, 1)


def test_waste_is_the_share_of_held_slots_without_a_token():
    loop, _, records = a_loop(page_size=4)
    add(loop.scheduler, "a", prompt=5, max_tokens=3)
    add(loop.scheduler, "b", prompt=3, max_tokens=3)

    run(loop)

    # a holds two pages and b one; 5 + 3, then 6 + 4 of their 12 slots are written.  Then 7 + 5,
    # and b's fifth token has begun another page
    assert [record.pages_held for record in records] == [3, 3, 4]
    assert [record.slots_held for record in records] == [12, 12, 16]
    assert [record.slots_used for record in records] == [8, 10, 12]
    assert [record.waste for record in records] == pytest.approx([4 / 12, 2 / 12, 4 / 16])


def test_pages_of_one_token_are_never_wasted():
    loop, _, records = a_loop(page_size=1, max_num_batched_tokens=4)
    for name in "abc":
        add(loop.scheduler, name, prompt=6, max_tokens=5)

    run(loop)

    assert {record.waste for record in records} == {0.0}


def test_a_shared_page_counts_once():
    loop, _, records = a_loop(page_size=4)
    prompt = tuple(range(8))
    add(loop.scheduler, "a", prompt=prompt, max_tokens=3)
    loop.step()
    add(loop.scheduler, "b", prompt=(*prompt, 1), max_tokens=1)

    loop.step()

    # two pages in common, one each of its own with a single token in it
    assert (records[1].pages_held, records[1].slots_used) == (4, 10)


def test_pages_kept_for_their_prefix_are_idle_not_held():
    loop, _, records = a_loop(page_size=4)
    add(loop.scheduler, "a", prompt=9, max_tokens=1)
    run(loop)
    add(loop.scheduler, "b", prompt=2, max_tokens=1)

    run(loop)

    # two full ones and one with a single token, a quarter of a page
    assert (records[1].pages_idle, records[1].pages_held) == (3, 1)


def test_waste_is_a_share_and_zero_when_nothing_is_held():
    loop, _, records = a_loop(num_pages=6, page_size=4, max_num_batched_tokens=7)
    for name in "abcdef":
        add(loop.scheduler, name, prompt=7, max_tokens=12)

    run(loop)
    empty = StepRecord(0, 0.0, 0.0, None, *[0] * 11)

    assert sum(record.num_preempted for record in records) > 0
    assert all(0 <= record.waste < 1 for record in records)
    assert empty.waste == 0.0


def test_a_request_aborted_while_its_step_runs_does_not_upset_the_record():
    class Aborting(VirtualDevice):
        def collect(self, handle):
            loop.scheduler.abort("a")
            return super().collect(handle)

    loop, _, records = a_loop(Aborting())
    add(loop.scheduler, "a", prompt=5)
    add(loop.scheduler, "b", prompt=3)

    advanced, _, _ = loop.step()

    assert names(advanced) == "b"
    # at the step's height both were there, in two pages and one
    assert (records[0].slots_held, records[0].slots_used) == (12, 8)


def test_an_interrupted_step_is_run_again_and_nothing_is_lost():
    loop, _, records = a_loop(Interrupted())
    sequence = add(loop.scheduler, "a", max_tokens=2)

    with pytest.raises(KeyboardInterrupt):
        loop.step()
    run(loop)

    assert sequence.generated == [FILLER, FILLER]
    assert len(records) == 2


def test_a_loop_ends_when_the_model_does():
    loop, _, records = a_loop(VirtualDevice(token=EOS))
    loop.scheduler.add(a_request("a", n=3, max_tokens=50))

    assert run(loop) == 1
    assert records[0].num_finished == 3
