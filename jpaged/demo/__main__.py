"""Writes several texts at once with the bundled model, and shows the pages they use."""

import argparse
import sys
import time
from collections.abc import Iterator

from rich.console import Console

from jpaged.assets import DEMO_MODEL
from jpaged.demo import STARTED
from jpaged.demo.screen import Line, Screen
from jpaged.demo.summary import summarise
from jpaged.engine.door import Prompt
from jpaged.engine.llm_engine import LLMEngine
from jpaged.sampling_params import RequestOutputKind, SamplingParams

PROMPTS = (
    "Once upon a time, in a quiet village by the sea, there lived",
    "Once upon a time, in a deep green forest, there lived",
    "One rainy morning, a little fox named",
    "Long ago, an old owl named",
    "Once upon a time, in a cold snowy valley, there lived",
    "One sunny day, a shy rabbit named",
)
# two conversations with one beginning: the second finds the first one's pages in the cache
SYSTEM = (
    "You are a helpful assistant. Be polite. Use simple words. Tell the truth. If you do not know "
    "something, say so. Do not make up facts. Read the question twice. Do sums with care. "
    "Write stories that children can understand."
)
QUESTIONS = ("What is the opposite of hot?", "Tell me a story about a fox.")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m jpaged.demo", description=__doc__)
    parser.add_argument("prompts", nargs="*", help="your own beginnings of stories")
    parser.add_argument("--model", default=DEMO_MODEL, help="another model (default: the bundled)")
    parser.add_argument("--max-tokens", type=int, default=300, help="of each text")
    parser.add_argument("--temperature", type=float, default=0.5, help="0 is greedy")
    parser.add_argument(
        "--pause",
        type=float,
        default=0.02 if sys.stdout.isatty() else 0.0,
        help="seconds to wait after each step, not counted (default on a terminal: 0.02)",
    )
    args = parser.parse_args()
    console = Console()
    with console.status("Loading the model and compiling its steps …"):
        engine = LLMEngine(
            args.model,
            num_pages=96,
            max_model_len=512,
            max_num_seqs=4,
            max_num_batched_tokens=64,
            use_tqdm_on_load=False,
        )
    console.print(
        f"[dim]{len(engine.executor.compiled.steps)} step shapes ready after "
        f"{time.monotonic() - STARTED:.1f} s[/]"
    )
    run(engine, console, args)
    engine.close()
    return 0


def run(engine: LLMEngine, console: Console, args: argparse.Namespace) -> None:
    lines = submit(engine, args)
    first_token = None
    with Screen(console, engine, lines) as screen:
        while engine.has_unfinished_requests():
            outputs = engine.step()
            if outputs and first_token is None:
                first_token = time.monotonic()
            screen.show(outputs)
            time.sleep(args.pause)
    console.print(summarise(engine, screen.finished))
    if first_token is not None:
        console.print(f"[dim]first token {first_token - STARTED:.1f} s after the start[/]")


def submit(engine: LLMEngine, args: argparse.Namespace) -> dict[str, Line]:
    """Queues everything at once: more than there are seats, so some wait for a free one."""
    lines = {}
    for number, (label, prompt, shown) in enumerate(requests(engine, args.prompts)):
        params = SamplingParams(
            max_tokens=args.max_tokens,
            temperature=args.temperature,
            top_p=0.95,
            seed=number,
            output_kind=RequestOutputKind.DELTA,
        )
        engine.add_request(label, prompt, params)
        lines[label] = Line(shown)
    return lines


def requests(engine: LLMEngine, own: list[str]) -> Iterator[tuple[str, Prompt, str]]:
    """(label, prompt, what of it to show): a conversation first and last, stories between."""
    has_chat = not own and engine.need_tokenizer().hf.chat_template
    if has_chat:
        yield "chat 1", chat_prompt(engine, QUESTIONS[0]), f"{QUESTIONS[0]} → "
    for number, text in enumerate(own or PROMPTS, start=1):
        yield f"story {number}", {"prompt": text}, text
    if has_chat:
        yield "chat 2", chat_prompt(engine, QUESTIONS[1]), f"{QUESTIONS[1]} → "


def chat_prompt(engine: LLMEngine, question: str) -> Prompt:
    tokenizer = engine.need_tokenizer()
    messages = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": question}]
    text = tokenizer.render_chat(messages, add_generation_prompt=True)
    return {"prompt_token_ids": tokenizer.encode(text, add_special_tokens=False)}


if __name__ == "__main__":
    sys.exit(main())
