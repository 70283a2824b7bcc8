"""One line in a notebook."""

import dataclasses
from typing import Any

from jpaged.engine.llm import LLM
from jpaged.engine.outputs import RequestOutput
from jpaged.sampling_params import SamplingParams

SAMPLING_NAMES = frozenset(field.name for field in dataclasses.fields(SamplingParams))


def generate(model: str | LLM, prompts: Any, **options: Any) -> list[RequestOutput]:
    """Generates for all prompts together: `generate("jpaged/assets/demo", "Once", max_tokens=20)`.

    Options are those of `SamplingParams` and of `EngineConfig` (`seed` is the sampling one).
    Without any sampling option the model's own defaults hold.  `model` may be an `LLM` that is
    already loaded; one loaded here is closed again.
    """
    sampling = {name: options.pop(name) for name in SAMPLING_NAMES & options.keys()}
    params = SamplingParams(**sampling) if sampling else None
    if isinstance(model, LLM):
        if options:
            raise TypeError(f"a loaded LLM takes no engine options, got {sorted(options)}")
        return model.generate(prompts, params)
    # one call meets a few step shapes only: compiling all of them first would take longer
    with LLM(model, **{"warmup": False, **options}) as llm:
        return llm.generate(prompts, params)
