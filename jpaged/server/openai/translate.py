"""From OpenAI's fields to `Ask`: what completions, chats and the tokenizer's routes share."""

from typing import Any

from starlette.requests import Request

from jpaged.sampling_params import RequestOutputKind, SamplingParams
from jpaged.scheduling.terms import Terms
from jpaged.server import limits
from jpaged.server.errors import ApiError
from jpaged.server.openai.protocol import Sampling

# sampling options that mean the same under the same name
SAME = (
    *("temperature", "top_p", "top_k", "min_p", "repetition_penalty"),
    *("presence_penalty", "frequency_penalty", "seed", "stop", "stop_token_ids"),
    *("include_stop_str_in_output", "ignore_eos", "min_tokens", "skip_special_tokens"),
    *("prompt_logprobs", "allowed_token_ids", "bad_words", "logit_bias", "best_of"),
)


def sampling(body: Sampling, defaults: dict[str, Any], **more: Any) -> SamplingParams:
    """The checkpoint's defaults, with what the request says.  Raises `RequestRejected`."""
    given = {name: getattr(body, name) for name in SAME}
    options = {name: value for name, value in given.items() if value is not None}
    n = body.n or 1
    is_ranked = body.best_of not in (None, n)
    if is_ranked and body.stream:
        raise ApiError(400, "best_of ranks whole answers, which cannot be streamed.", "best_of")
    # the best are known at the end only
    kind = RequestOutputKind.FINAL_ONLY if is_ranked else RequestOutputKind.DELTA
    return SamplingParams(**{**defaults, **options, **more, "n": n, "output_kind": kind})


def base_id(request: Request, body: Sampling) -> str:
    """The client's id, from the body or the header, or a new one."""
    return body.request_id or request.state.request_id


def common(request: Request, body: Sampling) -> dict[str, Any]:
    """Fields of `Ask` that come from the same fields everywhere."""
    client = request.state.client
    return {
        "model": body.model or "",
        "priority": body.priority,
        "terms": Terms(client=client or body.user or "", session=body.session_id or ""),
        "deadline": body.timeout if body.timeout is not None else header_deadline(request),
        "client": client,
        "cache_salt": body.cache_salt or "",
        "truncate_prompt_tokens": body.truncate_prompt_tokens,
    }


def header_deadline(request: Request) -> float | None:
    """Seconds, from X-Request-Timeout.  Raises `ApiError`."""
    text = request.headers.get("x-request-timeout")
    if text is None:
        return None
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds <= limits.MAX_DEADLINE:
        raise ApiError(400, f"X-Request-Timeout must be seconds, at most {limits.MAX_DEADLINE:g}.")
    return seconds
