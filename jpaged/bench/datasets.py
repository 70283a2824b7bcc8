"""What calls are made of: random tokens, conversations, prompts of a file, workloads and traces."""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, islice, repeat
from pathlib import Path
from random import Random

from jpaged.bench.calls import Call
from jpaged.bench.server import Server
from jpaged.errors import ConfigError
from jpaged.simulator.specs import WORKLOADS, workload_of
from jpaged.simulator.workload import TimedRequest, gamma_gap

MOST_PROMPT, MOST_TOTAL, LEAST = 1024, 2048, 4  # tokens of a conversation that vLLM takes


@dataclass(frozen=True)
class Lengths:
    """Of random prompts and outputs; range_ratio r draws from (1 - r) to (1 + r) of them."""

    num_input: int = 1024
    num_output: int = 128
    num_prefix: int = 0
    range_ratio: float = 0.0

    def draw(self, rng: Random, middle: int) -> int:
        low, high = int(middle * (1 - self.range_ratio)), int(middle * (1 + self.range_ratio))
        return max(1, rng.randint(low, high))


def random_calls(words: Sequence[int], count: int, lengths: Lengths, seed: int) -> list[Call]:
    """Prompts of tokens that follow each other at random, behind a prefix that all share."""
    rng = Random(f"{seed}/random")
    prefix = tuple(rng.choices(words, k=lengths.num_prefix))
    return [
        Call(
            prefix + tuple(rng.choices(words, k=lengths.draw(rng, lengths.num_input))),
            lengths.draw(rng, lengths.num_output),
        )
        for _ in range(count)
    ]


async def sharegpt_calls(
    server: Server, path: str, count: int, num_output: int | None, seed: int
) -> list[Call]:
    """First questions of conversations, answered as long as they were; odd lengths are left out."""
    found: list[Call] = []
    for question, reply in _shuffled(_conversations(path), seed):
        num_prompt, num_reply = [len(await server.tokenize(text)) for text in (question, reply)]
        wanted = num_output or num_reply
        fits = num_prompt <= MOST_PROMPT and num_prompt + wanted <= MOST_TOTAL
        if min(num_prompt, wanted) >= LEAST and fits:
            found.append(Call(question, wanted))
        if len(found) == count:
            return found
    return _repeated(found, count, path)


def custom_calls(path: str, count: int, num_output: int | None, seed: int) -> list[Call]:
    """A line a prompt: {"prompt": …, "output_tokens": …}."""
    calls = []
    for number, line in enumerate(_lines(path), 1):
        try:
            values = json.loads(line)
            wanted = num_output or values.get("output_tokens") or 256
            calls.append(Call(str(values["prompt"]), int(wanted)))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ConfigError(f'{path}, line {number}: no {{"prompt": …}} ({error})') from error
    return _repeated(_shuffled(calls, seed), count, path)


def workload_calls(words: Sequence[int], text: str, count: int | None, seed: int) -> list[Call]:
    """A workload of the simulator, or a trace, with its own times.  Equal prefixes stay equal."""
    requests = islice(workload_of(text)(seed), count)
    return [_call(words, request) for request in requests]


def _call(words: Sequence[int], request: TimedRequest) -> Call:
    then = None if request.then is None else _call(words, request.then)
    prompt = tuple(words[token % len(words)] for token in request.prompt)
    return Call(prompt, request.num_output, request.arrival, then)


def is_workload(name: str) -> bool:
    return name.partition(":")[0] in WORKLOADS or Path(name.partition(":")[0]).is_file()


def timed(calls: Iterable[Call], rate: float, burstiness: float, seed: int) -> list[Call]:
    """Due `rate` a second, all at once if that is infinite.  burstiness: 1 is Poisson's, less comes
    in bursts, more is steadier; the shape of the gamma law of the gaps."""
    if rate == float("inf"):
        return [replace(call, arrival=0.0) for call in calls]
    gap, rng = gamma_gap(rate, burstiness**-0.5), Random(f"{seed}/arrivals")
    arrivals = accumulate(gap(each) for each in repeat(rng))
    return [replace(call, arrival=arrival) for call, arrival in zip(calls, arrivals, strict=False)]


async def as_texts(server: Server, calls: Iterable[Call]) -> list[Call]:
    """For chats, which take no tokens."""
    found = []
    for call in calls:
        if call.then is not None:
            raise ConfigError(f"sessions go on with tokens, which {server.endpoint} does not take")
        prompt = call.prompt
        text = prompt if isinstance(prompt, str) else await server.detokenize(list(prompt))
        found.append(replace(call, prompt=text))
    return found


def _conversations(path: str) -> list[tuple[str, str]]:
    try:
        entries = json.loads(Path(path).read_text(encoding="utf-8"))
        turns = [entry["conversations"] for entry in entries if len(entry["conversations"]) > 1]
        return [(first["value"], second["value"]) for first, second, *_ in turns]
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{path} holds no conversations as ShareGPT writes them") from error


def _lines(path: str) -> Iterator[str]:
    with open(path, encoding="utf-8") as file:
        yield from filter(str.strip, file)


def _shuffled[T](items: list[T], seed: int) -> list[T]:
    Random(f"{seed}/order").shuffle(items)
    return items


def _repeated(calls: list[Call], count: int, path: str) -> list[Call]:
    """As many as are wanted, some twice if the file has too few."""
    if not calls:
        raise ConfigError(f"{path} has no prompt that can be sent")
    return [calls[number % len(calls)] for number in range(count)]
