"""An order is a policy: the most urgent run, the least urgent give way."""

from collections.abc import Iterable
from operator import itemgetter

from jpaged.scheduling.policy import Policy, Wish
from jpaged.scheduling.request import Sequence
from jpaged.scheduling.view import View


class Ranked(Policy):
    """Runs by `rank`, which is all that has to be written; of equals, who runs already, then who
    came first.

    preempts: whether somebody more urgent who waits takes the seat and the pages of the least
    urgent who run.  Else they give way only where pages run out.
    """

    preempts = False

    def rank(self, sequence: Sequence, view: View) -> float:
        """Smaller is more urgent."""
        raise NotImplementedError(f"{type(self).__name__} does not say who is urgent")

    def may_give_way(self, sequence: Sequence, view: View) -> bool:
        """Whether somebody more urgent may take its place."""
        return True

    def propose(self, view: View) -> Iterable[Wish]:
        everyone = view.running
        if view.waiting and view.free_seats:  # nobody is let in without a seat
            everyone += view.waiting
        elif sum([each.num_pending for each in everyone]) <= view.token_budget:
            yield from ((each, each.num_pending) for each in everyone)  # an order is for the scarce
            return
        for _, sequence in self._by_rank(everyone, view):
            yield sequence, sequence.num_pending

    def victim(self, view: View) -> Sequence:
        return max(view.running, key=lambda each: (self.rank(each, view), each.serial))

    def preempt(self, view: View) -> Iterable[Sequence]:
        """The least urgent, as many as make room for those more urgent who wait."""
        if not self.preempts or not view.waiting or not view.running:
            return []
        seats, pages, gone = view.free_seats, view.num_spare_pages, []
        served: set[str] = set()  # requests of which a sample is let in
        others = self._by_rank(view.running[1:], view)  # the eldest would stay
        for rank, newcomer in self._by_rank(view.waiting, view):
            request_id = newcomer.request.id
            if request_id in served or newcomer.num_expected or view.awaits_relative(newcomer):
                continue  # room would be made for nobody: it is not let in yet
            served.add(request_id)
            seats, pages, pushed = seats - 1, pages - num_pages(newcomer, view), []
            while seats < 0 or pages < 0:
                if not others or others[-1][0] <= rank:
                    return gone  # it cannot be let in, nor may those behind it overtake it
                other = others.pop()[1]
                if self.may_give_way(other, view):
                    pushed.append(other)
                    seats, pages = seats + 1, pages + view.num_freed_by(other)
            gone += pushed
        return gone

    def _by_rank(self, sequences: Iterable[Sequence], view: View) -> list[tuple[float, Sequence]]:
        ranked = [(self.rank(each, view), each) for each in sequences]
        return sorted(ranked, key=itemgetter(0))


def num_pages(sequence: Sequence, view: View) -> int:
    """Pages for all the tokens it has."""
    return -(-len(sequence.tokens) // view.page_size)
