"""What a calibration lets an engine do: designed steps of every compiled shape, then a mixture.

A designed round has a *population* of sequences that decode, and *guests* among them: prompts that
say one token and leave.  So a step of any number of tokens follows from any number of sequences.

    population n    1 1 1 1 1 1 1 1 1 1 …      guests make it up to T tokens, for each rung T
    guests                p p   p p   p p
"""

import time
from collections.abc import Callable
from itertools import count
from random import Random

from jpaged.engine.llm_engine import LLMEngine
from jpaged.sampling_params import SamplingParams

BETWEEN = 3  # decode steps before each step with guests
SHORT, MOST_TIMES = 512, 8  # tokens; shorter steps are repeated, so many times at most
ORDINARY = 3  # token ids below are often special
SAMPLES = 4  # of a guest whose half-filled page is copied for each
MOST_GUESTS = 8


class Loads:
    """Keeps an engine busy.  The same seed asks for the same, as far as time allows."""

    def __init__(self, engine: LLMEngine, seed: int):
        self.engine, self.rng = engine, Random(f"{seed}/calibration")
        # drawn once: what a driver does between two steps is taken for the engine's own work
        self.vocab = range(min(ORDINARY, engine.model.vocab - 1), engine.model.vocab)
        self.words = self.rng.choices(self.vocab, k=4 * engine.sizes.max_model_len)
        self.serials = count()
        buckets = engine.sizes.buckets
        self.tokens = sorted({bucket.num_tokens for bucket in buckets.mixed})
        times = [min(MOST_TIMES, max(1, SHORT // each)) for each in self.tokens]
        # of a round's steps with guests, the fewest and the most tokens of each
        spans = zip([1, *self.tokens], self.tokens, times, strict=False)
        self.visits = [(low + 1, high) for low, high, repeats in spans for _ in range(repeats)]
        self.rungs = sorted({bucket.num_sequences for bucket in buckets.decode})

    def designed(self, seconds: float, on_round: Callable[[], object] = lambda: None) -> None:
        """Rounds of all populations, in a new order each time, for about so long; all once at
        least."""
        end = time.perf_counter() + seconds
        while True:
            populations = self._populations()
            self.rng.shuffle(populations)
            for population in populations:
                self._round(population)
                on_round()
            if time.perf_counter() >= end:
                return

    def mixed(self, seconds: float) -> None:
        """As many requests at a time as chance will have it, and now and then as many others."""
        engine, rng, end = self.engine, self.rng, time.perf_counter() + seconds
        target = 1
        half = engine.sizes.max_model_len // 2
        while time.perf_counter() < end:
            if rng.random() < 0.02:
                target = rng.choice([2, 4, *self.rungs])
            while engine.get_num_unfinished_requests() < min(target, engine.sizes.max_num_seqs):
                prompt, output = rng.lognormvariate(3.5, 1.2), rng.lognormvariate(3.5, 1.0)
                self._add(_within(prompt, 1, half), _within(output, 1, half - 1))
            engine.step()
        self._finish()

    def _populations(self) -> list[int]:
        """One inside each decode rung, and the rung itself."""
        seats = self.engine.sizes.max_num_seqs
        lows = [0, *self.rungs]
        inside = {
            self.rng.randint(low + 1, high)
            for low, high in zip(lows, self.rungs, strict=False)
            if low < seats
        }
        return sorted({min(n, seats) for n in (*inside, *self.rungs)})

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
        serial, start = next(self.serials), self.rng.randrange(len(self.words) - num_prompt)
        # no two begin alike, or the prefix cache would find the second
        head = [self.vocab[each % len(self.vocab)] for each in (serial, serial // len(self.vocab))]
        prompt = [*head, *self.words[start : start + num_prompt]][:num_prompt]
        params = SamplingParams(
            n=samples, temperature=float(samples > 1), max_tokens=num_output, ignore_eos=True
        )
        self.engine.add_request(f"calibration-{serial}", prompt, params)

    def _finish(self) -> None:
        while self.engine.has_unfinished_requests():
            self.engine.step()


def _within(value: float, low: int, high: int) -> int:
    return max(low, min(high, round(value)))
