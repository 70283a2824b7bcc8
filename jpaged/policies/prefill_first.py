"""Prompts before decodes: the earliest first tokens, at the price of stalls between the next."""

from collections.abc import Iterable

from jpaged.scheduling.policy import Fcfs, Wish
from jpaged.scheduling.view import View


class PrefillFirst(Fcfs):
    """Prompts take the token budget before decodes do: the batch fills soonest.

    vLLM's order before chunked prefill (v0.2).
    """

    def propose(self, view: View) -> Iterable[Wish]:
        prompts = (s for s in (*view.running, *view.waiting) if s.num_pending > 1)
        yield from ((s, s.num_pending) for s in prompts)
        yield from ((s, s.num_pending) for s in (*view.running, *view.waiting))
