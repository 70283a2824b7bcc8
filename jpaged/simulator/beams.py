"""Beam search without a model: who descends from whom is given, and pages follow from it.

answered     a b c d        all beams of a request have computed their latest token
parents      0 0 2 1        the first two go on from a, the third from c, the fourth from b
beams        a a' c b       a is forked, d is dropped; each says a token of its own
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import count

from jpaged.scheduling.request import Sequence
from jpaged.scheduling.scheduler import Scheduler
from jpaged.simulator.workload import EOS

Genealogy = Iterator[tuple[int, ...]]  # for each step, the place of each beam's parent


@dataclass
class Search:
    """The beams of one request."""

    beams: list[Sequence]
    genealogy: Genealogy
    num_said: int = 0
    answered: set[Sequence] = field(default_factory=set)


class BeamSearches:
    """Steers the sequences of a replay: every request is searched until it has its output.

    genealogy(): the parents of one request's beams; in its first step there is only one, place 0.
    """

    def __init__(self, num_output: dict[str, int], genealogy: Callable[[], Genealogy]):
        self.num_output = num_output
        self.genealogy = genealogy
        self.searches: dict[str, Search] = {}
        self._tokens = count(EOS + 1)  # no two beams look alike to the prefix cache

    def steer(self, scheduler: Scheduler, advanced: list[Sequence]) -> None:
        """Hears who has computed its latest token, and says how those go on who all have."""
        for sequence in advanced:
            name = sequence.request.id
            if name not in self.searches:
                self.searches[name] = Search([sequence], self.genealogy())
            search = self.searches[name]
            search.answered.add(sequence)
            if len(search.answered) == len(search.beams):
                self._go_on(scheduler, name, search)

    def _go_on(self, scheduler: Scheduler, name: str, search: Search) -> None:
        search.answered.clear()
        search.num_said += 1
        if search.num_said == self.num_output[name]:  # the last token is never computed
            for beam in search.beams:
                scheduler.finish(beam, "length")
            del self.searches[name]
            return
        parents, before, search.beams = next(search.genealogy), search.beams, []
        for index, place in enumerate(parents):
            beam = before[place]
            if place in parents[:index]:
                beam = scheduler.fork(beam, beam.request, index)
            search.beams.append(beam)
        for place, beam in enumerate(before):
            if place not in parents:
                scheduler.finish(beam, "abort")
        for beam in search.beams:
            scheduler.extend(beam, next(self._tokens))
