"""Stall-free batching: no decode waits for a prefill."""

from collections.abc import Iterable

from jpaged.scheduling.policy import Fcfs, Wish
from jpaged.scheduling.view import View


class Sarathi(Fcfs):
    """Decodes first, then prompts under way, then new ones, in at most `chunk` tokens a step.

    A small chunk keeps the time between tokens even, a large one finishes prompts sooner.
    Agrawal et al., "Taming Throughput-Latency Tradeoff in LLM Inference with Sarathi-Serve",
    OSDI 2024, algorithm 3.
    """

    def __init__(self, chunk: int = 512):
        self.chunk = chunk

    def propose(self, view: View) -> Iterable[Wish]:
        decodes = [s for s in view.running if s.num_pending == 1]
        yield from ((s, 1) for s in decodes)
        left = self.chunk - len(decodes)
        for sequence in (*(s for s in view.running if s.num_pending > 1), *view.waiting):
            if left < 1:
                return
            yield sequence, left
            left -= min(left, sequence.num_pending)
