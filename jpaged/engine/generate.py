"""One line in a notebook."""

import dataclasses
import difflib
from typing import Any

from jpaged.config import ALIASES, EngineConfig
from jpaged.engine.llm import LLM
from jpaged.engine.outputs import RequestOutput
from jpaged.errors import ConfigError
from jpaged.sampling_params import SamplingParams

SAMPLING_NAMES = frozenset(field.name for field in dataclasses.fields(SamplingParams))


def generate(model: str | LLM, prompts: Any, **options: Any) -> list[RequestOutput]:
    """Generates for all prompts together: `generate("demo", "Once", max_tokens=20)`.

    Options are those of `SamplingParams` and of `EngineConfig` (`seed` is the sampling one).
    Without any sampling option the model's own defaults hold.  `model` may be an `LLM` that is
    already loaded; one loaded here is closed again.
    """
    _refuse_unknown(options)
    sampling = {name: options.pop(name) for name in SAMPLING_NAMES & options.keys()}
    params = SamplingParams(**sampling) if sampling else None
    if isinstance(model, LLM):
        if options:
            raise TypeError(f"a loaded LLM takes no engine options, got {sorted(options)}")
        return model.generate(prompts, params)
    # one call meets a few step shapes only: compiling all of them first would take longer
    with LLM(model, **{"warmup": "none", **options}) as llm:
        return llm.generate(prompts, params)


def _refuse_unknown(options: dict[str, Any]) -> None:
    """A misspelt option is most often a sampling one, of which engine options know nothing."""
    engine = {field.name for field in dataclasses.fields(EngineConfig)} | ALIASES.keys()
    for name in options.keys() - engine - SAMPLING_NAMES:
        near = difflib.get_close_matches(name, engine | SAMPLING_NAMES, 1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ConfigError(f"neither the engine nor sampling has an option {name!r}{hint}")
