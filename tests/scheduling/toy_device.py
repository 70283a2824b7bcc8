"""A device of one dict, and the bookkeeping that says whether a scheduler used it rightly.

A slot of its cache holds (token, position, digest of all tokens up to there).  The digest is made
from the digest *read from the cache* one position before, as keys and values depend on what
attention read; the next token is a function of the last digest.  One stale page, and everything
after it is wrong.
"""

from collections import Counter
from collections.abc import Iterable
from random import Random

from jpaged.scheduling.batch import PlacedMoves, ScheduledBatch, StepOutput
from jpaged.scheduling.pages import PagePool
from jpaged.scheduling.places import places_wanted
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


Entry = tuple[int, int, int]


class ToyLayer:
    """Slots that nobody ever clears, of all pages or of the places of a window."""

    def __init__(self, page_size: int):
        self.page_size = page_size
        self.slots: dict[int, Entry] = {}
        self.host: dict[Sequence, list] = {}  # the slots of each page

    def move(self, moves: ScheduledBatch | PlacedMoves) -> None:
        for sequence, pages in moves.swap_outs:
            self.host[sequence] = [self._read(page) for page in pages]
        self._copy_pages(moves.page_copies)
        for sequence, first, pages in moves.swap_ins:
            kept = self.host.pop(sequence)[first:]
            assert not pages or len(pages) == len(kept)
            for page, held in zip(pages, kept, strict=False):
                self._write(page, held)

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


class ToyDevice(ToyLayer):
    """Runs batches.  `near` are the layers of narrower windows; what they read must be there."""

    def __init__(self, pool: PagePool):
        super().__init__(pool.page_size)
        self.pool = pool
        self.near = [ToyLayer(pool.page_size) for _ in pool.windows]
        self.answers: dict[Sequence, int] = {}  # the latest, which the host may not know yet

    def slots_of(self, sequence: Sequence, position: int) -> Iterable[tuple[ToyLayer, int]]:
        """Where a token lies: in the pages, and in the places of every window."""
        place, offset = divmod(position, self.page_size)
        numbers = self.pool.numbers(sequence.pages[place])
        for layer, number in zip((self, *self.near), numbers, strict=True):
            yield layer, number * self.page_size + offset

    def run(self, batch: ScheduledBatch) -> StepOutput:
        self.move(batch)
        for layer, moves in zip(self.near, batch.placed, strict=True):
            layer.move(moves)
        states = [self._run_one(sequence, count) for sequence, count in batch.items]
        tokens = [state % VOCAB for state in states]
        self.answers |= {s: token for (s, _), token in zip(batch.items, tokens, strict=True)}
        return StepOutput(tuple(tokens), {}, {})

    def _run_one(self, sequence: Sequence, count: int) -> int:
        first, state = sequence.num_computed, ROOT
        if first:
            [(_, slot), *_] = self.slots_of(sequence, first - 1)
            state = self.slots[slot][2]
        for position in range(first, first + count):
            is_known = position < len(sequence.tokens)
            token = sequence.tokens[position] if is_known else self.answers[sequence]
            self._look_back(sequence, position, state)
            state = digest(state, token)
            for layer, slot in self.slots_of(sequence, position):
                if position >= sequence.num_written:
                    layer.slots[slot] = (token, position, state)
                else:  # read again: what is there must be what it would write
                    assert layer.slots[slot] == (token, position, state)
        return state

    def _look_back(self, sequence: Sequence, position: int, state: int) -> None:
        """What layers with a window read: its tokens, in their places."""
        for index, (places, layer) in enumerate(zip(self.pool.windows, self.near, strict=True)):
            for seen in range(max(0, position - places.window + 1), position):
                _, slot = list(self.slots_of(sequence, seen))[1 + index]
                token, where, read = layer.slots[slot]
                known = sequence.tokens[seen : seen + 1]
                assert (where, [token][: len(known)]) == (seen, known)
                assert seen < position - 1 or read == state

    def check_reads(self, sequence: Sequence) -> None:
        """All that is taken for computed reads back as this sequence's tokens, in order."""
        state, size = ROOT, self.page_size
        out_of_sight = [sequence.num_passed, *sequence.unseen]  # and somebody else's now
        for position, token in enumerate(sequence.tokens[: sequence.num_computed]):
            # what is computed of tokens nobody knows yet shows when they are known
            state = digest(state, token)
            slots = self.slots_of(sequence, position)
            for (layer, slot), first in zip(slots, out_of_sight, strict=True):
                read = layer.slots.get(slot)
                if position >= first * size:
                    entry = (token, position, state)
                    assert read == entry, f"{sequence} reads {read} at {position}"


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
    check_places(pool, running)
    swapped = [sequence for sequence in scheduler.waiting if sequence.num_swapped]
    assert host.num_used == sum(
        pool.pages_for(each.num_swapped) - each.num_swapped_passed for each in swapped
    )
    assert 0 <= host.num_used <= host.num_pages
    assert not any(sequence.num_swapped for sequence in running)


def check_places(pool: PagePool, running: tuple[Sequence, ...]) -> None:
    """The lookers at a page's place are those who list it, but for what left their window."""
    for index, places in enumerate(pool.windows):
        looked_at = Counter(page for s in running for page in s.pages[s.unseen[index] :])
        assert places.num_lookers == [looked_at[page] for page in range(pool.num_pages)]
        for sequence in running:
            seen_from = max(0, sequence.num_computed - places.window + 1)
            assert sequence.unseen[index] * pool.page_size <= seen_from


def random_windows(
    rng: Random, window: int | None, page_size: int, max_num_seqs: int, num_tokens: int
) -> dict[int, int]:
    """Windows narrower than the widest, with places that suffice."""
    narrower = [each for each in (1, 3, 11) if each < (window or 100) and rng.random() < 0.4]
    return {each: places_wanted(each, page_size, max_num_seqs, num_tokens) for each in narrower}


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
