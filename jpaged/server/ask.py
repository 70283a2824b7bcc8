"""One request as all protocols mean it: what they are translated to, and all the service knows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from jpaged.beam_search_params import BeamSearchParams
from jpaged.sampling_params import SamplingParams
from jpaged.scheduling.terms import NO_TERMS, Terms


@dataclass(frozen=True)
class Ask:
    """A prompt, or the messages of a chat, and what to do with them.

    model: "", a name, name@version or name@label.  deadline: seconds; then it is aborted.  client:
    whom limits count it for, "" for nobody.  truncate_prompt_tokens: keep so many of the prompt's
    last tokens, -1 for as many as fit.  echo: the protocol gives the prompt back, too.
    search: how, if it is a beam search; of params then only that counts which has a meaning there.
    """

    model: str
    prompt: str | Sequence[int] | None
    messages: list[dict[str, Any]] | None
    params: SamplingParams
    request_id: str
    priority: int = 0
    terms: Terms = NO_TERMS
    deadline: float | None = None
    template_options: Mapping[str, Any] = field(default_factory=dict)
    echo: bool = False
    client: str = ""
    cache_salt: str = ""
    add_special_tokens: bool = True
    truncate_prompt_tokens: int | None = None
    search: BeamSearchParams | None = None
