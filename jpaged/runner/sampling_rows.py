"""What the sampler needs to know of each sequence, as rows of numpy arrays.

Most of it never changes while a sequence lives, so it is written once, when the sequence takes a
seat; a step picks the rows of its sequences.  Arrays that few requests need (history, biases,
bans) are large: where no row uses them the same blank goes out every time.
"""

# The letters are typed as the device sees them; here they are still numpy.
# pyright: reportArgumentType=false, reportReturnType=false

from collections.abc import Iterable, Sequence

import numpy as np

from jpaged.sampling.inputs import DrawInputs, SamplingInputs, Uses
from jpaged.sampling_params import MOST_LOGIT_BIASES
from jpaged.scheduling.request import Sequence as Stream
from jpaged.scheduling.stopping import must_go_on

DRAW_COLUMNS = {  # name: (type, value of an empty row)
    "temperature": (np.float32, 0),
    "top_k": (np.int32, 0),
    "top_p": (np.float32, 1),
    "min_p": (np.float32, 0),
    "seed": (np.uint32, 0),
}
OTHER_COLUMNS = {
    "repetition_penalty": (np.float32, 1),
    "presence_penalty": (np.float32, 0),
    "frequency_penalty": (np.float32, 0),
    "num_prompt": (np.int32, 0),
    "logprobs_divisor": (np.float32, 1),
}
USES = ("randomness", "penalties", "biases", "bans", "logprobs")  # columns of `_uses`


class SamplingRows:
    """One row a seat; seat `num_seats` is an empty row, for padding."""

    def __init__(self, num_seats: int, vocab: int, max_model_len: int):
        self.vocab, self.max_model_len = vocab, max_model_len
        self._draw = _empty_columns(DRAW_COLUMNS, num_seats + 1)
        self._other = _empty_columns(OTHER_COLUMNS, num_seats + 1)
        self._uses = np.zeros((num_seats + 1, len(USES)), bool)
        self._scores_prompt = np.zeros(num_seats + 1, bool)
        self._blanks: dict[tuple[str, int], np.ndarray] = {}
        self._greedy: dict[int, DrawInputs] = {}

    def take_seat(self, seat: int, sequence: Stream) -> None:
        params, draw = sequence.request.params, self._draw
        draw["temperature"][seat] = 0 if params.is_greedy else params.temperature
        draw["top_k"][seat] = max(params.top_k, 0)
        draw["top_p"][seat] = params.top_p
        draw["min_p"][seat] = params.min_p
        draw["seed"][seat] = sequence.seed
        self._other["num_prompt"][seat] = sequence.num_prompt
        self._other["logprobs_divisor"][seat] = sequence.request.logprobs_divisor
        for name in ("repetition_penalty", "presence_penalty", "frequency_penalty"):
            self._other[name][seat] = getattr(params, name)
        self._scores_prompt[seat] = params.prompt_logprobs is not None
        self._uses[seat] = (
            not params.is_greedy,
            params.has_penalty,
            bool(params.logit_bias),
            may_ban(sequence),
            params.num_logprobs is not None,
        )

    def of(
        self, seats: np.ndarray, rows: Sequence[Stream]
    ) -> tuple[DrawInputs, SamplingInputs | None]:
        """For sequences that sit there; padding has the empty seat.

        The second is None where no sequence asks for more than drawing a token.
        """
        used = self._uses[seats].any(axis=0).tolist()
        if not any(used):
            return self.greedy(len(seats)), None
        draw = self._draw_inputs(seats, rows)
        uses = dict(zip(USES[1:], used[1:], strict=True))
        return draw, self._inputs(draw, seats, rows, uses) if any(used[1:]) else None

    def scores_prompt(self, seats: np.ndarray) -> bool:
        """Whether any sequence there wants log-probabilities of its prompt."""
        return bool(self._scores_prompt[seats].any())

    def _draw_inputs(self, seats: np.ndarray, rows: Sequence[Stream]) -> DrawInputs:
        position = np.zeros(len(seats), np.int32)
        position[: len(rows)] = [len(s.tokens) + s.num_expected for s in rows]
        columns = {name: column[seats] for name, column in self._draw.items()}
        return DrawInputs(**columns, position=position, is_random=self._uses[seats, 0].any())

    def greedy(self, B: int) -> DrawInputs:
        """Rows that are all greedy: the same arrays at every step."""
        if B not in self._greedy:
            columns = {name: column[-1:].repeat(B) for name, column in self._draw.items()}
            position = np.zeros(B, np.int32)
            self._greedy[B] = DrawInputs(**columns, position=position, is_random=np.bool(False))
        return self._greedy[B]

    def blank(self, B: int) -> SamplingInputs:
        """Empty rows that use nothing."""
        seats = np.full(B, len(self._uses) - 1)
        return self._inputs(self.greedy(B), seats, [], dict.fromkeys(USES[1:], False))

    def _inputs(
        self, draw: DrawInputs, seats: np.ndarray, rows: Sequence[Stream], uses: dict[str, bool]
    ) -> SamplingInputs:
        B = len(seats)
        bias_ids, bias_values = self._biases(rows, B, uses["biases"])
        return SamplingInputs(
            draw=draw,
            **{name: column[seats] for name, column in self._other.items()},
            history=self._history(rows, B, uses["penalties"]),
            bias_ids=bias_ids,
            bias_values=bias_values,
            allowed=self._allowed(rows, B, uses["bans"]),
            uses=Uses(**{name: np.array(is_used) for name, is_used in uses.items()}),
        )

    def _blank(self, name: str, shape: tuple[int, ...], fill: int, dtype) -> np.ndarray:
        key = (name, shape[0])
        if key not in self._blanks:
            self._blanks[key] = np.full(shape, fill, dtype)
        return self._blanks[key]

    def _history(self, rows: Sequence[Stream], B: int, is_used: bool) -> np.ndarray:
        blank = self._blank("history", (B, self.max_model_len), -1, np.int32)
        if not is_used:
            return blank
        history = blank.copy()
        for row, sequence in enumerate(rows):
            if sequence.request.params.has_penalty:
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

    def _allowed(self, rows: Sequence[Stream], B: int, is_used: bool) -> np.ndarray:
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


def _empty_columns(columns: dict, num_rows: int) -> dict[str, np.ndarray]:
    return {name: np.full(num_rows, empty, dtype) for name, (dtype, empty) in columns.items()}


def _bits(tokens: Iterable[int], words: int) -> np.ndarray:
    """One bit a token, 32 to a word."""
    bits, ids = np.zeros(words, np.uint32), np.array(list(tokens), np.uint32)
    np.bitwise_or.at(bits, ids // 32, np.uint32(1) << (ids % 32))
    return bits


def may_ban(sequence: Stream) -> bool:
    """Whether tokens are ever banned from this sequence."""
    params = sequence.request.params
    return bool(
        params.allowed_token_ids is not None or params.min_tokens or sequence.request.bad_words
    )


def banned_tokens(sequence: Stream):
    """Tokens that may not come next: stop tokens below `min_tokens`, ends of bad words."""
    if must_go_on(sequence):
        yield from sequence.stop_ids
    for word in sequence.request.bad_words:
        start = word[:-1]
        # the words' beginnings are looked for in the output alone, as in vLLM
        if not start or sequence.generated[-len(start) :] == list(start):
            yield word[-1]
