"""What a calibration lets an engine do: designed steps of every compiled shape, then a mixture.

A designed round has a *population* of sequences that decode, and *guests* among them: prompts that
say one token and leave.  So a step of any number of tokens follows from any number of sequences.

    population n    1 1 1 1 1 1 1 1 1 1 …      guests make it up to T tokens, for each rung T
    guests                p p   p p   p p
"""

import time
from itertools import count
from math import inf
from random import Random
from statistics import fmean

from jpaged.calibration.open_loop import serve
from jpaged.calibration.workload import ORDINARY, Known
from jpaged.engine.llm_engine import LLMEngine
from jpaged.sampling_params import SamplingParams
from jpaged.simulator.result import Result

BETWEEN = 2  # decode steps before each step with guests
SHORT, MOST_TIMES = 512, 3  # tokens; shorter steps are repeated, so many times at most
SAMPLES = 4  # of a guest whose half-filled page is copied for each
MOST_GUESTS = 8
TELLING = 4  # requests: of fewer one cannot tell how long they stay
FEW = (1, 2, 3, 5)  # requests at a time; the compiled shapes are further ones
# log-normal laws: logarithm of the median, spread of the logarithm
PROMPTS, OUTPUTS = (3.5, 1.2), (3.5, 1.0)


class Loads:
    """Keeps an engine busy.  The same seed asks for the same, as far as time allows."""

    def __init__(self, engine: LLMEngine, seed: int):
        self.engine, self.rng = engine, Random(f"{seed}/calibration")
        # drawn once: what a driver does between two steps is taken for the engine's own work
        self.vocab = range(min(ORDINARY, engine.model.vocab - 1), engine.model.vocab)
        self.words = self.rng.choices(self.vocab, k=4 * engine.sizes.max_model_len)
        self.serials, self.prompts = count(), count()
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
        """Requests that arrive by chance, as users send them, now few and now many at a time.

        By Little's law as many are there as arrive while one of them stays: that many a second,
        times what the latest stayed.
        """
        seats, end = self.engine.sizes.max_num_seqs, time.perf_counter() + seconds
        crowds = sorted({min(each, seats) for each in (*FEW, *self.rungs)})
        self.rng.shuffle(crowds)
        served = serve(self.engine, self._arrivals(TELLING, rate=inf))
        for index, crowd in enumerate(crowds):
            stay = fmean([each.latency or 0.0 for each in served.ended[-max(TELLING, crowd) :]])
            period = max(0.0, end - time.perf_counter()) / (len(crowds) - index)
            count = max(1, round(period * crowd / stay))
            found = serve(self.engine, self._arrivals(count, crowd / stay))
            served.ended += found.ended
            served.records += found.records
        return served

    def _arrivals(self, num_requests: int, rate: float) -> list[Known]:
        half, now, found = self.engine.sizes.max_model_len // 2, 0.0, []
        for _ in range(num_requests):
            prompt, output = (self.rng.lognormvariate(*each) for each in (PROMPTS, OUTPUTS))
            words = self._prompt(_within(prompt, 1, half))
            name = f"calibration-{next(self.serials)}"
            found.append(Known(name, now, tuple(words), _within(output, 1, half - 1)))
            now += self.rng.expovariate(rate)
        return found

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


def _within(value: float, low: int, high: int) -> int:
    return max(low, min(high, round(value)))
