"""Batches are packed as an obvious loop over their sequences would pack them.

Random scenarios are played by the real scheduler and serving loop, in step and one step ahead.
Every packed batch is compared with `packed_slowly`, entry by entry, and then run by a device that
sees nothing but the arrays: one wrong page, slot, row or column, and its tokens are wrong.
"""

import random
from collections import Counter
from contextlib import suppress
from itertools import count
from typing import Any

import jax
import numpy as np
import pytest
from whimsical import Whimsical

from jpaged.policies import NAMES, resolve
from jpaged.runner.step_input import Packed, StepPacker
from jpaged.sampling_params import MOST_LOGIT_BIASES, SamplingParams
from jpaged.scheduling.batch import ScheduledBatch, StepOutput
from jpaged.scheduling.buckets import Bucket, BucketLadder
from jpaged.scheduling.loop import ServingLoop
from jpaged.scheduling.pages import PagePool
from jpaged.scheduling.places import places_wanted
from jpaged.scheduling.request import Request, Sequence
from jpaged.scheduling.scheduler import Scheduler

VOCAB = 40  # no whole number of 32-bit words
EOS = 0
MAX_MODEL_LEN = 70
ROOT = 1  # the digest of no tokens
WINDOWS = (2, 5, 12)  # the device reads the token before
BATCHES = 6000  # for each of the two ways to run
DRAW = ("temperature", "top_k", "top_p", "min_p", "seed", "position")
EMPTY_ROW = {"temperature": 0, "top_k": 0, "top_p": 1, "min_p": 0, "seed": 0, "position": 0}
NEUTRAL = {"repetition_penalty": 1, "presence_penalty": 0, "frequency_penalty": 0}
OF_REQUEST = {"num_prompt": 0, "logprobs_divisor": 1}


def digest(before: int, token: int) -> int:
    return hash((before, token))


def written_alone(request: Request) -> list[int]:
    """What a request's sequences are to say, without pages, batches or a scheduler."""
    params, state, said = request.params, ROOT, []
    for token in request.prompt:
        state = digest(state, token)
    stops = set(params.stop_token_ids or ()) | (set() if params.ignore_eos else {EOS})
    while len(said) < request.max_tokens:
        said.append(state % VOCAB)
        if said[-1] in stops and len(said) >= params.min_tokens:
            break
        state = digest(state, said[-1])
    return said


class Slip(Exception):
    """Something between scheduler and device went wrong."""


# What a batch looks like to the device, one number after another


def packed_slowly(
    batch: ScheduledBatch, pool: PagePool, before: dict[Sequence, int]
) -> dict[str, list]:
    """Without padding.  before: the rows of the step before."""
    size = pool.page_size
    found: dict[str, list] = {
        name: []
        for name in (
            "tokens from_previous positions write_slots query_starts pages lengths sample_at"
        ).split()
    }
    for sequence, num_tokens in batch.items:
        found["query_starts"].append(len(found["tokens"]))
        for place in range(sequence.num_computed, sequence.num_computed + num_tokens):
            is_known = place < len(sequence.tokens)
            found["tokens"].append(sequence.tokens[place] if is_known else 0)
            found["from_previous"].append(-1 if is_known else before[sequence])
            found["positions"].append(place)
            page = sequence.pages[place // size]
            is_there = sequence.is_reread and place == sequence.num_computed
            slot = pool.num_pages * size if is_there else page * size + place % size
            found["write_slots"].append(slot)
        found["pages"].append(list(sequence.pages))
        found["lengths"].append(sequence.num_computed + num_tokens)
        found["sample_at"].append(len(found["tokens"]) - 1)
    found["query_starts"].append(len(found["tokens"]))
    return found


def drawn_slowly(sequence: Sequence) -> dict[str, float]:
    params = sequence.request.params
    return {
        "temperature": 0 if params.temperature < 1e-5 else params.temperature,
        "top_k": 0 if params.top_k == -1 else params.top_k,
        "top_p": params.top_p,
        "min_p": params.min_p,
        "seed": sequence.seed,
        # the place of the token that is going to be chosen
        "position": len(sequence.tokens) + sequence.num_expected,
    }


def allowed_slowly(sequence: Sequence) -> set[int]:
    request = sequence.request
    params, said = request.params, sequence.tokens[len(request.prompt) :]
    everything = set(range(VOCAB))
    allowed = set(params.allowed_token_ids) if params.allowed_token_ids is not None else everything
    banned = set()
    if len(said) + sequence.num_expected < params.min_tokens:
        banned |= set(params.stop_token_ids or ())
        banned |= set() if params.ignore_eos else set(request.eos_token_ids)
    for *start, end in request.bad_words:
        if len(said) >= len(start) and said[len(said) - len(start) :] == start:
            banned.add(end)
    return (allowed - banned) or allowed


def uses_slowly(batch: ScheduledBatch) -> dict[str, bool]:
    requests = [sequence.request for sequence, _ in batch.items]
    each = [request.params for request in requests]
    return {
        "penalties": any(
            (p.repetition_penalty, p.presence_penalty, p.frequency_penalty) != (1, 0, 0)
            for p in each
        ),
        "biases": any(p.logit_bias for p in each),
        "bans": any(
            r.bad_words or r.params.min_tokens or r.params.allowed_token_ids is not None
            for r in requests
        ),
        "logprobs": any(p.logprobs is not None for p in each),
    }


# Comparing


def assert_inputs(
    packed: Packed, batch: ScheduledBatch, bucket: Bucket, pool: PagePool, slow: dict[str, list]
) -> None:
    """Real entries are as expected, and padding does no harm."""
    inputs, table = packed.inputs, packed.inputs.table
    num, total = batch.num_sequences, batch.num_tokens
    beyond = pool.num_pages * pool.page_size
    for name, array, entries, padding in (
        ("tokens", inputs.tokens, total, 0),
        ("from_previous", inputs.from_previous, total, -1),
        ("positions", table.positions, total, 0),
        ("write_slots", table.write_slots, total, beyond),
        ("query_starts", table.query_starts, num + 1, total),
        ("lengths", table.lengths, num, 0),
        ("sample_at", inputs.sample_at, num, 0),
    ):
        rest = [padding] * (len(array) - entries)
        assert array.dtype == np.int32 and array.tolist() == slow[name] + rest, name
    T, B, N = bucket
    assert len(inputs.tokens) == len(table.positions) == len(table.write_slots) == T
    assert len(inputs.sample_at) == len(table.lengths) == len(table.query_starts) - 1 == B
    assert table.pages.shape == (B, N) and table.pages.dtype == np.int32
    for row, pages in zip(table.pages.tolist(), slow["pages"], strict=False):
        assert row[: len(pages)] == pages
        # what lies behind is never read for its value, but a kernel may look where it points
        assert all(0 <= page < pool.num_pages for page in row[len(pages) :])
    assert not table.pages[num:].any()
    assert inputs.num_sequences == num and np.asarray(inputs.num_sequences).dtype == np.int32


def assert_like(packed: Any, blank: Any) -> None:
    """Compiled steps take what they were compiled for, and nothing else."""
    assert jax.tree.structure(packed) == jax.tree.structure(blank)
    kinds = [
        [(np.shape(x), np.asarray(x).dtype) for x in jax.tree.leaves(t)] for t in (packed, blank)
    ]
    assert kinds[0] == kinds[1]


def assert_draw(draw: Any, batch: ScheduledBatch, num_rows: int, is_blank: bool) -> None:
    """is_blank: nobody asks for anything, so that the rows' values do not matter."""
    rows = [EMPTY_ROW if is_blank else drawn_slowly(s) for s, _ in batch.items]
    rows += [EMPTY_ROW] * (num_rows - len(rows))
    for name in DRAW:
        column = getattr(draw, name)
        expected = np.array([row[name] for row in rows], column.dtype)
        assert column.tolist() == expected.tolist(), name
    assert draw.seed.dtype == np.uint32
    assert draw.is_random == any(s.request.params.temperature >= 1e-5 for s, _ in batch.items)


def assert_sampling(sampling: Any, batch: ScheduledBatch, num_rows: int) -> None:
    sequences = [sequence for sequence, _ in batch.items]
    assert {name: bool(x) for name, x in sampling.uses._asdict().items()} == uses_slowly(batch)
    for name, neutral in (NEUTRAL | OF_REQUEST).items():
        column = getattr(sampling, name)
        mine = [
            {"num_prompt": s.num_prompt, "logprobs_divisor": s.request.logprobs_divisor}[name]
            if name in OF_REQUEST
            else getattr(s.request.params, name)
            for s in sequences
        ]
        padded = mine + [neutral] * (num_rows - len(mine))
        assert column.tolist() == np.array(padded, column.dtype).tolist(), name
    for row in range(num_rows):
        sequence = sequences[row] if row < len(sequences) else None
        assert_large_rows(sampling, row, sequence)


def assert_large_rows(sampling: Any, row: int, sequence: Sequence | None) -> None:
    """History, biases and bans of one row; None is padding."""
    params = sequence.request.params if sequence else SamplingParams()
    history = sequence.tokens if sequence and params.has_penalty else []
    expected = history + [-1] * (MAX_MODEL_LEN - len(history))
    assert sampling.history[row].tolist() == expected
    pairs = list(zip(sampling.bias_ids[row], sampling.bias_values[row], strict=True))
    biases = {int(token): float(value) for token, value in pairs if token < VOCAB}
    clipped = {t: max(-100.0, min(100.0, b)) for t, b in (params.logit_bias or {}).items()}
    assert biases == pytest.approx(clipped)
    assert len(pairs) == MOST_LOGIT_BIASES
    assert sum(token < VOCAB for token, _ in pairs) == len(clipped), "a token is biased twice"
    words = [int(word) for word in sampling.allowed[row]]
    allowed = {t for t in range(VOCAB) if words[t // 32] >> (t % 32) & 1}
    assert allowed == (allowed_slowly(sequence) if sequence else set(range(VOCAB)))


# Playing


class ArrayDevice:
    """Runs packed steps.  A slot of its cache holds the digest of all tokens up to there, which
    is made from the one *read* at the position before, through the page table."""

    def __init__(self, page_size: int, num_rows: int):
        self.page_size = page_size
        self.slots: dict[int, int] = {}
        self.previous = [0] * num_rows

    def run(self, inputs: Any, copies: tuple[tuple[int, int], ...]) -> list[int]:
        size, slots = self.page_size, self.slots
        read = [[slots.get(source * size + i) for i in range(size)] for source, _ in copies]
        for (_, target), held in zip(copies, read, strict=True):
            slots |= {target * size + i: s for i, s in enumerate(held) if s is not None}
        table, at, states = inputs.table, 0, []
        for row in range(int(inputs.num_sequences)):
            while at < table.query_starts[row + 1]:
                states.append(self._run_one(inputs, row, at))
                at += 1
        chosen = [int(inputs.sample_at[row]) for row in range(int(inputs.num_sequences))]
        said = [states[place] % VOCAB for place in chosen]
        self.previous = said + [0] * (len(self.previous) - len(said))
        return said

    def _run_one(self, inputs: Any, row: int, at: int) -> int:
        table, source = inputs.table, int(inputs.from_previous[at])
        token = int(inputs.tokens[at]) if source < 0 else self.previous[source]
        page, offset = divmod(int(table.positions[at]) - 1, self.page_size)
        state = ROOT if page < 0 else self.slots[table.pages[row, page] * self.page_size + offset]
        state = digest(state, token)
        self.slots[int(table.write_slots[at])] = state
        return state


def assert_seen(
    window: int, device: ArrayDevice, table: Any, near: ArrayDevice, placed: Any
) -> None:
    """Layers of a window find in it what others have in their pages."""
    spans = np.diff(table.query_starts)
    for row, (length, fresh) in enumerate(zip(table.lengths, spans, strict=True)):
        for position in range(max(0, length - fresh - window + 1), length):
            page, offset = divmod(position, device.page_size)
            slots = [each.pages[row, page] * device.page_size + offset for each in (table, placed)]
            assert near.slots[slots[1]] == device.slots[slots[0]]


class Play:
    """One random scenario.  It is the loop's executor: it packs, compares, and runs at once."""

    def __init__(self, seed: int, ahead: int):
        self.rng = rng = random.Random(seed)
        self.seats = rng.choice((1, 2, 3, 6, 9))
        size = rng.choice((1, 4, 16))
        self.requests = [self._make_request(str(i)) for i in range(rng.randint(2, 30))]
        longest = max(len(r.prompt) + r.max_tokens for r in self.requests)
        budget = rng.choice((9, 17, 40, 200))
        windows = {
            window: places_wanted(window, size, self.seats, budget)
            for window in WINDOWS
            if rng.random() < 0.4
        }
        num_pages = -(-longest // size) + rng.choice((0, 1, 4, 40))
        self.pool = PagePool(num_pages, size, windows=windows)
        self.scheduler = Scheduler(
            self.pool,
            rng.choice((Whimsical(rng), resolve(rng.choice([*NAMES])))),
            max_num_seqs=self.seats,
            max_num_batched_tokens=budget,
            enable_prefix_caching=rng.random() < 0.7,
        )
        self.packer = StepPacker(num_pages, size, VOCAB, MAX_MODEL_LEN, self.seats, windows)
        self.ladder = BucketLadder(*self._rungs(-(-MAX_MODEL_LEN // size)))
        self.device = ArrayDevice(size, max(2, self.seats))
        self.near = {window: ArrayDevice(size, max(2, self.seats)) for window in windows}
        self.loop = ServingLoop(self.scheduler, self, lambda: 0.0, ahead=ahead)
        self.before: dict[Sequence, int] = {}
        self.sequences: list[Sequence] = []
        self.seen: Counter[str] = Counter()

    def _rungs(self, pages: int) -> tuple[tuple[Bucket, ...], tuple[Bucket, ...]]:
        """More rungs than an engine has, in every direction."""
        rows = sorted({2, max(2, self.seats // 2), max(2, self.seats)})
        columns = sorted({-(-pages // 3), pages})
        decode = tuple(Bucket(b, b, n) for n in columns for b in rows)
        mixed = tuple(Bucket(t, b, n) for n in columns for b in rows for t in (12, 40, 200))
        return decode, mixed

    def _make_request(self, name: str) -> Request:
        rng = self.rng
        beginning = (3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8) * 2
        prompt = beginning[: rng.choice((0, 0, 8, 24))]
        prompt += tuple(rng.choices(range(VOCAB), k=rng.randint(1, rng.choice((3, 20)))))
        return Request(
            id=name,
            prompt=prompt,
            params=self._make_params(),
            priority=rng.randint(0, 3),
            seed=rng.getrandbits(40),
            eos_token_ids=frozenset({EOS}),
            max_tokens=rng.randint(1, rng.choice((4, 24))),
            bad_words=((7,), (8, 9), (3, 3)) if rng.random() < 0.05 else (),
        )

    def _make_params(self) -> SamplingParams:
        rng = self.rng
        if rng.random() < 0.3:
            return SamplingParams(temperature=0, top_k=rng.choice((0, 5)), top_p=0.5)

        def seldom(value: Any, otherwise: Any) -> Any:
            return value if rng.random() < 0.15 else otherwise

        return SamplingParams(
            n=seldom(3, 1),
            max_tokens=None,
            temperature=rng.choice((0.0, 1e-6, 0.7, 1.0)),
            top_k=rng.choice((-1, 0, 5)),
            top_p=rng.choice((1.0, 0.9)),
            min_p=seldom(0.1, 0.0),
            presence_penalty=seldom(0.5, 0.0),
            frequency_penalty=seldom(-0.5, 0.0),
            repetition_penalty=seldom(1.2, 1.0),
            logit_bias=seldom({5: 1.5, 6: -1000.0, 39: 200.0}, None),
            allowed_token_ids=seldom(rng.sample(range(VOCAB), rng.choice((1, 5, 30))), None),
            min_tokens=seldom(6, 0),
            stop_token_ids=seldom([11, 12, 13], None),
            ignore_eos=seldom(True, False),
            logprobs=seldom(2, None),
            prompt_logprobs=seldom(1, None),
        )

    def run(self) -> Counter[str]:
        to_come = list(self.requests)
        for _ in range(20_000):
            if not to_come and not self.scheduler.has_unfinished:
                break
            if to_come and (self.rng.random() < 0.5 or not self.scheduler.has_unfinished):
                self.sequences += self.scheduler.add(to_come.pop())
            if self.rng.random() < 0.01:
                self.scheduler.abort(str(self.rng.randrange(30)))
            with suppress(Slip):
                self.loop.step()
        assert not self.scheduler.has_unfinished, "no end in sight"
        self.check_said()
        return self.seen

    def check_said(self) -> None:
        for sequence in self.sequences:
            expected = written_alone(sequence.request)
            if sequence.finish_reason == "abort":
                expected = expected[: sequence.num_generated]
            assert sequence.generated == expected
        over = len(self.sequences) - self.packer.seats.num_seats
        self.seen += Counter(sequences_beyond_the_seats=max(0, over))

    def bucket(self, batch: ScheduledBatch) -> Bucket:
        """The one that fits, or a larger one, as while the fitting one is being compiled."""
        fitting = self.ladder.fit(batch)
        if self.rng.random() < 0.7:
            return fitting
        kind = self.ladder.decode if batch.is_decode else self.ladder.mixed
        return self.rng.choice([each for each in kind if each.holds(fitting)])

    def submit(self, batch: ScheduledBatch) -> StepOutput:
        bucket = self.bucket(batch)
        slow = packed_slowly(batch, self.pool, self.before)
        packed = self.packer.pack(batch, bucket)
        assert_inputs(packed, batch, bucket, self.pool, slow)
        assert_like(packed.inputs, self.packer.blank(bucket))
        uses_more = any(uses_slowly(batch).values())
        is_random = any(s.request.params.temperature >= 1e-5 for s, _ in batch.items)
        assert_draw(packed.inputs.draw, batch, bucket.num_sequences, not uses_more | is_random)
        assert (packed.sampling is not None) == uses_more
        if packed.sampling is not None:
            assert_draw(packed.sampling.draw, batch, bucket.num_sequences, is_blank=False)
            assert_sampling(packed.sampling, batch, bucket.num_sequences)
            assert_like(packed.sampling, self.packer.sampling.blank(bucket.num_sequences))
        asked = any(s.request.params.prompt_logprobs is not None for s, _ in batch.items)
        assert packed.scores_prompt == asked
        self.note(batch)
        self.before = {sequence: row for row, (sequence, _) in enumerate(batch.items)}
        self.maybe_slip()
        answer = self.device.run(packed.inputs, batch.page_copies)
        for (window, near), moves in zip(self.near.items(), batch.placed, strict=True):
            inputs = packed.inputs._replace(table=packed.inputs.table.within(window))
            assert near.run(inputs, moves.page_copies) == answer
            assert_seen(window, self.device, packed.inputs.table, near, inputs.table)
            self.seen += Counter(steps_with_windows=1)
        self.maybe_slip()
        return StepOutput(tuple(answer), {}, {})

    def maybe_slip(self) -> None:
        """The batch was packed, but its answer is never heard of."""
        if self.rng.random() < 0.02:
            self.seen += Counter(slips=1)
            raise Slip

    def note(self, batch: ScheduledBatch) -> None:
        self.seen += Counter(
            batches=1,
            decode=batch.is_decode,
            mixed=not batch.is_decode,
            readmitted=any(s.num_preemptions and not s.num_computed for s, _ in batch.items),
            expected=any(s.num_expected for s, _ in batch.items),
            expected_beside_prompts=not batch.is_decode
            and any(s.num_expected for s, _ in batch.items),
            known=all(not s.num_expected for s, _ in batch.items),
            moved_row=any(self.before.get(s, row) != row for row, (s, _) in enumerate(batch.items)),
        )

    def collect(self, handle: StepOutput) -> StepOutput:
        return handle


@pytest.mark.parametrize("ahead", [0, 1], ids=["in step", "one step ahead"])
def test_every_batch_is_packed_as_a_loop_over_its_sequences_would(ahead: int):
    seen: Counter[str] = Counter()
    for seed in count():
        if seen["batches"] >= BATCHES:
            break
        seen += Play(seed, ahead).run()

    print(f"{seed} scenarios: {dict(seen)}")
    tried = {"decode", "mixed", "readmitted", "known", "slips", "sequences_beyond_the_seats"}
    tried |= {"expected", "expected_beside_prompts", "moved_row"} if ahead else set()
    assert {what for what in tried if seen[what] < 20} == set(), "the scenarios are too mild"
    assert ahead or not seen["expected"]
