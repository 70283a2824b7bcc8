"""What a calibration lets an engine do: designed steps of every compiled shape, then a mixture.

A designed round has a *population* of sequences that decode, and *guests* among them: prompts that
say one token and leave.  So a step of any number of tokens follows from any number of sequences.

    population n    1 1 1 1 1 1 1 1 1 1 …      guests make it up to T tokens, for each rung T
    guests                p p   p p   p p
"""

import time
from itertools import count
from random import Random

from jpaged.calibration.open_loop import serve
from jpaged.calibration.workload import ORDINARY, Known
from jpaged.engine.llm_engine import LLMEngine
from jpaged.sampling_params import SamplingParams
from jpaged.simulator.result import Result

BETWEEN = 2  # decode steps before each step with guests
SHORT, MOST_TIMES = 512, 3  # tokens; shorter steps are repeated, so many times at most
SAMPLES = 4  # of a guest whose half-filled page is copied for each
MOST_GUESTS = 8
BURST = 3  # requests a seat at once, to find out how many a second can be served
SHARES = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)  # of that rate
SECTION = 2.0  # seconds of each in turn: in one, a crowd does not get as large as it may
# log-normal laws: logarithm of the median, spread of the logarithm.  Answers are as long as in a
# chat: a step beside an arrival or an end takes longer, and short answers have many such steps.
PROMPTS, OUTPUTS = (3.5, 1.2), (4.0, 1.0)


class Loads:
    """Keeps an engine busy.  The same seed asks for the same, as far as time allows."""

    def __init__(self, engine: LLMEngine, seed: int):
        self.engine, self.rng = engine, Random(f"{seed}/calibration")
        # drawn once: what a driver does between two steps is taken for the engine's own work
        self.vocab = range(min(ORDINARY, engine.model.vocab - 1), engine.model.vocab)
        self.words = self.rng.choices(self.vocab, k=4 * engine.sizes.max_model_len)
        self.serials, self.prompts, self.capacity = count(), count(), 0.0
        self.shares: list[float] = []  # whose turn comes
        buckets = engine.sizes.buckets
        self.tokens = sorted({bucket.num_tokens for bucket in buckets.mixed})
        times = [min(MOST_TIMES, max(1, SHORT // each)) for each in self.tokens]
        # of a round's steps with guests, the fewest and the most tokens of each
        spans = zip([1, *self.tokens], self.tokens, times, strict=False)
        self.visits = [(low + 1, high) for low, high, repeats in spans for _ in range(repeats)]
        self.rungs = sorted({bucket.num_sequences for bucket in buckets.decode})

    def designed(self, seconds: float) -> None:
        """Rounds of all populations, in a new order each time, for about so long; all once at
        least."""
        end = time.perf_counter() + seconds
        while True:
            populations = self._populations()
            self.rng.shuffle(populations)
            for population in populations:
                self._round(population)
            if time.perf_counter() >= end:
                return

    def mixed(self, seconds: float) -> Result:
        """Requests that arrive by chance, as users send them, now few and now many, for about so
        long: by turns each of SHARES of the rate that the engine can serve, where it was left the
        time before."""
        if not self.capacity:
            count = BURST * self.engine.sizes.max_num_seqs
            self.capacity = capacity(self.engine, [self._request(0.0) for _ in range(count)])
        num_sections = max(1, round(seconds / SECTION))
        section, arrivals = seconds / num_sections, []
        for number in range(num_sections):
            arrivals += self._arrivals(number * section, section, self.next_share() * self.capacity)
        return serve(self.engine, arrivals)

    def next_share(self) -> float:
        """Each of SHARES once, in an order by chance, and all over again."""
        if not self.shares:
            self.shares = self.rng.sample(SHARES, len(SHARES))
        return self.shares.pop()

    def _arrivals(self, begun: float, seconds: float, rate: float) -> list[Known]:
        found, now = [], begun + self.rng.expovariate(rate)
        while now < begun + seconds:
            found.append(self._request(now))
            now += self.rng.expovariate(rate)
        return found

    def _request(self, arrival: float) -> Known:
        half = self.engine.sizes.max_model_len // 2
        prompt, output = (self.rng.lognormvariate(*each) for each in (PROMPTS, OUTPUTS))
        words, name = self._prompt(_within(prompt, 1, half)), f"calibration-{next(self.serials)}"
        return Known(name, arrival, tuple(words), _within(output, 1, half - 1))

    def _populations(self) -> list[int]:
        """One of each decode rung: the rung itself, or fewer."""
        seats = self.engine.sizes.max_num_seqs
        lows = [0, *self.rungs]
        spans = zip(lows, self.rungs, strict=False)
        found = {self.rng.choice([high, self.rng.randint(low + 1, high)]) for low, high in spans}
        return sorted({min(each, seats) for each in found})

    def _round(self, population: int) -> None:
        sizes = self.engine.sizes
        steps = (1 + BETWEEN) * (1 + len(self.visits))
        room = min(sizes.max_model_len, sizes.num_pages * sizes.page_size // population - 32)
        if room < 3:
            return
        said = min(steps, room // 2)
        context = self.rng.randint(1, room - said)
        for _ in range(population):
            self._add(_within(context * self.rng.uniform(0.5, 1.5), 1, room - said), said)
        while self.engine.scheduler.waiting or self._num_pending() > population:
            self.engine.step()
        for low, high in self.visits:
            for _ in range(BETWEEN):
                self.engine.step()
            self._invite(self.rng.randint(low, high), population)
            self.engine.step()
        samples = min(SAMPLES, sizes.max_num_seqs - population)
        if samples > 1:
            self._add(sizes.page_size + 1, 2, samples=samples)
        self._finish()

    def _num_pending(self) -> int:
        return sum(sequence.num_pending for sequence in self.engine.scheduler.running)

    def _invite(self, num_tokens: int, population: int) -> None:
        """Guests that fill the next step up to so many tokens, if they find seats and pages."""
        sizes = self.engine.sizes
        left = num_tokens - population
        seats = sizes.max_num_seqs - population
        longest = sizes.max_model_len - 1
        fewest = -(-left // longest)
        if left < 1 or fewest > seats:
            return
        guests = self.rng.randint(fewest, max(fewest, min(MOST_GUESTS, seats, left)))
        for index in range(guests):
            length = left // guests + (index < left % guests)
            self._add(length, 1)

    def _add(self, num_prompt: int, num_output: int, samples: int = 1) -> None:
        prompt = self._prompt(num_prompt)
        params = SamplingParams(
            n=samples, temperature=float(samples > 1), max_tokens=num_output, ignore_eos=True
        )
        self.engine.add_request(f"calibration-{next(self.serials)}", prompt, params)

    def _prompt(self, length: int) -> list[int]:
        """No two begin alike, or the prefix cache would find the second."""
        serial, start = next(self.prompts), self.rng.randrange(len(self.words) - length)
        head = [self.vocab[each % len(self.vocab)] for each in (serial, serial // len(self.vocab))]
        return [*head, *self.words[start : start + length]][:length]

    def _finish(self) -> None:
        while self.engine.has_unfinished_requests():
            self.engine.step()


def capacity(engine: LLMEngine, requests: list[Known]) -> float:
    """Requests a second that an engine can serve: of many at once, the middle half."""
    ends = [each.last_token or 0.0 for each in serve(engine, requests).ended]
    first, last = len(ends) // 4, len(ends) - 1 - len(ends) // 4
    return (last - first) / (ends[last] - ends[first])


def _within(value: float, low: int, high: int) -> int:
    return max(low, min(high, round(value)))
