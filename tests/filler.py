"""Requests, schedulers and steps without a model: what tests of the scheduling need."""

from typing import Any

from jpaged.sampling_params import SamplingParams
from jpaged.scheduling.batch import ScheduledBatch, StepOutput
from jpaged.scheduling.pages import PagePool
from jpaged.scheduling.policy import Fcfs, Policy
from jpaged.scheduling.request import Request, Sequence
from jpaged.scheduling.scheduler import Scheduler
from jpaged.scheduling.view import View

EOS = 99
FILLER = 7  # the token every step answers with, unless a test says otherwise


def a_request(
    name: str = "a",
    prompt: int | tuple[int, ...] = 4,
    max_tokens: int = 4,
    arrival: float = 0.0,
    priority: int = 0,
    **params: Any,
) -> Request:
    """A request; a prompt given as a number is that many tokens which no other name shares."""
    if isinstance(prompt, int):
        first = 1000 * sum(name.encode())
        prompt = tuple(range(first, first + prompt))
    return Request(
        id=name,
        prompt=prompt,
        params=SamplingParams(max_tokens=max_tokens, **params),
        arrival=arrival,
        priority=priority,
        eos_token_ids=frozenset({EOS}),
        max_tokens=max_tokens,
    )


def a_scheduler(
    num_pages: int = 64, page_size: int = 4, policy: Policy | None = None, **options: Any
) -> Scheduler:
    return Scheduler(PagePool(num_pages, page_size), policy or Fcfs(), **options)


class Wishes(Policy):
    """A policy that proposes what it was told, by request id."""

    def __init__(self, *wishes: tuple[str, int], gives_way: str = ""):
        self.wishes = wishes
        self.gives_way = gives_way

    def propose(self, view: View):
        known = {sequence.request.id: sequence for sequence in (*view.running, *view.waiting)}
        return [(known[name], most) for name, most in self.wishes]

    def victim(self, view: View):
        known = {sequence.request.id: sequence for sequence in view.running}
        return known.get(self.gives_way, view.running[-1])


def add(scheduler: Scheduler, name: str = "a", *args: Any, **kwargs: Any) -> Sequence:
    """Queues a request of one sequence and returns that."""
    (sequence,) = scheduler.add(a_request(name, *args, **kwargs))
    return sequence


def schedule(scheduler: Scheduler, now: float = 0.0) -> ScheduledBatch:
    """The next batch of a scheduler that has something to do."""
    batch = scheduler.schedule(now)
    assert batch is not None, "nothing was left to schedule"
    return batch


def step(scheduler: Scheduler, now: float = 0.0, token: int = FILLER) -> ScheduledBatch:
    """One whole step, in which every sequence is answered with `token`."""
    batch = schedule(scheduler, now)
    scheduler.update(batch, StepOutput.filler(batch, token), now)
    return batch


def run(scheduler: Scheduler, most: int = 1000) -> list[ScheduledBatch]:
    """Steps one second apart until nothing is left to do; the batches that ran."""
    batches = []
    while scheduler.has_unfinished:
        assert len(batches) < most, f"still at work after {most} steps"
        batches.append(step(scheduler, now=float(len(batches))))
    return batches


def names(sequences) -> str:
    """The ids of sequences one after another: "abc" is quicker to read than three reprs."""
    return "".join(sequence.request.id for sequence in sequences)


def counts(batch: ScheduledBatch) -> dict[str, int]:
    """How many tokens of each request a batch runs."""
    return {sequence.request.id: count for sequence, count in batch.items}
