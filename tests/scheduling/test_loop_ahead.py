"""The serving loop one step ahead: what is submitted when, and what survives an exception."""

import random
from collections import Counter
from itertools import pairwise
from typing import Any

import pytest
from toy_device import EOS, VOCAB, ToyDevice, check_pages, check_queues, written_alone
from whimsical import Whimsical

from jpaged.sampling_params import SamplingParams
from jpaged.scheduling.batch import ScheduledBatch, StepOutput
from jpaged.scheduling.events import StepRecord
from jpaged.scheduling.loop import ServingLoop
from jpaged.scheduling.pages import PagePool
from jpaged.scheduling.policy import Fcfs
from jpaged.scheduling.request import Request, Sequence, Status
from jpaged.scheduling.scheduler import Scheduler

HOST, DEVICE = 0.3, 1.0  # seconds a submission and a step take
PENALTY: dict[str, Any] = {"presence_penalty": 0.5}


class Broken(Exception):
    """The device, or the way to it, failed."""


class VirtualDevice:
    """A toy device in virtual time, which works while the host does.  `log` has s3 where step 3
    was submitted and c3 where it was collected; whatever stands in `failing` fails once more."""

    def __init__(self, pool: PagePool):
        self.toy = ToyDevice(pool)
        self.now = self.free_at = 0.0
        self.log: list[str] = []
        self.num_submitted = 0
        self.failing: Counter[str] = Counter()  # "before 3", "after 3", "c3": how often
        self.uncollected: dict[int, ScheduledBatch] = {}
        self.latest: ScheduledBatch | None = None  # whose tokens the device has at hand
        self.num_tokens = 0

    def submit(self, batch: ScheduledBatch) -> tuple[int, StepOutput]:
        index = self.num_submitted
        # one whose sequences have all ended may have been dropped
        underway = [
            batch.items
            for batch in self.uncollected.values()
            if not all(sequence.is_finished for sequence, _ in batch.items)
        ]
        assert len(underway) < 2, "two steps ahead"
        assert not any(s.needs_known_tokens for items in underway for s, _ in items)
        # unknown tokens are taken from the step before, as the device remembers no other
        latest = self.latest
        is_there = latest is not None and latest in self.uncollected.values()
        known = {s for s, _ in latest.items} if latest is not None and is_there else set()
        assert all(s in known for s, _ in batch.items if s.num_expected)
        self.latest = batch
        self.maybe_fail(f"before {index}")
        self.now += HOST
        output = self.toy.run(batch)
        self.free_at = max(self.now, self.free_at) + DEVICE
        self.maybe_fail(f"after {index}")
        self.log.append(f"s{index}")
        self.num_submitted += 1
        self.num_tokens += batch.num_tokens
        self.uncollected[index] = batch
        return index, output

    def collect(self, handle: tuple[int, StepOutput]) -> StepOutput:
        index, output = handle
        self.now = max(self.now, self.free_at - DEVICE * (self.num_submitted - 1 - index))
        self.log.append(f"c{index}")
        self.maybe_fail(f"c{index}")
        del self.uncollected[index]
        return output

    def maybe_fail(self, where: str) -> None:
        if self.failing[where] > 0:
            self.failing[where] -= 1
            raise Broken(where)

    def bucket(self, batch: ScheduledBatch) -> None:
        return None


class Case:
    """A loop over a virtual device."""

    def __init__(self, ahead: int = 1, num_pages: int = 64, page_size: int = 4, **options: Any):
        policy = options.pop("policy", Fcfs())
        self.scheduler = Scheduler(PagePool(num_pages, page_size), policy, **options)
        self.device = VirtualDevice(self.scheduler.pool)
        self.records: list[StepRecord] = []
        self.loop = ServingLoop(
            self.scheduler, self.device, lambda: self.device.now, self.records.append, ahead
        )
        self.sequences: list[Sequence] = []

    def add(self, name: str, prompt: int | tuple[int, ...] = 4, max_tokens: int = 4, **kwargs: Any):
        """Numbers are lengths.  Unless told of an end, it goes on to its last token."""
        eos = kwargs.pop("eos", frozenset())
        if isinstance(prompt, int):
            prompt = tuple(random.Random(name).choices(range(VOCAB), k=prompt))
        params = SamplingParams(max_tokens=max_tokens, **kwargs)
        request = Request(name, prompt, params, eos_token_ids=eos, max_tokens=max_tokens)
        self.sequences += self.scheduler.add(request)
        return self.sequences[-1]

    def run(self) -> int:
        """To the end, trying again after every failure; how many there were."""
        failures = 0
        for _ in range(2000):
            try:
                self.loop.step()
            except Broken:
                failures += 1
            check_pages(self.scheduler)
            check_queues(self.scheduler)
            if not self.scheduler.has_unfinished:
                assert not self.loop._underway and not self.scheduler._underway
                return failures
        raise AssertionError("no end in sight")

    def check_end(self) -> None:
        """Everybody said what it says alone, nothing is held and nothing is under way."""
        for sequence in self.sequences:
            expected = alone(sequence.request)
            if sequence.finish_reason == "abort":
                expected = expected[: sequence.num_generated]
            assert sequence.generated == expected
        assert self.scheduler.pool.num_held == 0
        before = list(self.device.log)
        assert self.loop.step() == ([], None, None)
        assert self.device.log == before, "an idle loop bothered the device"
        assert not self.loop._underway and not self.scheduler._underway


def alone(request: Request) -> list[int]:
    """What the toy device says to it; `written_alone` always ends with the toy's own end."""
    said: list[int] = []
    while len(said) < request.max_tokens and not request.eos_token_ids & set(said):
        rest = Request("", request.prompt + tuple(said), SamplingParams(), max_tokens=1)
        said += written_alone(rest)
    return said


def ends_early(max_tokens: int = 12) -> tuple[int, ...]:
    """A prompt after which the toy device soon says end-of-sequence, but not at once."""
    for seed in range(10_000):
        prompt = tuple(random.Random(seed).choices(range(VOCAB), k=5))
        request = Request("", prompt, SamplingParams(), max_tokens=max_tokens)
        if 3 <= len(written_alone(request)) < max_tokens - 3:
            return prompt
    raise AssertionError("the toy device never ends")


def log_of(text: str) -> list[str]:
    return text.split()


# The order of things


def test_a_step_is_submitted_before_the_one_before_it_is_collected():
    case = Case()
    case.add("a", max_tokens=5)

    case.run()

    assert case.device.log == log_of("s0 s1 c0 s2 c1 s3 c2 s4 c3 c4")
    case.check_end()


def test_without_looking_ahead_each_step_is_collected_before_the_next():
    case = Case(ahead=0)
    case.add("a", max_tokens=3)

    case.run()

    assert case.device.log == log_of("s0 c0 s1 c1 s2 c2")
    case.check_end()


def test_chunks_of_a_prompt_are_submitted_ahead_too():
    case = Case(max_num_batched_tokens=4)
    case.add("a", prompt=12, max_tokens=2)

    case.run()

    assert case.device.log == log_of("s0 s1 c0 s2 c1 s3 c2 c3")
    assert [record.num_tokens for record in case.records] == [4, 4, 4, 1]


def test_a_single_token_takes_a_single_step():
    case = Case()
    case.add("a", max_tokens=1)

    case.run()

    assert case.device.log == log_of("s0 c0")
    case.check_end()


def test_each_call_answers_for_one_step():
    case = Case()
    sequence = case.add("a", max_tokens=3)
    for num_generated in (1, 2, 3):
        advanced, output, batch = case.loop.step()
        assert advanced == [sequence] and sequence.num_generated == num_generated
        assert output is not None and output.tokens == (sequence.tokens[-1],)
        assert batch is not None and [each for each, _ in batch.items] == [sequence]
    case.check_end()


@pytest.mark.parametrize("params", [PENALTY, {"repetition_penalty": 1.2}, {"bad_words": True}])
def test_who_needs_to_know_its_tokens_is_waited_for(params: dict[str, Any]):
    case = Case()
    if "bad_words" in params:
        request = Request("a", (1, 2, 3), SamplingParams(), max_tokens=3, bad_words=((5,),))
        case.sequences += case.scheduler.add(request)
    else:
        case.add("a", max_tokens=3, **params)

    case.run()

    assert case.device.log == log_of("s0 c0 s1 c1 s2 c2")
    case.check_end()


def test_nobody_is_waited_for_once_the_one_that_needed_it_has_ended():
    case = Case()
    case.add("a", max_tokens=6)
    case.add("b", max_tokens=2, **PENALTY)

    case.run()

    assert case.device.log == log_of("s0 c0 s1 c1 s2 s3 c2 s4 c3 s5 c4 c5")
    case.check_end()


def test_one_that_only_waits_for_a_seat_makes_nobody_wait():
    case = Case(max_num_seqs=1)
    case.add("a", max_tokens=4)
    case.add("b", max_tokens=2, **PENALTY)

    case.run()

    assert case.device.log == log_of("s0 s1 c0 s2 c1 s3 c2 c3 s4 c4 s5 c5")
    case.check_end()


def test_one_that_needs_known_tokens_may_join_a_step_ahead():
    case = Case()
    case.add("a", max_tokens=5)
    case.loop.step()
    case.add("b", max_tokens=2, **PENALTY)

    case.run()

    # s2 has b's prompt, of which everything is known
    assert case.device.log[:6] == log_of("s0 s1 c0 s2 c1 c2")
    case.check_end()


def test_looking_ahead_hides_the_hosts_time():
    times = []
    for ahead in (0, 1):
        case = Case(ahead)
        for name in "abc":
            case.add(name, max_tokens=10)
        case.run()
        times.append(case.device.now)
    assert times == pytest.approx([10 * (HOST + DEVICE), HOST + 10 * DEVICE])


# Ends


def test_a_sequence_that_ends_early_says_nothing_after_its_end():
    case = Case()
    ending = case.add("a", ends_early(), 12, eos=frozenset({EOS}))
    case.add("b", max_tokens=14)

    case.run()

    assert ending.generated[-1] == EOS and ending.generated.count(EOS) == 1
    assert (ending.finish_reason, ending.num_expected) == ("stop", 1)
    case.check_end()


def test_a_step_nobody_waits_for_is_never_collected():
    case = Case()
    sequence = case.add("a", ends_early(), 12, eos=frozenset({EOS}))

    case.run()

    steps = sequence.num_generated
    assert case.device.log[-2:] == [f"s{steps}", f"c{steps - 1}"]
    assert len(case.records) == steps
    case.check_end()


def test_pages_of_one_that_ended_early_serve_the_next_at_once():
    # each needs all of the pool
    case = Case(num_pages=5, enable_prefix_caching=False)
    prompt = ends_early()
    for name in "abcd":
        case.add(name, (*prompt, *name.encode())[-5:], 12, eos=frozenset({EOS}))
    case.add("e", prompt, 12, eos=frozenset({EOS}))

    case.run()

    assert sum(sequence.generated[-1] == EOS for sequence in case.sequences) > 0
    case.check_end()


@pytest.mark.parametrize("num_steps", [1, 2, 3])
def test_nothing_is_under_way_once_everybody_was_aborted(num_steps: int):
    case = Case()
    for name in "abc":
        case.add(name, max_tokens=9)
    for _ in range(num_steps):
        case.loop.step()

    for name in "abc":
        case.scheduler.abort(name)

    case.check_end()
    case.add("d", max_tokens=3)
    case.run()
    case.check_end()


@pytest.mark.parametrize("num_steps", [1, 2, 3])
def test_one_who_comes_after_everybody_was_aborted_is_served_rightly(num_steps: int):
    case = Case(num_pages=4)
    case.add("a", max_tokens=12)
    for _ in range(num_steps):
        case.loop.step()

    case.scheduler.abort("a")
    late = case.add("late", max_tokens=12)
    case.run()

    assert late.num_generated == 12
    case.check_end()


def test_one_aborted_while_its_step_runs_gets_no_token_of_it():
    case = Case()
    gone, stays = case.add("a", max_tokens=9), case.add("b", max_tokens=9)
    case.loop.step()
    assert gone.num_expected == 1

    case.scheduler.abort("a")
    advanced, _, _ = case.loop.step()

    assert advanced == [stays] and gone.num_generated == 1
    case.run()
    case.check_end()


# Exceptions


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("index", [0, 1, 2, 5])
@pytest.mark.parametrize("ahead", [0, 1])
def test_a_failing_submission_is_taken_back(ahead: int, index: int, when: str):
    case = Case(ahead)
    shared = tuple(range(1, 11))
    for name in range(4):
        case.add(str(name), (*shared, name + 20), max_tokens=8)
    case.device.failing[f"{when} {index}"] = 1

    assert case.run() == 1

    assert sum(record.num_finished for record in case.records) == 4
    case.check_end()


def test_what_was_taken_back_waits_again_and_holds_nothing():
    case = Case()
    sequences = [case.add(name, (1, 2, 3, 4, 5, ord(name)), max_tokens=8) for name in "ab"]
    case.loop.step()
    held = case.scheduler.pool.num_held
    case.device.failing["after 2"] = 1

    with pytest.raises(Broken):
        case.loop.step()

    assert held == 3 and case.scheduler.pool.num_held == 0
    assert {s.status for s in sequences} == {Status.WAITING}
    assert [(s.num_computed, s.pages) for s in sequences] == [(0, [])] * 2
    # the step before is on its way all the same
    assert [s.num_expected for s in sequences] == [1, 1]
    assert case.loop.step()[0] == sequences
    case.run()
    case.check_end()


def test_after_a_failing_submission_nothing_is_submitted_before_all_is_collected():
    case = Case()
    case.add("a", max_tokens=6)
    case.device.failing["after 2"] = 1

    case.run()

    # the device may have run what was taken back: its latest tokens are not those of s1
    assert case.device.log == log_of("s0 s1 c0 c1 s2 s3 c2 s4 c3 s5 c4 c5")
    case.check_end()


def test_a_submission_may_fail_again_and_again():
    case = Case(num_pages=9)
    for name in "abc":
        case.add(name, prompt=6, max_tokens=9)
    case.device.failing.update({"before 0": 3, "after 3": 5, "before 4": 2, "after 9": 1})

    assert case.run() == 11

    case.check_end()


@pytest.mark.parametrize("times", [1, 3])
@pytest.mark.parametrize("index", [0, 1, 4])
@pytest.mark.parametrize("ahead", [0, 1])
def test_a_failing_wait_is_tried_again(ahead: int, index: int, times: int):
    case, plain = Case(ahead), Case(ahead)
    for each in (case, plain):
        for name in "ab":
            each.add(name, max_tokens=8)
    case.device.failing[f"c{index}"] = times

    assert case.run() == times

    plain.run()
    again = [f"c{index}"] * times
    at = plain.device.log.index(f"c{index}")
    assert case.device.log == plain.device.log[:at] + again + plain.device.log[at:]
    case.check_end()


def test_a_failing_wait_and_an_abort_meanwhile():
    case = Case()
    for name in "ab":
        case.add(name, max_tokens=8)
    case.loop.step()
    case.device.failing["c1"] = 1
    with pytest.raises(Broken):
        case.loop.step()

    case.scheduler.abort("a")
    case.run()

    case.check_end()


@pytest.mark.parametrize("seed", range(100))
def test_whatever_fails_and_ends_everybody_says_what_it_says_alone(seed: int):
    rng = random.Random(seed)
    case = Case(
        num_pages=rng.choice((8, 12, 40)),
        max_num_batched_tokens=rng.choice((3, 8, 64)),
        policy=rng.choice((Fcfs(), Whimsical(rng))),
    )
    for name in range(rng.randint(1, 9)):
        prompt = (1, 2, 3, 4, 5, 6, 7, 8)[: rng.randint(0, 8)] + (rng.randrange(VOCAB), name)
        needs_known = PENALTY if rng.random() < 0.2 else {}
        eos = frozenset({EOS} if rng.random() < 0.5 else ())
        case.add(str(name), prompt, rng.randint(1, 20), eos=eos, **needs_known)
    for step in range(60):
        case.device.failing[f"{rng.choice(('before ', 'after ', 'c'))}{step}"] = rng.randint(-6, 2)

    case.run()

    case.check_end()
    check_records(case)


# Records


def check_records(case: Case) -> None:
    records = case.records
    assert [record.index for record in records] == list(range(len(records)))
    assert all(record.start <= record.end for record in records)
    assert all(one.end <= other.start for one, other in pairwise(records))
    assert all(0 <= record.slots_used <= record.slots_held for record in records)
    assert len(records) == len({line for line in case.device.log if line.startswith("c")})


@pytest.mark.parametrize("ahead", [0, 1])
def test_records_follow_one_another_and_count_everything(ahead: int):
    case = Case(ahead, num_pages=12, max_num_batched_tokens=9)
    for name in "abcdef":
        case.add(name, prompt=7, max_tokens=9)

    case.run()

    check_records(case)
    assert sum(record.num_tokens for record in case.records) == case.device.num_tokens
    assert sum(record.num_finished for record in case.records) == 6
    preempted = sum(sequence.num_preemptions for sequence in case.sequences)
    assert sum(record.num_preempted for record in case.records) == preempted > 0
    case.check_end()


def test_no_record_spans_the_time_in_which_nobody_asked_for_anything():
    case = Case()
    case.add("a", max_tokens=9)
    case.loop.step()
    case.scheduler.abort("a")
    idle = case.device.now + 500
    case.device.now += 1000

    case.add("b", max_tokens=3)
    case.run()

    assert [each for each in case.records if each.start < idle < each.end] == []
    assert len(case.records) == 1 + 3


def test_a_record_ahead_begins_where_the_one_before_it_ends():
    case = Case()
    case.add("a", max_tokens=3)

    case.run()

    spans = [(record.start, record.end) for record in case.records]
    assert spans == [
        (0, pytest.approx(HOST + DEVICE)),
        (pytest.approx(HOST + DEVICE), pytest.approx(HOST + 2 * DEVICE)),
        (pytest.approx(HOST + 2 * DEVICE), pytest.approx(HOST + 3 * DEVICE)),
    ]
