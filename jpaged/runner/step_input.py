"""ScheduledBatch -> padded numpy arrays of one bucket's shapes."""

# The letters are typed as the device sees them; here they are still numpy.
# pyright: reportArgumentType=false, reportReturnType=false

import os
from array import array
from collections.abc import Iterable, Mapping
from itertools import chain
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from jpaged.layers.paged import PageTable, PlacedPages
from jpaged.runner.placing import in_places
from jpaged.runner.sampling_rows import SamplingRows
from jpaged.runner.seats import Seats
from jpaged.runner.step import StepInput
from jpaged.sampling.inputs import SamplingInputs
from jpaged.scheduling.batch import ScheduledBatch
from jpaged.scheduling.buckets import Bucket
from jpaged.scheduling.request import Sequence
from pallas_kernels.paged_attention import check_table


class Packed(NamedTuple):
    """A step's input, and what it takes to choose its tokens again, where that is needed.

    scores_prompt: whether any sequence wants log-probabilities of its prompt.
    """

    inputs: StepInput
    sampling: SamplingInputs | None
    scores_prompt: bool


# the scheduler has checks of its own; this is for those who work on it
DEBUG = os.environ.get("JPAGED_DEBUG", "") not in ("", "0")


class StepPacker:
    """Lays batches out for the device, one after another, in the order in which they run.

    max_num_seqs: the most sequences of a step; the tokens of the step before come in so many rows.
    windows: narrower windows, and how many places they have; see `Places`.
    """

    def __init__(
        self,
        num_pages: int,
        page_size: int,
        vocab: int,
        max_model_len: int,
        max_num_seqs: int,
        windows: Mapping[int, int] = MappingProxyType({}),
    ):
        self.num_pages, self.page_size, self.windows = num_pages, page_size, dict(windows)
        self.vocab, self.max_num_seqs = vocab, max(2, max_num_seqs)  # buckets have two rows
        self.seats = Seats(2 * max_num_seqs, -(-max_model_len // page_size))
        self.sampling = SamplingRows(self.seats.num_seats, vocab, max_model_len)
        self._row_of: dict[Sequence, int] = {}  # in the step before
        self._nowhere = [array("i", [count]) * num_pages for count in self.windows.values()]
        self._sizes = (num_pages, page_size, vocab, max_model_len, max_num_seqs, windows)

    def empty(self) -> "StepPacker":
        """One like this in which nobody sits."""
        return StepPacker(*self._sizes)

    def pack(self, batch: ScheduledBatch, bucket: Bucket) -> Packed:
        """The next step's input.  Tokens not known yet are taken from the step before."""
        sequences = [sequence for sequence, _ in batch.items]
        taken, new = self.seats.of(sequences)
        for sequence in new:
            self.sampling.take_seat(self.seats.index(sequence), sequence)
        seats = np.full(bucket.num_sequences, self.seats.num_seats)
        seats[: len(taken)] = taken
        fill = self._decode if batch.is_decode else self._mixed
        tokens, from_previous, table = fill(batch, bucket, seats)
        table = table._replace(placed=self._placed(table, (each.place_of for each in batch.placed)))
        if DEBUG:
            check_table(table, self.num_pages)
            for window, num_places in self.windows.items():
                check_table(table.within(window), num_places)
        self._row_of = dict(zip(sequences, range(len(sequences)), strict=True))
        sample_at = np.zeros(bucket.num_sequences, np.int32)
        sample_at[: len(taken)] = table.query_starts[1 : len(taken) + 1] - 1
        draw, sampling = self.sampling.of(seats, sequences)
        inputs = StepInput(tokens, from_previous, table, sample_at, np.int32(len(taken)), draw)
        return Packed(inputs, sampling, self.sampling.scores_prompt(seats))

    def rehearse(self, sequence: Sequence) -> None:
        """Raises what a sequence's own options make of a step, if they do."""
        alone = SamplingRows(1, self.vocab, self.sampling.max_model_len)
        alone.take_seat(0, sequence)
        alone.of(np.array([0]), [sequence])

    def blank(self, bucket: Bucket) -> StepInput:
        """A step without sequences, of the bucket's shapes and types."""
        T, B, N = bucket
        table = PageTable(
            positions=np.zeros(T, np.int32),
            write_slots=np.full(T, self.num_pages * self.page_size, np.int32),
            query_starts=np.zeros(B + 1, np.int32),
            pages=np.zeros((B, N), np.int32),
            lengths=np.zeros(B, np.int32),
        )
        table = table._replace(placed=self._placed(table, self._nowhere))
        return StepInput(
            tokens=np.zeros(T, np.int32),
            from_previous=np.full(T, -1, np.int32),
            table=table,
            sample_at=np.zeros(B, np.int32),
            num_sequences=np.int32(0),
            draw=self.sampling.greedy(B),
        )

    def _decode(self, batch: ScheduledBatch, bucket: Bucket, seats: np.ndarray):
        """One token of each sequence: nothing but columns."""
        T, B, N = bucket
        sequences, row_of = [sequence for sequence, _ in batch.items], self._row_of
        num = len(sequences)
        known = [0 if s.num_expected else s.tokens[s.num_computed] for s in sequences]
        rows = [row_of[s] if s.num_expected else -1 for s in sequences]
        tokens, from_previous = np.zeros(T, np.int32), np.full(T, -1, np.int32)
        tokens[:num], from_previous[:num] = known, rows
        positions, lengths = np.zeros(T, np.int32), np.zeros(B, np.int32)
        positions[:num] = [s.num_computed for s in sequences]
        lengths[:num] = positions[:num] + 1
        pages = self.seats.tables[seats, :N]
        query_starts = np.minimum(np.arange(B + 1, dtype=np.int32), num)
        write_slots = self._slots(pages, np.arange(num), positions[:num], T)
        self._skip_rereads(batch, query_starts, write_slots)
        table = PageTable(positions, write_slots, query_starts, pages, lengths)
        return tokens, from_previous, table

    def _mixed(self, batch: ScheduledBatch, bucket: Bucket, seats: np.ndarray):
        """Any number of tokens of each sequence."""
        T, B, N = bucket
        num, total = batch.num_sequences, batch.num_tokens
        counts = np.array([count for _, count in batch.items])
        done = np.array([s.num_computed for s, _ in batch.items])
        query_starts = np.full(B + 1, total, np.int32)
        query_starts[: num + 1] = np.concatenate([[0], counts.cumsum()])
        lengths = np.zeros(B, np.int32)
        lengths[:num] = done + counts
        row = np.repeat(np.arange(num), counts)
        positions = np.zeros(T, np.int32)
        positions[:total] = np.arange(total) - query_starts[row] + done[row]
        tokens, from_previous = np.zeros(T, np.int32), np.full(T, -1, np.int32)
        tokens[:total] = list(chain.from_iterable(_known(s, count) for s, count in batch.items))
        for at, (sequence, _) in zip(query_starts, batch.items, strict=False):
            if sequence.num_expected:  # then it is all that is pending
                from_previous[at] = self._row_of[sequence]
        pages = self.seats.tables[seats, :N]
        write_slots = self._slots(pages, row, positions[:total], T)
        self._skip_rereads(batch, query_starts, write_slots)
        table = PageTable(positions, write_slots, query_starts, pages, lengths)
        return tokens, from_previous, table

    def _placed(self, table: PageTable, place_of: Iterable["array[int]"]) -> dict[int, PlacedPages]:
        """The table for layers of each narrower window."""
        return {
            window: in_places(table, each, num_places, self.page_size)
            for (window, num_places), each in zip(self.windows.items(), place_of, strict=True)
        }

    def _slots(self, pages: np.ndarray, row: np.ndarray, positions: np.ndarray, T: int):
        """Each token's place in the cache; padding's lies beyond it."""
        slots = np.full(T, self.num_pages * self.page_size, np.int32)
        page, offset = np.divmod(positions, self.page_size)
        slots[: len(row)] = pages[row, page] * self.page_size + offset
        return slots

    def _skip_rereads(self, batch: ScheduledBatch, query_starts: np.ndarray, slots: np.ndarray):
        """Writes nothing where it stands already: others may be reading there."""
        if batch.has_rereads:
            rows = [row for row, (sequence, _) in enumerate(batch.items) if sequence.is_reread]
            slots[query_starts[rows]] = self.num_pages * self.page_size


def _known(sequence: Sequence, count: int) -> list[int]:
    done = sequence.num_computed
    return [0] if sequence.num_expected else sequence.tokens[done : done + count]
