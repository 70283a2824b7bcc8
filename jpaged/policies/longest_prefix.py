"""Whose prompt is in the cache goes first, before it leaves the cache."""

from collections.abc import Iterable

from jpaged.errors import ConfigError
from jpaged.scheduling.policy import Fcfs, Wish
from jpaged.scheduling.request import Sequence
from jpaged.scheduling.view import View


class LongestPrefixMatch(Fcfs):
    """Lets in who finds the most tokens in the prefix cache; a second of waiting is worth `aging`
    of them.

    Without ageing (0) who finds nothing may starve while others find something.  Zheng et al.,
    "SGLang: Efficient Execution of Structured Language Model Programs", NeurIPS 2024 (LPM).

    Only the first `most` who wait are compared, and not more than `probes` of them looked up in a
    step, in turn: what the others found when they were last asked is believed.
    """

    def __init__(self, aging: float = 0.0, most: int = 128, probes: int = 8):
        if not (aging >= 0 and most >= 1 and probes >= 1):
            raise ConfigError(
                f"aging={aging} must be at least 0 tokens a second, most={most} and "
                f"probes={probes} at least 1"
            )
        self.aging, self.most, self.probes = aging, most, probes
        self.found: dict[str, int] = {}  # tokens by request, who was asked longest ago first

    def gain(self, sequence: Sequence, now: float) -> float:
        found = self.found.get(sequence.request.id, 0)
        return found + self.aging * (now - sequence.arrival)

    def propose(self, view: View) -> Iterable[Wish]:
        yield from ((sequence, sequence.num_pending) for sequence in view.running)
        if not view.free_seats or not view.waiting:
            return
        compared = view.waiting[: self.most]
        self._probe(compared, view)
        for sequence in sorted(compared, key=lambda each: -self.gain(each, view.now)):
            yield sequence, sequence.num_pending
        yield from ((each, each.num_pending) for each in view.waiting[self.most :])

    def _probe(self, compared: tuple[Sequence, ...], view: View) -> None:
        """Asks those first who never were, then whoever was asked longest ago."""
        waiting = {each.request.id: each for each in compared}
        self.found = {name: count for name, count in self.found.items() if name in waiting}
        new = [name for name in waiting if name not in self.found]
        for name in [*new, *self.found][: self.probes]:
            self.found.pop(name, None)  # to the end
            self.found[name] = view.num_cached_pages(waiting[name]) * view.page_size
