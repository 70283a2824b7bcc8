"""What comes in: every request is checked here, before anything else hears of it."""

import dataclasses
import math
import random
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, NotRequired, TypedDict

from jpaged.beam_search_params import BeamSearchParams
from jpaged.engine.beams import Beams, num_candidates
from jpaged.engine.tokenizer import Tokenizer
from jpaged.errors import RequestRejected
from jpaged.sampling_params import RequestOutputKind, SamplingParams, is_whole
from jpaged.scheduling.request import Request
from jpaged.scheduling.request import Sequence as Stream
from jpaged.scheduling.terms import NO_TERMS, Terms


class TextPrompt(TypedDict):
    """cache_salt: cached pages are shared only between requests of the same salt."""

    prompt: str
    cache_salt: NotRequired[str]


class TokensPrompt(TypedDict):
    prompt_token_ids: list[int]
    cache_salt: NotRequired[str]


CheckedRequest = tuple[Request, str | None]  # and the prompt's text, if it came as text
Prompt = str | TextPrompt | TokensPrompt | Sequence[int]


class Door(NamedTuple):
    """What a request is measured against."""

    tokenizer: Tokenizer | None
    vocab: int
    max_model_len: int
    max_logprobs: int
    eos_token_ids: frozenset[int]
    seed: int  # of the engine: requests without one get theirs from it

    def admit(
        self,
        request_id: str,
        prompt: Prompt,
        params: SamplingParams,
        *,
        arrival: float,
        priority: int,
        serial: int,
        terms: Terms = NO_TERMS,
    ) -> CheckedRequest:
        """The request, and its prompt's text if it came as text.  Raises `RequestRejected`."""
        check_type("sampling_params", params, SamplingParams)
        check_type("terms", terms, Terms)
        salt, prompt = _salt_of(prompt)
        text, tokens = self._read(prompt)
        problems = [
            *_label_problems(request_id, priority, arrival),
            *self._prompt_problems(tokens),
            *self._params_problems(params),
        ]
        if problems:
            raise RequestRejected("; ".join(problems))
        room = self.max_model_len - len(tokens)
        request = Request(
            id=request_id,
            prompt=tuple(tokens),
            params=params,
            arrival=arrival,
            priority=priority,
            seed=self._seed(params.seed, serial),
            eos_token_ids=self.eos_token_ids,
            max_tokens=room if params.max_tokens is None else min(params.max_tokens, room),
            bad_words=self._spell(params.bad_words or ()),
            cache_salt=salt,
            terms=terms,
        )
        return request, text

    def admit_search(
        self,
        request_id: str,
        prompt: Prompt,
        params: BeamSearchParams,
        *,
        max_num_seqs: int,
        arrival: float,
        priority: int,
        serial: int,
        terms: Terms = NO_TERMS,
    ) -> CheckedRequest:
        """The same for a beam search.  Raises `RequestRejected`."""
        sampling = self.beam_sampling(params, max_num_seqs)
        request, text = self.admit(
            request_id,
            prompt,
            sampling,
            arrival=arrival,
            priority=priority,
            serial=serial,
            terms=terms,
        )
        return dataclasses.replace(request, logprobs_divisor=params.logit_divisor), text

    def forked(self, request: Request, new_id: str, seed: int | None, serial: int) -> Request:
        """A request that goes on where another stands.  Raises `RequestRejected`."""
        problems = [*_label_problems(new_id, request.priority, request.arrival)]
        if seed is not None and not is_whole(seed):
            problems.append(f"seed must be a whole number, not {seed!r}")
        if problems:
            raise RequestRejected("; ".join(problems))
        return dataclasses.replace(request, id=new_id, seed=self._seed(seed, serial))

    def beam_sampling(self, params: BeamSearchParams, max_num_seqs: int) -> SamplingParams:
        """What beams ask of a step: no token of its choice, but the likeliest ones.

        Raises `RequestRejected` for a search that is too wide for the engine.
        """
        if params.beam_width > max_num_seqs:
            raise RequestRejected(
                f"beam_width={params.beam_width} is over the engine's {max_num_seqs} seats "
                "(max_num_seqs); lower the one or raise the other"
            )
        ends = Beams(params, params.max_tokens, self.eos_token_ids).end_token_ids
        count = min(num_candidates(params.beam_width, len(ends)), self.vocab)
        if count > self.max_logprobs:
            raise RequestRejected(
                f"beam_width={params.beam_width} ranks {count} candidates a beam ({len(ends)} "
                f"tokens may end it), the engine finds {self.max_logprobs} (max_logprobs); lower "
                "the one or raise the other"
            )
        return SamplingParams(
            temperature=0,
            max_tokens=params.max_tokens,
            ignore_eos=params.ignore_eos,
            stop_token_ids=params.stop_token_ids,
            logprobs=count,
            detokenize=False,
        )

    def check_steered(self, params: SamplingParams) -> None:
        """Raises `RequestRejected` for what makes no sense of a request that others steer."""
        check_type("sampling_params", params, SamplingParams)
        problems, kind = [], params.output_kind
        if not params.logprobs:
            most = self.max_logprobs
            problems.append(
                f"logprobs, their number, must be from 1 to {most}, not {params.logprobs}"
            )
        if params.num_samples > 1:
            problems.append(f"n must be 1, not {params.num_samples}; fork it instead")
        if kind is not RequestOutputKind.CUMULATIVE:
            problems.append(f"output_kind must be CUMULATIVE, not {kind.name}")
        if problems:
            raise RequestRejected(f"a steered request offers candidates: {'; '.join(problems)}")

    def check_extension(self, request: Request, sequence: Stream, tokens: list[int]) -> None:
        """Raises `RequestRejected` if a sequence cannot be given these tokens."""
        problems = list(self._extension_problems(request, sequence, tokens))
        if problems:
            raise RequestRejected(f"request {request.id!r} cannot go on: {'; '.join(problems)}")

    def _extension_problems(self, request: Request, sequence: Stream, tokens: list[int]):
        if not sequence.is_steered:
            yield "it chooses its tokens itself; add it with steered=True"
            return
        yield from self._id_problems("the extension", tokens)
        room = request.max_tokens - sequence.num_generated
        if not 0 < len(tokens) <= room:
            yield f"{len(tokens)} tokens were given, and from 1 to {room} fit (max_tokens)"

    def _seed(self, wanted: int | None, serial: int) -> int:
        if wanted is not None:
            return wanted
        return random.Random(f"{self.seed}.{serial}").getrandbits(32)

    def _read(self, prompt: Prompt) -> tuple[str | None, list[int]]:
        plain: Any = _without_arrays(prompt)
        match plain:
            case str():
                return plain, self._encode(plain)
            case {"prompt_token_ids": list() | tuple() as tokens, **rest}:
                _refuse_extra(rest, allowed=("prompt",))
                text = rest.get("prompt")
                return text if isinstance(text, str) else None, list(tokens)
            case {"prompt": str(text), **rest}:
                _refuse_extra(rest)
                return text, self._encode(text)
            case list() | tuple():
                return None, list(plain)
        raise RequestRejected(
            'a prompt is a string, {"prompt": …}, {"prompt_token_ids": […]} or a list of token '
            f"ids, not {type(prompt).__name__}"
        )

    def _encode(self, text: str) -> list[int]:
        if self.tokenizer is None:
            raise RequestRejected(
                "this engine has no tokenizer (skip_tokenizer_init); pass prompt_token_ids"
            )
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise RequestRejected(f"the prompt is no text: {error}") from error
        return self.tokenizer.encode(text)

    def _prompt_problems(self, tokens: list[int]):
        if not tokens:
            yield "the prompt is empty; a model needs at least one token to go on from"
        elif len(tokens) >= self.max_model_len:
            yield (
                f"the prompt has {len(tokens)} tokens, this engine holds {self.max_model_len} "
                "with the output (max_model_len); shorten it or raise max_model_len"
            )
        yield from self._id_problems("the prompt", tokens)

    def _params_problems(self, params: SamplingParams):
        for name in ("logprobs", "prompt_logprobs"):
            if (getattr(params, name) or 0) > self.max_logprobs:
                yield (
                    f"{name}={getattr(params, name)} is over the limit of {self.max_logprobs}; "
                    "raise the engine's max_logprobs"
                )
        yield from self._id_problems("stop_token_ids", params.stop_token_ids or ())
        yield from self._id_problems("allowed_token_ids", params.allowed_token_ids or ())
        yield from self._id_problems("logit_bias", params.logit_bias or ())
        if self.tokenizer is None and (params.stop or params.bad_words):
            yield "stop and bad_words need a tokenizer, and this engine has none"

    def _id_problems(self, where: str, tokens):
        wrong = [t for t in tokens if not is_whole(t) or not 0 <= t < self.vocab]
        if wrong:
            yield (
                f"{where} has {wrong[0]!r}, and the vocabulary's ids are ints from 0 to "
                f"{self.vocab - 1}" + (f" ({len(wrong)} such)" if len(wrong) > 1 else "")
            )

    def _spell(self, words: Sequence[str]) -> tuple[tuple[int, ...], ...]:
        if self.tokenizer is None:
            return ()
        spelled = {spelling for word in words for spelling in self.tokenizer.spellings(word)}
        return tuple(sorted(spelling for spelling in spelled if spelling))


def check_type(name: str, value: object, kind: type) -> None:
    """Raises `RequestRejected` unless the value is of this kind."""
    if not isinstance(value, kind):
        raise RequestRejected(f"{name} must be {kind.__name__}, not {type(value).__name__}")


def _label_problems(request_id: object, priority: object, arrival: object):
    """Policies compare these for all requests together: a bad one would be everyone's."""
    if not isinstance(request_id, str):
        yield f"the request id must be a string, not {request_id!r}"
    if not is_whole(priority):
        yield f"priority must be a whole number (lower goes first), not {priority!r}"
    if not isinstance(arrival, int | float) or not math.isfinite(arrival):
        yield f"arrival_time must be seconds of time.monotonic(), not {arrival!r}"


def plain_ids(tokens: Iterable[Any]) -> list[Any]:
    """Token ids, those from numpy and the like as Python has them."""
    return [each.item() if hasattr(each, "item") else each for each in tokens]


def _without_arrays(prompt: Any) -> Any:
    """The prompt, with arrays of token ids as lists."""
    if isinstance(prompt, dict):
        return {name: _without_arrays(value) for name, value in prompt.items()}
    if hasattr(prompt, "tolist"):
        return prompt.tolist()
    return plain_ids(prompt) if isinstance(prompt, list | tuple) else prompt


def _salt_of(prompt: Prompt) -> tuple[str, Prompt]:
    """The prompt's cache salt, "" for none, and the prompt without it."""
    if not isinstance(prompt, dict) or "cache_salt" not in prompt:
        return "", prompt
    rest: Any = dict(prompt)
    salt = rest.pop("cache_salt")
    if not isinstance(salt, str) or not salt:
        raise RequestRejected(f"cache_salt must be a string that is not empty, not {salt!r}")
    return salt, rest


def _refuse_extra(rest: dict, allowed: tuple[str, ...] = ()) -> None:
    extra = sorted(set(rest) - set(allowed))
    if extra:
        raise RequestRejected(f"a prompt has no field {', '.join(map(repr, extra))} here")
