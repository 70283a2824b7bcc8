"""Tokens go where somebody is waiting to read them."""

from collections.abc import Iterable

from jpaged.errors import ConfigError
from jpaged.policies.pace import Pace
from jpaged.scheduling.policy import Fcfs, Wish
from jpaged.scheduling.request import Sequence, Status
from jpaged.scheduling.view import View


def experience(arrival: float, times: Iterable[float], ttft: float, tpot: float) -> float:
    """The quality of a user's experience, from 0 to 1, who expects the first token `ttft` seconds
    after the arrival and reads one in `tpot` seconds.

    It is the area under what was read over the area under what could have been, until the last
    token is read.  What comes before it is read earns nothing; nothing at all is 0.
    """
    ready, read = arrival + ttft, []
    for time in times:
        ready = max(time, ready)
        read.append(ready)
        ready += tpot
    if not read:
        return 0.0
    end = ready
    expected = [arrival + ttft + tpot * index for index in range(len(read))]
    return sum(end - time for time in read) / sum(end - time for time in expected)


class Andes(Fcfs):
    """Serves those whose readers are about to run out of tokens; who is ahead of its reader pauses.

    A sequence is worth what `horizon` seconds of waiting would cost its reader's experience:
    (time that the reader would sit idle / time since it should have begun to read)².  Pages go to
    the greatest worth for each.  Sequences of no worth, whose readers are busy for longer than the
    horizon, come last, pause where a step of all is slower than they read, and give up their pages
    for others if the reader is busy for much longer than computing them anew takes.  The reading
    speed is promised as `Terms.tpot`, the patience for the first token as `Terms.ttft`; the
    defaults stand in where they are not.

    Liu et al., "Andes: Defining and Enhancing Quality-of-Experience in LLM-Based Text Streaming
    Services", 2024, arXiv 2404.16283: its knapsack is solved greedily, as there.  That all tokens
    before the latest came in time is assumed of a reader; it costs at most an early service.
    """

    def __init__(self, horizon: float = 0.5, ttft: float = 1.0, tpot: float = 0.2):
        if not min(horizon, ttft, tpot) > 0:
            raise ConfigError(
                f"horizon={horizon}, ttft={ttft} and tpot={tpot} must be above 0 seconds"
            )
        self.horizon, self.ttft, self.tpot = horizon, ttft, tpot

    def starts(self, sequence: Sequence) -> float:
        """When its reader wants to begin."""
        promised = sequence.request.terms.ttft
        return sequence.arrival + (self.ttft if promised is None else promised)

    def reading(self, sequence: Sequence) -> float:
        """Seconds in which its reader reads a token."""
        promised = sequence.request.terms.tpot
        return self.tpot if promised is None else promised

    def needed(self, sequence: Sequence) -> float:
        """When its reader will have read all that there is."""
        timing, starts = sequence.timing, self.starts(sequence)
        if timing.first_token is None or timing.last_token is None:
            return starts
        tpot, begins = self.reading(sequence), max(timing.first_token, starts)
        return max(begins + tpot * sequence.num_generated, timing.last_token + tpot)

    def worth(self, sequence: Sequence, now: float, pace: Pace) -> float:
        """What is lost of its experience if it waits for a horizon, from 0 to 1."""
        end = now + self.horizon
        idle = end - max(now, self.needed(sequence) - pace.until_token(sequence))
        return (idle / max(idle, end - self.starts(sequence))) ** 2 if idle > 0 else 0.0

    def propose(self, view: View) -> Iterable[Wish]:
        now, pace, waiting = view.now, Pace.of(view), view.waiting if view.free_seats else ()
        # to pause frees no page: it only helps where a step of all is slower than they read
        if not view.waiting or pace.step < self._fastest(view):
            yield from ((sequence, sequence.num_pending) for sequence in view.running)
            rivals = waiting
        else:
            rivals = (*view.running, *waiting)
        worths = {sequence: self.worth(sequence, now, pace) for sequence in rivals}
        order = sorted(worths, key=lambda s: worths[s] / num_pages(s, view), reverse=True)
        for sequence in order:
            if worths[sequence] or sequence.status is not Status.RUNNING:
                yield sequence, sequence.num_pending

    def _fastest(self, view: View) -> float:
        """Seconds that the fastest reader of those who run takes for a token."""
        promised = {sequence.request.terms.tpot for sequence in view.running}
        return min((self.tpot if each is None else each for each in promised), default=self.tpot)

    def preempt(self, view: View) -> Iterable[Sequence]:
        if not view.waiting:
            return
        now, pace = view.now, Pace.of(view)
        needy = [s for s in view.waiting if self.worth(s, now, pace)]
        if not needy:
            return
        seats = len(needy) - view.free_seats
        pages = sum([num_pages(s, view) + 1 for s in needy]) - view.free_pages
        ahead = sorted(view.running, key=self.needed, reverse=True)
        for sequence in ahead:
            again = pace.token * view.recompute_cost(sequence)
            if max(seats, pages) <= 0 or self.needed(sequence) - now < self.horizon + 2 * again:
                return
            seats, pages = seats - 1, pages - view.num_freed_by(sequence)
            yield sequence


def num_pages(sequence: Sequence, view: View) -> int:
    """Pages that it holds, or would hold; not counting what it may find."""
    if sequence.status is Status.RUNNING:
        return max(1, len(sequence.held_pages))
    return -(-len(sequence.tokens) // view.page_size)
