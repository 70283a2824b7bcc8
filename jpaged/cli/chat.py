"""`jpaged chat MODEL`: a conversation in the terminal."""

import argparse
import sys

from jpaged.cli.generate import override
from jpaged.cli.options import engine_options, sampling_options
from jpaged.cli.streaming import stream
from jpaged.engine.llm import LLM
from jpaged.errors import RequestRejected
from jpaged.sampling_params import SamplingParams

HELP = "Ctrl-C stops an answer, Ctrl-D ends.  /reset starts over, /help shows this."


def run(args: argparse.Namespace) -> int:
    options = {"max_num_seqs": 1, **engine_options(args)}
    with LLM(args.model, **options) as llm:
        params = override(llm.get_default_sampling_params(), sampling_options(args))
        start = [{"role": "system", "content": args.system}] if args.system else []
        _say(HELP)
        return _converse(llm, params, start)


def _converse(llm: LLM, params: SamplingParams, start: list[dict]) -> int:
    """Returns the exit code: 1 if a message was refused."""
    messages, code = list(start), 0
    while (line := _read_line()) is not None:
        if line == "/reset":
            messages = list(start)
            _say("(a new conversation)")
        elif line.startswith("/"):
            _say(HELP)
        elif line:
            messages.append({"role": "user", "content": line})
            try:
                messages.append({"role": "assistant", "content": _answer(llm, params, messages)})
            except RequestRejected as error:
                messages.pop()
                print(f"jpaged: {error}", file=sys.stderr)
                _say("/reset starts over.")
                code = 1
    return code


def _answer(llm: LLM, params: SamplingParams, messages: list[dict]) -> str:
    """Streams the next message.  What Ctrl-C cuts off still counts as said."""
    tokenizer = llm.llm_engine.need_tokenizer()
    text = tokenizer.render_chat(messages, add_generation_prompt=True)
    tokens = tokenizer.encode(text, add_special_tokens=False)
    said = ""
    try:
        for output in stream(llm.llm_engine, {"chat": {"prompt_token_ids": tokens}}, params):
            sys.stdout.write(output.outputs[0].text)
            sys.stdout.flush()
            said += output.outputs[0].text
    except KeyboardInterrupt:
        sys.stdout.write(" …")
    sys.stdout.write("\n")
    return said.strip()


def _read_line() -> str | None:
    """A line of the user's; None at the end of input."""
    try:
        return input("> " if sys.stdin.isatty() else "").strip()
    except (EOFError, KeyboardInterrupt):
        return None


def _say(text: str) -> None:
    """To people only: piped output holds the answers and nothing else."""
    if sys.stdin.isatty():
        print(text, file=sys.stderr)
