"""`use_beam_search`, as vLLM reads it: `n` is the width, and so many texts come, the best first.

A search takes the likeliest sequences, so what is for drawing tokens, or for choosing among them
otherwise, has no meaning in it, and is refused by name.
"""

from typing import Any

from jpaged.beam_search_params import BeamSearchParams
from jpaged.sampling_params import SamplingParams
from jpaged.server.errors import ApiError
from jpaged.server.openai.protocol import Sampling

# fields that a search does not follow, with the values that ask for nothing
NOTHING: dict[str, tuple[Any, ...]] = {
    "top_p": (1,),
    "top_k": (0, -1),
    "min_p": (0,),
    "presence_penalty": (0,),
    "frequency_penalty": (0,),
    "repetition_penalty": (1,),
    "stop": ([],),
    "min_tokens": (0,),
    "logit_bias": ({},),
    "bad_words": ([],),
    "best_of": (),
    "allowed_token_ids": (),
}


def search_of(body: Sampling, params: SamplingParams, longest: int) -> BeamSearchParams | None:
    """The search that is asked for, if one is.

    params: what the body says otherwise, with the checkpoint's defaults.  longest: what the model
    holds.  Raises `ApiError`, and `RequestRejected` for values out of range.
    """
    if not body.use_beam_search:
        return None
    _refuse_what_means_nothing(body)
    if params.prompt_logprobs is not None:  # an echo asks for them, too
        raise ApiError(400, "use_beam_search scores no prompts.", "logprobs")
    if params.logprobs:
        raise ApiError(
            400,
            "use_beam_search tells the log-probability of each token that it chose, of no others; "
            "ask for none beside it.",
            "logprobs",
        )
    return BeamSearchParams(
        beam_width=body.n or 1,
        max_tokens=params.max_tokens or longest,
        ignore_eos=body.ignore_eos,
        temperature=params.temperature,
        length_penalty=body.length_penalty,
        include_stop_str_in_output=body.include_stop_str_in_output,
        skip_special_tokens=body.skip_special_tokens,
        stop_token_ids=body.stop_token_ids,
    )


def _refuse_what_means_nothing(body: Sampling) -> None:
    for name, neutral in NOTHING.items():
        value = getattr(body, name)
        if value is not None and value not in neutral:
            raise ApiError(400, f"{name} has no meaning with use_beam_search.", name)
    if body.stream:
        raise ApiError(
            400,
            "use_beam_search cannot be streamed: which sequences are best is known at the end.",
            "stream",
        )
