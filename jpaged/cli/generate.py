"""`jpaged generate MODEL "prompt" …`"""

import argparse
import sys

from jpaged.cli.options import engine_options, sampling_options
from jpaged.cli.streaming import stream
from jpaged.engine.llm import LLM
from jpaged.sampling_params import SamplingParams


def run(args: argparse.Namespace) -> int:
    """One prompt is written as it comes; several are written whole, in their order."""
    prompts = args.prompt or [sys.stdin.read().removesuffix("\n")]
    # one call meets a few step shapes only: compiling all of them first would take longer
    options = {"warmup": "none", **engine_options(args)}
    with LLM(args.model, **options) as llm:
        params = override(llm.get_default_sampling_params(), sampling_options(args))
        if len(prompts) == 1 and params.n == 1:
            _stream_one(llm, prompts[0], params)
        else:
            _print_all(llm, prompts, params)
    return 0


def override(defaults: SamplingParams, given: dict) -> SamplingParams:
    """The model's defaults with what the user gave, and room for more than 16 tokens."""
    fields = {name: getattr(defaults, name) for name in defaults.__dataclass_fields__}
    if defaults.max_tokens == SamplingParams.max_tokens:
        fields["max_tokens"] = 256
    return SamplingParams(**{**fields, **given})


def _stream_one(llm: LLM, prompt: str, params: SamplingParams) -> None:
    outputs = stream(llm.llm_engine, {"prompt": prompt}, params)
    sys.stdout.write(prompt)
    for output in outputs:
        sys.stdout.write(output.outputs[0].text)
        sys.stdout.flush()
    sys.stdout.write("\n")


def _print_all(llm: LLM, prompts: list[str], params: SamplingParams) -> None:
    for output in llm.generate(prompts, params):
        for completion in output.outputs:
            print(f"{output.prompt}{completion.text}\n")
