"""ScheduledBatch -> padded numpy arrays of one bucket's shapes."""

# The letters are typed as the device sees them; here they are still numpy.
# pyright: reportArgumentType=false, reportReturnType=false

from collections.abc import Callable, Iterable

import numpy as np

from jpaged.layers.paged import PageTable
from jpaged.runner.step import StepInput
from jpaged.sampling.inputs import SamplingInputs, Uses
from jpaged.sampling_params import MOST_LOGIT_BIASES
from jpaged.scheduling.batch import ScheduledBatch
from jpaged.scheduling.buckets import Bucket
from jpaged.scheduling.request import Sequence
from jpaged.scheduling.stopping import must_go_on, stop_ids

Item = tuple[Sequence, int]
Blank = Callable[[str, int], np.ndarray]


class StepPacker:
    """Lays batches out for the device.

    Arrays that few requests need (history, biases, bans) are large; where no row uses them the
    same blank goes out every time.
    """

    def __init__(self, num_pages: int, page_size: int, vocab: int, max_model_len: int):
        self.num_pages, self.page_size = num_pages, page_size
        self.vocab, self.max_model_len = vocab, max_model_len
        self._blanks: dict[tuple[str, int], np.ndarray] = {}

    def pack(self, batch: ScheduledBatch, bucket: Bucket) -> StepInput:
        tokens, table = self._tokens_and_table(batch, bucket)
        sample_at = np.zeros(bucket.num_sequences, np.int32)
        sample_at[: batch.num_sequences] = table.query_starts[1 : batch.num_sequences + 1] - 1
        return StepInput(tokens, table, sample_at, self._sampling(batch.items, bucket))

    def blank(self, bucket: Bucket) -> StepInput:
        """A step without sequences, of the bucket's shapes and types."""
        return self.pack(ScheduledBatch(()), bucket)

    def _tokens_and_table(
        self, batch: ScheduledBatch, bucket: Bucket
    ) -> tuple[np.ndarray, PageTable]:
        T, B, N = bucket
        tokens, positions = np.zeros(T, np.int32), np.zeros(T, np.int32)
        write_slots = np.full(T, self.num_pages * self.page_size, np.int32)
        query_starts, lengths = np.full(B + 1, batch.num_tokens, np.int32), np.zeros(B, np.int32)
        pages = np.zeros((B, N), np.int32)
        start = 0
        for row, (sequence, count) in enumerate(batch.items):
            done, end = sequence.num_computed, start + count
            tokens[start:end] = sequence.tokens[done : done + count]
            mine = pages[row]
            mine[: len(sequence.pages)] = sequence.pages
            place = np.arange(done, done + count, dtype=np.int32)
            positions[start:end] = place
            write_slots[start:end] = mine[place // self.page_size] * self.page_size + (
                place % self.page_size
            )
            query_starts[row], lengths[row] = start, done + count
            start = end
        return tokens, PageTable(positions, write_slots, query_starts, pages, lengths)

    def _sampling(self, items: tuple[Item, ...], bucket: Bucket) -> SamplingInputs:
        rows = [sequence for sequence, _ in items]
        params = [sequence.request.params for sequence in rows]
        B = bucket.num_sequences

        def column(values, fill, dtype) -> np.ndarray:
            out = np.full(B, fill, dtype)
            out[: len(rows)] = list(values)
            return out

        uses = Uses(
            randomness=np.array(any(not p.is_greedy for p in params)),
            filters=np.array(any(p.top_k > 0 or p.top_p < 1 or p.min_p > 0 for p in params)),
            penalties=np.array(any(map(_has_penalty, params))),
            biases=np.array(any(p.logit_bias for p in params)),
            bans=np.array(any(map(_has_ban, rows))),
            logprobs=np.array(any(p.logprobs is not None for p in params)),
        )
        bias_ids, bias_values = self._biases(rows, B, bool(uses.biases))
        return SamplingInputs(
            temperature=column(
                (0 if p.is_greedy else p.temperature for p in params), 0, np.float32
            ),
            top_k=column((max(p.top_k, 0) for p in params), 0, np.int32),
            top_p=column((p.top_p for p in params), 1, np.float32),
            min_p=column((p.min_p for p in params), 0, np.float32),
            seed=column((s.seed for s in rows), 0, np.uint32),
            position=column((len(s.tokens) for s in rows), 0, np.int32),
            repetition_penalty=column((p.repetition_penalty for p in params), 1, np.float32),
            presence_penalty=column((p.presence_penalty for p in params), 0, np.float32),
            frequency_penalty=column((p.frequency_penalty for p in params), 0, np.float32),
            num_prompt=column((s.num_prompt for s in rows), 0, np.int32),
            history=self._history(rows, B, bool(uses.penalties)),
            bias_ids=bias_ids,
            bias_values=bias_values,
            allowed=self._allowed(rows, B, bool(uses.bans)),
            uses=uses,
        )

    def _blank(self, name: str, shape: tuple[int, ...], fill: int, dtype) -> np.ndarray:
        key = (name, shape[0])
        if key not in self._blanks:
            self._blanks[key] = np.full(shape, fill, dtype)
        return self._blanks[key]

    def _history(self, rows: list[Sequence], B: int, is_used: bool) -> np.ndarray:
        blank = self._blank("history", (B, self.max_model_len), -1, np.int32)
        if not is_used:
            return blank
        history = blank.copy()
        for row, sequence in enumerate(rows):
            if _has_penalty(sequence.request.params):
                history[row, : len(sequence.tokens)] = sequence.tokens
        return history

    def _biases(self, rows, B: int, is_used: bool) -> tuple[np.ndarray, np.ndarray]:
        ids = self._blank("bias_ids", (B, MOST_LOGIT_BIASES), self.vocab, np.int32)
        values = self._blank("bias_values", (B, MOST_LOGIT_BIASES), 0, np.float32)
        if is_used:
            ids, values = ids.copy(), values.copy()
            for row, sequence in enumerate(rows):
                bias = sequence.request.params.logit_bias or {}
                ids[row, : len(bias)] = list(bias)
                # vLLM's and OpenAI's range
                values[row, : len(bias)] = np.clip(list(bias.values()), -100, 100)
        return ids, values

    def _allowed(self, rows: list[Sequence], B: int, is_used: bool) -> np.ndarray:
        words = -(-self.vocab // 32)
        blank = self._blank("allowed", (B, words), 0xFFFFFFFF, np.uint32)
        if not is_used:
            return blank
        allowed = blank.copy()
        for row, sequence in enumerate(rows):
            only = sequence.request.params.allowed_token_ids
            if only is not None:
                allowed[row] = _bits(only, words)
            rest = allowed[row] & ~_bits(banned_tokens(sequence), words)
            # a row without any token would fall on token 0: bans give way to what is allowed
            allowed[row] = rest if rest.any() else allowed[row]
        return allowed


def _bits(tokens: Iterable[int], words: int) -> np.ndarray:
    """One bit a token, 32 to a word."""
    bits, ids = np.zeros(words, np.uint32), np.array(list(tokens), np.uint32)
    np.bitwise_or.at(bits, ids // 32, np.uint32(1) << (ids % 32))
    return bits


def _has_penalty(params) -> bool:
    return bool(
        params.repetition_penalty != 1 or params.presence_penalty or params.frequency_penalty
    )


def _has_ban(sequence: Sequence) -> bool:
    return sequence.request.params.allowed_token_ids is not None or any(
        True for _ in banned_tokens(sequence)
    )


def banned_tokens(sequence: Sequence):
    """Tokens that may not come next: stop tokens below `min_tokens`, ends of bad words."""
    if must_go_on(sequence):
        yield from stop_ids(sequence)
    for word in sequence.request.bad_words:
        start = word[:-1]
        # the words' beginnings are looked for in the output alone, as in vLLM
        if not start or sequence.generated[-len(start) :] == list(start):
            yield word[-1]
