"""Batches that fill the compiled shapes.

A step costs what its bucket costs.  Beside decodes even a short prompt turns a small decode bucket
into a larger mixed one, whose padding everybody pays for:

    decodes        ▓▓▓▓▓▓▓▓▓▓▓▓                          a decode bucket
    + a prompt     ▓▓▓▓▓▓▓▓▓▓▓▓░░··················      a mixed one: mostly padding
    + three        ▓▓▓▓▓▓▓▓▓▓▓▓░░░░░░░░░░░░░░░░░░░·      the same, for three prompts
"""

from collections.abc import Callable, Iterator
from itertools import accumulate

from jpaged.errors import ConfigError
from jpaged.scheduling.policy import Fcfs, Wish
from jpaged.scheduling.request import Sequence
from jpaged.scheduling.view import View

Excess = Callable[[int], float]  # seconds of a step with so many prompt tokens, beyond a decode's


class BucketAware(Fcfs):
    """Decodes everyone; prompts come in the chunk, and at the time, that cost all requests the
    fewest seconds together, of which those before a first token count `weight` times.  `delta`:
    nobody is held back for longer, in seconds; 0 is never.

    The chunk: a rung of the ladder, filled.  Each step of it delays everyone here by what it takes
    longer than decoding, its padding included; a small chunk delays by a decode step, every time,
    those whose prompt it does not finish.

    The time: the padding of a step is paid once for all prompts in it, so they gather until they
    have waited, together, as long as their step's padding would delay everyone.  That is the rule
    of Dooly, Goldman and Scott for acknowledgments ("On-line Analysis of the TCP Acknowledgment
    Delay Problem", JACM 2001), which costs there at most twice what it would to know who is going
    to arrive.  A full rung has no padding and waits for nobody.

    With a weight of 1 the mean latency is least.  That optimum is flat: with 4 prompts are held
    half as long, and what holding and padding cost together is a quarter more.

    Without a ladder or a cost model it is first come, first served.
    """

    def __init__(self, delta: float = 0.25, weight: float = 4.0):
        if not delta >= 0:
            raise ConfigError(f"delta must be at least 0 seconds, not {delta}; 0 holds nobody back")
        if not weight > 0:
            raise ConfigError(f"weight must be above 0, not {weight}; 1 is least mean latency")
        self.delta, self.weight = delta, weight
        self.since: float | None = None  # when somebody was first held back
        self.num_held = 0
        self.waited = 0.0  # seconds that those were held until `asked`, together
        self.asked = 0.0

    def propose(self, view: View) -> Iterator[Wish]:
        if view.buckets is None or view.costs is None:
            yield from super().propose(view)
            return
        decodes = [sequence for sequence in view.running if sequence.num_pending == 1]
        prompts = to_compute(view)
        room = self._room(view, len(decodes), list(prompts.values()))
        yield from ((sequence, 1) for sequence in decodes)
        for sequence in prompts:
            if room < 1:
                return
            yield sequence, room
            room -= min(room, sequence.num_pending)

    def _room(self, view: View, num_decodes: int, counts: list[int]) -> int:
        """Prompt tokens of the next step; 0 if the prompts are to wait for more."""
        if not counts:
            self._let_go()
            return 0
        num_others = len(view.running) + len(view.waiting) - num_decodes
        everyone = num_decodes + self.weight * num_others
        base, excess = step_excess(view, num_decodes, len(counts))
        ends = list(accumulate(counts))
        rooms = [room - num_decodes for room in rungs(view) if room > num_decodes]
        if not rooms:
            return 0
        room = best_room(rooms, ends, everyone, self.weight * base, excess)
        count = min(room, ends[-1])
        padding = excess(count) - excess(rooms[-1]) * count / rooms[-1]
        if num_decodes and self._holds(view.now, len(counts), base, everyone * padding):
            return 0
        self._let_go()
        return room

    def _holds(self, now: float, num_prompts: int, step: float, price: float) -> bool:
        """Whether prompts wait for another step, rather than that all requests pay `price` seconds
        together."""
        if self.since is None:
            self.since, self.asked = now, now
        self.waited += self.num_held * (now - self.asked)
        self.num_held, self.asked = num_prompts, now
        is_cheaper = self.weight * (self.waited + num_prompts * step) <= price
        return is_cheaper and now - self.since < self.delta

    def _let_go(self) -> None:
        self.since, self.num_held, self.waited = None, 0, 0.0


def to_compute(view: View) -> dict[Sequence, int]:
    """Tokens of prompts: of those under way, and of the waiting ones for whom there are seats and
    pages now.  What those find in the cache does not count, as far as a step can reach; looking
    further would take longer than it is worth."""
    counts = {each: each.num_pending for each in view.running if each.num_pending > 1}
    pages, left = view.free_pages, view.token_budget - sum(counts.values())
    for sequence in view.waiting[: view.free_seats]:
        pages -= -(-sequence.num_pending // view.page_size)
        if pages < 0 and view.running:
            break
        found = view.num_cached_pages(sequence) * view.page_size if left > 0 else 0
        counts[sequence] = max(1, sequence.num_pending - found)
        left -= counts[sequence]
    return counts


def rungs(view: View) -> list[int]:
    """Tokens of the mixed buckets, from small to large, within the token budget."""
    assert view.buckets is not None
    return sorted({min(rung.num_tokens, view.token_budget) for rung in view.buckets.mixed})


def step_excess(view: View, num_decodes: int, num_prompts: int) -> tuple[float, Excess]:
    """Seconds of a decode step, and what prompt tokens would add to it."""
    assert view.costs is not None
    seconds, decodes = view.costs.seconds, max(1, num_decodes)
    num_read = sum([sequence.num_computed for sequence in view.running])
    base = seconds(decodes, decodes, num_read)

    def excess(count: int) -> float:
        rows = num_decodes + min(num_prompts, count)
        return seconds(max(num_decodes + count, rows + 1), rows, num_read) - base

    return base, excess


def best_room(
    rooms: list[int], ends: list[int], everyone: float, base: float, excess: Excess
) -> int:
    """The chunk with which the prompts that are here cost all requests the fewest seconds.

    ends: where each prompt ends, behind those before it.  A step delays `everyone` by its excess,
    and by `base`, the decode step they might have had, those whose prompt goes on after it.
    """
    costs = []
    for room in rooms:
        full, rest = divmod(ends[-1], room)
        seconds = everyone * (full * excess(room) + (excess(rest) if rest else 0.0))
        seconds += base * sum([(end - 1) // room for end in ends])
        costs.append((seconds, room))
        if room >= ends[-1]:
            break
    return min(costs)[1]
