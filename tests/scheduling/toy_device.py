"""A device of one dict, and the bookkeeping that says whether a scheduler used it rightly.

A slot of its cache holds (token, position, digest of all tokens up to there).  The digest is made
from the digest *read from the cache* one position before, as keys and values depend on what
attention read; the next token is a function of the last digest.  One stale page, and everything
after it is wrong.
"""

from collections import Counter

from jpaged.scheduling.batch import ScheduledBatch, StepOutput
from jpaged.scheduling.request import Request, Sequence
from jpaged.scheduling.scheduler import Scheduler

VOCAB = 40
EOS = 0
ROOT = 1  # the digest of no tokens


def digest(before: int, token: int) -> int:
    return hash((before, token))


def written_alone(request: Request) -> list[int]:
    """What a request's sequences are to say, without pages, batches or a scheduler."""
    state, said = ROOT, []
    for token in request.prompt:
        state = digest(state, token)
    while len(said) < request.max_tokens and EOS not in said:
        said.append(state % VOCAB)
        state = digest(state, said[-1])
    return said


class ToyDevice:
    """Runs batches over `slots`, which nobody ever clears."""

    def __init__(self, page_size: int):
        self.page_size = page_size
        self.slots: dict[int, tuple[int, int, int]] = {}
        self.answers: dict[Sequence, int] = {}  # the latest, which the host may not know yet
        self.host: dict[Sequence, list] = {}  # the slots of each page

    def slot(self, sequence: Sequence, position: int) -> int:
        page, offset = divmod(position, self.page_size)
        return sequence.pages[page] * self.page_size + offset

    def run(self, batch: ScheduledBatch) -> StepOutput:
        for sequence, pages in batch.swap_outs:
            self.host[sequence] = [self._read(page) for page in pages]
        self._copy_pages(batch.page_copies)
        for sequence, first, pages in batch.swap_ins:
            kept = self.host.pop(sequence)[first:]
            assert not pages or len(pages) == len(kept)
            for page, held in zip(pages, kept, strict=False):
                self._write(page, held)
        states = [self._run_one(sequence, count) for sequence, count in batch.items]
        tokens = [state % VOCAB for state in states]
        self.answers |= {s: token for (s, _), token in zip(batch.items, tokens, strict=True)}
        return StepOutput(tuple(tokens), {}, {})

    def _copy_pages(self, copies: tuple[tuple[int, int], ...]) -> None:
        read = [(target, self._read(source)) for source, target in copies]
        for target, held in read:
            self._write(target, held)

    def _read(self, page: int) -> list[tuple[int, int, int] | None]:
        first = page * self.page_size
        return [self.slots.get(slot) for slot in range(first, first + self.page_size)]

    def _write(self, page: int, held: list[tuple[int, int, int] | None]) -> None:
        """An empty slot is not written: nobody may read it."""
        for slot, entry in enumerate(held, start=page * self.page_size):
            if entry is not None:
                self.slots[slot] = entry

    def _run_one(self, sequence: Sequence, count: int) -> int:
        first = sequence.num_computed
        state = self.slots[self.slot(sequence, first - 1)][2] if first else ROOT
        for position in range(first, first + count):
            is_known = position < len(sequence.tokens)
            token = sequence.tokens[position] if is_known else self.answers[sequence]
            state = digest(state, token)
            if position >= sequence.num_written:
                self.slots[self.slot(sequence, position)] = (token, position, state)
            else:  # read again: what is there must be what it would write
                assert self.slots[self.slot(sequence, position)] == (token, position, state)
        return state

    def check_reads(self, sequence: Sequence) -> None:
        """All that is taken for computed reads back as this sequence's tokens, in order."""
        state, size = ROOT, self.page_size
        for position, token in enumerate(sequence.tokens[: sequence.num_computed]):
            # what is computed of tokens nobody knows yet shows when they are known
            state = digest(state, token)
            if position < sequence.num_passed * size:  # out of sight, and somebody else's now
                continue
            read = self.slots.get(self.slot(sequence, position))
            assert read == (token, position, state), f"{sequence} reads {read} at {position}"


def check_pages(scheduler: Scheduler) -> None:
    """Every page is free, idle or held, and its holders are the sequences that list it."""
    pool, running = scheduler.pool, scheduler.running
    held = Counter(page for sequence in running for page in sequence.held_pages)
    assert pool.holders == [held[page] for page in range(pool.num_pages)]
    assert all(len(set(s.held_pages)) == len(s.held_pages) for s in running)
    remembered = set(scheduler.cache.known) if scheduler.cache else set()
    assert pool.num_idle == len(remembered - set(held))
    assert (pool.num_held, pool.num_free) == (len(held), pool.num_pages - len(held))
    pool.check()
    host, window = scheduler.queues.host, scheduler.queues.window
    for sequence in running:  # nothing that the next token looks at is given away
        seen_from = max(0, sequence.num_computed - (window or 10**9) + 1)
        assert sequence.num_passed * pool.page_size <= seen_from
    swapped = [sequence for sequence in scheduler.waiting if sequence.num_swapped]
    assert host.num_used == sum(
        pool.pages_for(each.num_swapped) - each.num_swapped_passed for each in swapped
    )
    assert 0 <= host.num_used <= host.num_pages
    assert not any(sequence.num_swapped for sequence in running)


def check_queues(scheduler: Scheduler) -> None:
    """Those who wait hold nothing and stand in order of arrival; nobody is in two places."""
    waiting, running = scheduler.waiting, scheduler.running
    assert all(not s.pages and not s.num_computed for s in waiting)
    serials = [sequence.serial for sequence in waiting]
    assert serials == sorted(serials)
    everyone = [*waiting, *running]
    assert len(set(everyone)) == len(everyone)
    assert not any(sequence.is_finished for sequence in everyone)
    assert len(running) <= scheduler.queues.max_num_seqs


def check_batch(
    scheduler: Scheduler,
    batch: ScheduledBatch,
    running_before: tuple[Sequence, ...],
    eldest: Sequence | None,
) -> None:
    """Budget, chunking, the scheduler's two rules, and a place for every token."""
    sequences = [sequence for sequence, _ in batch.items]
    assert 0 < len(sequences) == len(set(sequences))
    assert 0 < sum(count for _, count in batch.items) <= scheduler.max_num_batched_tokens
    for sequence, count in batch.items:
        assert sequence in scheduler.running
        assert 0 < count <= sequence.num_pending
        assert scheduler.enable_chunked_prefill or count == sequence.num_pending
        room = len(sequence.pages) * scheduler.pool.page_size
        assert sequence.num_computed + count <= room, "a token without a slot"
    assert eldest is None or eldest in sequences, "the eldest got nothing"
    if batch.preempted:
        assert set(scheduler.running) <= set(running_before), "admitted while evicting"


def check_writes(scheduler: Scheduler, batch: ScheduledBatch) -> None:
    """Nobody else writes a page that is written in this step.  Who reads it stands behind its
    writer, and reads only what the step fills."""
    size = scheduler.pool.page_size
    written: dict[int, int] = {}  # page: slots filled after this step
    read: set[int] = set()
    for sequence, count in batch.items:
        first, end = sequence.num_written, sequence.num_computed + count
        for place in range(sequence.num_passed, -(-first // size)):
            page, needed = sequence.pages[place], min(size, first - place * size)
            assert written.get(page, size) >= needed, f"{sequence} reads a page that is not full"
        for place in range(first // size, (end - 1) // size + 1 if end > first else 0):
            page = sequence.pages[place]
            assert page not in written, f"page {page} is written twice"
            assert page not in read, f"page {page} is written under its readers"
            written[page] = min(size, end - place * size)
        read.update(sequence.pages[sequence.num_passed : -(-first // size)])
    targets = [target for _, target in batch.page_copies]
    targets += [page for _, _, pages in batch.swap_ins for page in pages]
    assert len(set(targets)) == len(targets), "two copies into one page"
    grants = dict(batch.items)
    for sequence in scheduler.running:
        if sequence not in grants:
            first = sequence.num_written // size
            assert not written.keys() & set(sequence.pages[first:])
