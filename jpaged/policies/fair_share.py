"""The virtual token counter: who got least is served next."""

import heapq
from collections import Counter, deque
from collections.abc import Iterable, Mapping

from jpaged.errors import ConfigError
from jpaged.scheduling.batch import ScheduledBatch
from jpaged.scheduling.policy import Fcfs, Wish
from jpaged.scheduling.request import Sequence
from jpaged.scheduling.view import View


class FairShare(Fcfs):
    """Lets in the client with the smallest counter of tokens, weighted and by its share.

    A prompt counts from its admission, an output token when it is said; what is computed again
    after a preemption does not.  A client that comes back is lifted to the least counter of those
    who waited: rest earns nothing.  Running sequences go on; the client that got most gives way.

    Two clients who both have requests waiting differ by at most
    2·max(prompt_weight·longest prompt, output_weight·tokens that run at once).
    shares: a client with 2 is due twice as much as one with 1, which is what the others have.

    VTC: Sheng et al., "Fairness in Serving Large Language Models", OSDI 2024, algorithm 2.
    """

    def __init__(
        self,
        prompt_weight: float = 1.0,
        output_weight: float = 2.0,
        shares: Mapping[str, float] | None = None,
    ):
        self.prompt_weight, self.output_weight = prompt_weight, output_weight
        self.shares = dict(shares or {})
        wrong = [f"{client!r}: {share}" for client, share in self.shares.items() if not share > 0]
        if wrong or not min(prompt_weight, output_weight) >= 0:
            raise ConfigError(
                f"shares must be above 0 and weights not below it: {', '.join(wrong)} "
                f"prompt_weight={prompt_weight} output_weight={output_weight}"
            )
        self.counters: dict[str, float] = {}
        self.floor = 0.0  # the least counter of those who waited, when anybody did
        self.backlogged: set[str] = set()

    def propose(self, view: View) -> Iterable[Wish]:
        self._lift({sequence.client for sequence in view.waiting})
        for sequence in view.running:
            yield sequence, sequence.num_pending
        if view.free_seats:
            for sequence in self._by_counter(view):
                yield sequence, sequence.num_pending

    def victim(self, view: View) -> Sequence:
        counters = self._with_prompts(view)
        return max(view.running, key=lambda s: (counters.get(s.client, 0.0), s.serial))

    def on_step(self, batch: ScheduledBatch, now: float) -> None:
        said: Counter[str] = Counter()
        for sequence, _ in batch.items:
            timing = sequence.timing
            if timing.last_token == now or sequence.is_steered:
                said[sequence.request.terms.client] += 1
            if timing.first_token == now:
                self._charge(self.counters, sequence.client, self._prompt_charge(sequence))
        for client, count in said.items():
            self._charge(self.counters, client, self.output_weight * count)

    def on_finish(self, sequence: Sequence, now: float) -> None:
        if sequence.timing.first_token is None:  # steered, or aborted before it said anything
            charge = self.prompt_weight * sequence.num_prompt_done
            self._charge(self.counters, sequence.client, charge)

    def _lift(self, waiting: set[str]) -> None:
        stayed = waiting & self.backlogged
        if stayed:
            self.floor = min(self.counters.get(client, 0.0) for client in stayed)
        for client in waiting - self.backlogged:
            self.counters[client] = max(self.counters.get(client, 0.0), self.floor)
        self.backlogged = waiting

    def _with_prompts(self, view: View) -> dict[str, float]:
        """The counters, and the prompts that run and have not been charged yet."""
        counters = dict(self.counters)
        for sequence in view.running:
            if sequence.timing.first_token is None:
                self._charge(counters, sequence.client, self._prompt_charge(sequence))
        return counters

    def _by_counter(self, view: View) -> Iterable[Sequence]:
        """As many as there are seats; each counts as soon as it is chosen."""
        counters = self._with_prompts(view)
        queues: dict[str, deque[Sequence]] = {}
        for sequence in view.waiting:
            queues.setdefault(sequence.client, deque()).append(sequence)
        least = [(counters.get(client, 0.0), client) for client in queues]
        heapq.heapify(least)
        for _ in range(min(view.free_seats, len(view.waiting))):
            _, client = heapq.heappop(least)
            sequence = queues[client].popleft()
            yield sequence
            if sequence.timing.first_token is None:
                self._charge(counters, client, self._prompt_charge(sequence))
            if queues[client]:
                heapq.heappush(least, (counters.get(client, 0.0), client))

    def _prompt_charge(self, sequence: Sequence) -> float:
        return self.prompt_weight * sequence.num_prompt

    def _charge(self, counters: dict[str, float], client: str, amount: float) -> None:
        share = self.shares.get(client, 1.0)
        counters[client] = counters.get(client, 0.0) + amount / share
