"""The same requests for several engines, by turns: how many a second each of them serves.

The machine drifts, so contestants run one after the other within a round, in another order in the
next one, and what counts is the median of each round's ratio.
"""

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from random import Random

from tqdm import tqdm

from jpaged import BeamSearchParams, LLMEngine, RequestOutputKind, SamplingParams
from jpaged.simulator.lengths import Conversations

SETTLED = 0.2  # of the requests have ended once an engine is full


@dataclass(frozen=True)
class Ask:
    """A request for exactly `num_output` tokens; `num_samples` of them, or so many beams."""

    prompt: tuple[int, ...]
    num_output: int
    num_samples: int = 1
    beam_width: int = 0

    def add_to(self, engine: LLMEngine, name: str) -> None:
        prompt = list(self.prompt)
        if self.beam_width:
            search = BeamSearchParams(self.beam_width, self.num_output, ignore_eos=True)
            engine.add_beam_search(name, prompt, search)
            return
        params = SamplingParams(
            n=self.num_samples,
            max_tokens=self.num_output,
            ignore_eos=True,
            output_kind=RequestOutputKind.FINAL_ONLY,
        )
        engine.add_request(name, prompt, params)


@dataclass(frozen=True)
class Served:
    """Requests a second, and mean sequences a step, while somebody waited."""

    rate: float
    num_sequences: float
    num_preempted: int


def draw(
    law: Conversations, count: int, vocab: int, seed: str, shared: int = 0, **kind: int
) -> list[Ask]:
    """Requests with the lengths of `law`, all alike in their first `shared` tokens.

    The same lengths for every seed, but other tokens: no prefix survives from another round.
    """
    lengths, tokens = Random("lengths"), Random(seed)
    prefix = tuple(tokens.choices(range(3, vocab), k=shared))
    asks = []
    for _ in range(count):
        num_prompt, num_output = law.prompts.draw(lengths), law.outputs.draw(lengths)
        prompt = prefix + tuple(tokens.choices(range(3, vocab), k=num_prompt))
        asks.append(Ask(prompt, num_output, **kind))
    return asks


def serve(engine: LLMEngine, asks: list[Ask]) -> Served:
    """Serves them all, there from the start.

    The rate leaves out how a run fills up and runs dry: it counts from the end of the first fifth
    of the requests to the last moment at which anybody waits.
    """
    engine.reset_prefix_cache()
    engine.records.clear()
    for index, ask in enumerate(asks):
        ask.add_to(engine, str(index))
    num_ended, marks = 0, []
    while engine.has_unfinished_requests():
        num_ended += sum(output.finished for output in engine.step())
        if num_ended >= SETTLED * len(asks) and (engine.scheduler.waiting or not marks):
            marks.append((time.perf_counter(), num_ended))
    (start, first), (end, last) = marks[0], marks[-1]
    assert last > first, "nobody waits for long: more requests, or a smaller cache"
    full = [record for record in engine.records if record.num_waiting]
    return Served(
        rate=(last - first) / (end - start),
        num_sequences=statistics.mean(record.num_sequences for record in full),
        num_preempted=sum(record.num_preempted for record in engine.records),
    )


def by_turns(
    title: str, contestants: Mapping[str, Callable[[int], Served]], rounds: int
) -> dict[str, list[Served]]:
    """What each of them did in each round, which it is told the number of.  A first round, in which
    whatever happens only once may happen, does not count."""
    for run in contestants.values():
        run(-1)
    found: dict[str, list[Served]] = {name: [] for name in contestants}
    for number in tqdm(range(rounds), desc=title, unit="round", leave=False):
        names = list(contestants)
        for name in names if number % 2 else reversed(names):
            found[name].append(contestants[name](number))
    return found


def summary(found: dict[str, list[Served]], baseline: str) -> dict[str, dict[str, float]]:
    """Medians of each contestant, and of its rate over the baseline's in the same round."""
    rates = {name: [each.rate for each in rounds] for name, rounds in found.items()}
    return {
        name: {
            "rate": round(statistics.median(rates[name]), 2),
            "ratio": round(
                statistics.median(
                    mine / its for mine, its in zip(rates[name], rates[baseline], strict=True)
                ),
                3,
            ),
            "num_sequences": round(statistics.median(each.num_sequences for each in rounds), 1),
            "num_preempted": round(statistics.median(each.num_preempted for each in rounds)),
        }
        for name, rounds in found.items()
    }
