"""Whether the scheduler's books add up, asked when something went wrong.

Policies get the sequences and queues themselves, not copies of them, or every step would cost twice
as much.  One that writes to them breaks what everybody relies on, and the error that follows comes
later, from somewhere else: here is looked up what it did, so that it can be told.
"""

from collections import Counter
from collections.abc import Iterator
from itertools import islice

from jpaged.scheduling.blame import defined_at
from jpaged.scheduling.policy import Policy
from jpaged.scheduling.queues import Queues
from jpaged.scheduling.request import Request, Sequence, Status, Timing

KINDS = {"request": Request, "timing": Timing, "tokens": list, "pages": list, "family": list}


def accusation(policy: Policy, queues: Queues, what: str = "") -> str | None:
    """What a policy must have done, for people; None if the books add up.

    what: is wrong in any case.
    """
    wrong = [*islice(problems(queues), 1), what]
    if not any(wrong):
        return None
    return (
        f"the scheduler's books do not add up: {'; '.join(filter(None, wrong))}.  The policy "
        f"{type(policy).__name__} ({defined_at(policy, 'propose')}), or one before it, has written "
        "to sequences or queues, which are to be read only; if none does, this is a bug of jpaged's"
    )


def is_ours(policy: Policy) -> bool:
    """Whether it comes with jpaged, and writes to nothing."""
    return type(policy).__module__.startswith("jpaged.")


def problems(queues: Queues) -> Iterator[str]:
    for sequence in queues.running:
        yield from _of_sequence(sequence, Status.RUNNING, queues.pool.page_size)
    for sequence in queues.waiting:
        yield from _of_sequence(sequence, Status.WAITING, queues.pool.page_size)
    if queues.waiting_set != set(queues.waiting):
        yield "who waits is not who is in the queue of the waiting"
    held = Counter(page for sequence in queues for page in sequence.held_pages)
    for page, count in enumerate(queues.pool.holders):
        if count != held[page]:
            yield f"page {page} has {count} holders, and {held[page]} sequences have it"


def _of_sequence(sequence: Sequence, status: Status, page_size: int) -> Iterator[str]:
    """Of one in the queue of those of this status."""
    for name, kind in KINDS.items():
        if not isinstance(getattr(sequence, name), kind):
            yield f"a sequence has {getattr(sequence, name)!r:.60} as its {name}"
            return
    if sequence.status is not status:
        yield f"{sequence} is among the {status.value}"
    if tuple(sequence.tokens[: sequence.num_prompt]) != sequence.request.prompt:
        yield f"{sequence} does not begin with its prompt"
    if sequence.is_paused and not sequence.is_steered:
        yield f"{sequence} is paused, and nobody steers it"
    num_known = len(sequence.tokens) + sequence.num_expected
    num_places = len(sequence.pages) * page_size
    if not 0 <= sequence.num_computed <= min(num_known, num_places):
        yield f"{sequence} has {num_places} places in its pages"
    if sequence not in sequence.family:
        yield f"{sequence} is not of its own family"
