"""How one beam search wants to go on and when it wants to stop.

Names, order and defaults are vLLM's as far as it has them; the others are by keyword only.
"""

import math
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass

from jpaged.errors import RequestRejected
from jpaged.sampling_params import GREEDY_BELOW, LOWEST_TEMPERATURE, as_tuple, is_number, is_whole

# scores are float32: a length to the power of the penalty must leave room in its exponent
MOST_LOG_PENALTY = math.log(1e30)


@dataclass(frozen=True)
class BeamSearchParams:
    """Options of one beam search, which returns the `beam_width` best sequences it found.

    max_tokens: the most tokens generated.  ignore_eos: the end-of-sequence tokens are tokens like
    others; `stop_token_ids` still end a sequence, and count exactly as an end of sequence does.
    temperature: 0 and 1 leave the model's distribution as it is, others divide the logits before
    their log-softmax.  length_penalty: a sequence scores its log-probability divided by the number
    of its generated tokens to this power: above 0 favours long ones, below 0 short ones.
    include_stop_str_in_output: the text has the token that ended the sequence; `tokens` always do.

    early_stopping: when `beam_width` sequences have finished, True stops; False stops once the
    best unfinished one, scored as if it ended now, beats none of them; "never" asks the same at the
    length that would favour it most.  Raises `RequestRejected`, naming every bad value.
    """

    beam_width: int
    max_tokens: int
    ignore_eos: bool = False
    temperature: float = 0.0
    length_penalty: float = 1.0
    include_stop_str_in_output: bool = False
    skip_special_tokens: bool = True
    _: KW_ONLY
    early_stopping: bool | str = False
    stop_token_ids: Sequence[int] | None = None
    detokenize: bool = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "stop_token_ids", as_tuple(self.stop_token_ids, int))
        problems = list(self._problems())
        if problems:
            raise RequestRejected("; ".join(problems))
        if GREEDY_BELOW <= self.temperature < LOWEST_TEMPERATURE:
            object.__setattr__(self, "temperature", LOWEST_TEMPERATURE)

    @property
    def logit_divisor(self) -> float:
        """What `temperature` divides the logits by."""
        return 1.0 if self.temperature < GREEDY_BELOW else self.temperature

    def _problems(self):
        yield from self._count_problems()
        yield from self._number_problems()
        for token in self.stop_token_ids or ():
            if not is_whole(token) or token < 0:
                yield f"stop_token_ids must hold token ids, not {token!r}"
        if not isinstance(self.early_stopping, bool) and self.early_stopping != "never":
            yield f'early_stopping must be True, False or "never", not {self.early_stopping!r}'
        for name in (
            "ignore_eos",
            "include_stop_str_in_output",
            "skip_special_tokens",
            "detokenize",
        ):
            value = getattr(self, name)
            if not isinstance(value, bool):
                yield f"{name} must be True or False, not {value!r}"

    def _count_problems(self):
        for name in ("beam_width", "max_tokens"):
            value = getattr(self, name)
            if not is_whole(value):
                yield f"{name} must be a whole number, not {value!r}"
            elif value < 1:
                yield f"{name} must be at least 1, not {value}"

    def _number_problems(self):
        if not is_number(self.temperature) or not 0 <= self.temperature < math.inf:
            yield f"temperature must be a number from 0, not {self.temperature!r}"
        penalty, longest = self.length_penalty, self.max_tokens
        if not is_number(penalty) or math.isinf(penalty):
            yield f"length_penalty must be a finite number, not {penalty!r}"
        elif is_whole(longest) and longest >= 1:
            most = MOST_LOG_PENALTY / math.log(longest) if longest > 1 else math.inf
            if abs(penalty) > most:
                yield (
                    f"length_penalty must be from {-most:.3g} to {most:.3g} for scores of "
                    f"{longest} tokens (max_tokens) to fit into float32, not {penalty!r}"
                )
