"""How one request wants its tokens chosen and when it wants to stop.

Names, order and defaults are vLLM's, so that a script written for it runs unchanged.
"""

import enum
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeGuard

from jpaged.errors import RequestRejected

GREEDY_BELOW = 1e-5  # a temperature under this means greedy decoding
LOWEST_TEMPERATURE = 1e-2  # smaller positive ones are raised to this: logits / t must stay finite
MOST_SAMPLES = 256
OPTIONAL_COUNTS = ("best_of", "max_tokens", "logprobs", "prompt_logprobs", "seed")
MOST_LOGIT_BIASES = 300  # OpenAI's limit; the step has room for this many a sequence


class RequestOutputKind(enum.Enum):
    """What each step's output holds: all so far, what is new, or nothing until the end."""

    CUMULATIVE = 0
    DELTA = 1
    FINAL_ONLY = 2


@dataclass(frozen=True)
class SamplingParams:
    """Sampling options of one request.

    n: independent samples; best_of: draw so many, and return the n of highest mean log-probability
    (None means n).  temperature: 0 is greedy.  top_k: 0 or -1 keeps every token.
    max_tokens: None means up to the model's length.  logprobs, prompt_logprobs: how many of the
    likeliest tokens to report beside the chosen one (raw, before penalties and temperature).
    seed: None lets the engine choose one.  Raises `RequestRejected`, naming every bad value.
    """

    n: int = 1
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repetition_penalty: float = 1.0
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    seed: int | None = None
    stop: str | Sequence[str] | None = None
    stop_token_ids: Sequence[int] | None = None
    ignore_eos: bool = False
    max_tokens: int | None = 16
    min_tokens: int = 0
    logprobs: int | None = None
    prompt_logprobs: int | None = None
    detokenize: bool = True
    skip_special_tokens: bool = True
    include_stop_str_in_output: bool = False
    output_kind: RequestOutputKind = RequestOutputKind.CUMULATIVE
    logit_bias: Mapping[int, float] | None = None
    allowed_token_ids: Sequence[int] | None = None
    bad_words: Sequence[str] | None = None
    best_of: int | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "stop", as_tuple(self.stop, str))
        object.__setattr__(self, "bad_words", as_tuple(self.bad_words, str))
        object.__setattr__(self, "stop_token_ids", as_tuple(self.stop_token_ids, int))
        if self.allowed_token_ids is not None:
            object.__setattr__(self, "allowed_token_ids", as_tuple(self.allowed_token_ids, int))
        if isinstance(self.logit_bias, Mapping):
            bias = {_as_id(key): value for key, value in self.logit_bias.items()}
            object.__setattr__(self, "logit_bias", bias)
        problems = list(self._problems())
        if problems:
            raise RequestRejected("; ".join(problems))
        if GREEDY_BELOW <= self.temperature < LOWEST_TEMPERATURE:
            object.__setattr__(self, "temperature", LOWEST_TEMPERATURE)

    @property
    def num_samples(self) -> int:
        """Sequences that are generated, of which `n` are returned."""
        return self.n if self.best_of is None else self.best_of

    @property
    def num_logprobs(self) -> int | None:
        """Likeliest tokens to find beside each chosen one, or None if not even its own
        log-probability is needed."""
        return 0 if self.logprobs is None and self.num_samples > self.n else self.logprobs

    @property
    def is_greedy(self) -> bool:
        return self.temperature < GREEDY_BELOW

    @property
    def has_penalty(self) -> bool:
        return bool(self.repetition_penalty != 1 or self.presence_penalty or self.frequency_penalty)

    @property
    def has_filter(self) -> bool:
        return self.top_k > 0 or self.top_p < 1 or self.min_p > 0

    def _problems(self):
        yield from self._number_problems()
        yield from self._count_problems()
        yield from self._bias_problems()
        yield from _text_problems("stop", self.stop or ())
        yield from _text_problems("bad_words", self.bad_words or ())
        if self.stop and not self.detokenize:
            yield "stop strings need text: set detokenize=True or use stop_token_ids"
        if self.allowed_token_ids is not None and not self.allowed_token_ids:
            yield "allowed_token_ids is empty, so no token could be chosen; leave it out"
        if self.best_of not in (None, self.n) and self.output_kind is RequestOutputKind.DELTA:
            yield "best_of ranks whole samples, so they cannot come in deltas; use another kind"
        if not isinstance(self.output_kind, RequestOutputKind):
            yield f"output_kind must be a RequestOutputKind, not {self.output_kind!r}"

    def _number_problems(self):
        for name, low, high in (
            ("temperature", 0.0, math.inf),
            ("presence_penalty", -2.0, 2.0),
            ("frequency_penalty", -2.0, 2.0),
            ("min_p", 0.0, 1.0),
        ):
            value = getattr(self, name)
            if not is_number(value) or not low <= value <= high or value == math.inf:
                yield f"{name} must be a number from {low:g} to {high:g}, not {value!r}"
        if not is_number(self.repetition_penalty) or not 0 < self.repetition_penalty < math.inf:
            yield (
                f"repetition_penalty must be above 0 (1 means none), not {self.repetition_penalty}"
            )
        if not is_number(self.top_p) or not 0 < self.top_p <= 1:
            yield f"top_p must be above 0 and at most 1, not {self.top_p!r}"

    def _count_problems(self):
        for name, low, high in (
            ("n", 1, MOST_SAMPLES),
            ("best_of", self.n, MOST_SAMPLES),
            ("top_k", -1, None),
            ("max_tokens", 1, None),
            ("min_tokens", 0, self.max_tokens),
            ("logprobs", 0, None),
            ("prompt_logprobs", 0, None),
            ("seed", None, None),
        ):
            value = getattr(self, name)
            if value is None and name in OPTIONAL_COUNTS:
                continue
            if not is_whole(value):
                yield f"{name} must be a whole number, not {value!r}"
            elif low is not None and value < low:
                yield f"{name} must be at least {low}, not {value}"
            elif isinstance(high, int) and value > high:
                yield f"{name} must be at most {high}, not {value}"

    def _bias_problems(self):
        biases = self.logit_bias or {}
        if not isinstance(biases, Mapping):
            yield f"logit_bias must map token ids to numbers, not be {biases!r}"
            return
        for token, bias in biases.items():
            if not isinstance(token, int) or not is_number(bias):
                yield f"logit_bias must map token ids to numbers, not {token!r} to {bias!r}"
        if len(biases) > MOST_LOGIT_BIASES:
            yield f"logit_bias has {len(biases)} entries, at most {MOST_LOGIT_BIASES} fit"


def as_tuple(value, kind: type) -> tuple:
    """() for None, one alone or several in a tuple; what is neither is kept, to be named."""
    if value is None:
        return ()
    return tuple(value) if isinstance(value, Iterable) and not isinstance(value, kind) else (value,)


def _as_id(key: object) -> object:
    """JSON clients send token ids as strings."""
    return int(key) if isinstance(key, str) and key.isdecimal() else key


def _text_problems(name: str, texts: Iterable[object]):
    for text in texts:
        if not isinstance(text, str):
            yield f"{name} must hold strings, not {text!r}"
        elif not text:
            yield f"{name} holds an empty string, which would match at once; leave it out"


def is_number(value: object) -> bool:
    """True for a finite or infinite number, False for NaN and everything else."""
    return isinstance(value, int | float) and not math.isnan(value)


def is_whole(value: object) -> TypeGuard[int]:
    """True for an int that is no bool."""
    return isinstance(value, int) and not isinstance(value, bool)
