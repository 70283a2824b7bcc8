"""Says no at the door where yes would be a promise that cannot be kept."""

from math import inf
from statistics import fmean

from jpaged.policies.around import Around
from jpaged.policies.pace import Pace
from jpaged.scheduling.policy import Fcfs, Policy
from jpaged.scheduling.request import Request, Sequence
from jpaged.scheduling.view import View


class EarlyRejection(Around):
    """Refuses a request whose `Terms` would be broken as far as one can predict, on top of another
    policy, which serves those that are let in.

    The first token is predicted from the prompts before it, and from how fast seats and pages come
    free; the others from the step that all who are here by then will share.  What a request without
    promises would do to those with them is not asked.  Needs a cost model; without one nobody is
    refused.

    margin: the share of a promise that may be used up by prediction; 0.8 leaves a fifth for
    what was not foreseen.

    Qin et al., "Mooncake: Trading More Storage for Less Computation", FAST 2025, section 7:
    early rejection, by the predicted load at the time of the decode.
    """

    def __init__(self, inner: Policy | None = None, margin: float = 1.0):
        super().__init__(inner or Fcfs())
        self.margin = margin
        self.mean_output = 0.0  # of those that ended: a running mean, the later ones weigh more

    def refuse(self, view: View, request: Request) -> str | None:
        terms = request.terms
        if view.costs is not None:
            first, pace = self.until_first(view, request), self.decode_pace(view, request)
            last = first + pace * (self._expected(request) - 1)
            wanted = (
                ("ttft", first, terms.ttft),
                ("tpot", pace, terms.tpot),
                ("deadline", last, terms.deadline),
            )
            for name, predicted, promised in wanted:
                if promised is not None and predicted > self.margin * promised:
                    return (
                        f"{name} of {promised:.3g} s is promised and {predicted:.3g} s predicted, "
                        f"with {len(view.running)} running and {len(view.waiting)} waiting"
                    )
        return self.inner.refuse(view, request)

    def on_finish(self, sequence: Sequence, now: float) -> None:
        share = 0.05 if self.mean_output else 1.0
        self.mean_output += share * (sequence.num_generated - self.mean_output)
        self.inner.on_finish(sequence, now)

    def until_first(self, view: View, request: Request) -> float:
        """Seconds until its first token: until there is room, and all prompts before it, and its
        own, are computed; what is found in the cache is not."""
        pace = Pace.of(view)
        prompts = [s.num_pending for s in (*view.running, *view.waiting) if s.num_pending > 1]
        own = len(request.prompt) - view.num_cached_of(request)
        computing = pace.token * (sum(prompts) + max(1, own))
        return max(self._until_room(view, request, pace), computing) + 2 * pace.next_step

    def decode_pace(self, view: View, request: Request) -> float:
        """Seconds between its tokens, when all who are here run as far as there are seats."""
        assert view.costs is not None
        everyone = [s.num_computed + s.num_pending for s in (*view.running, *view.waiting)]
        everyone = everyone[: view.max_num_seqs - 1] + [len(request.prompt)]
        num_read = min(sum(everyone), view.num_pages * view.page_size)
        return view.costs.seconds(len(everyone), len(everyone), num_read)

    def _until_room(self, view: View, request: Request, pace: Pace) -> float:
        """Seconds until those before it, and it, have seats and pages: as those who run end."""
        size = view.page_size
        seats = len(view.waiting) + 1 - view.free_seats
        tokens = [s.num_pending for s in view.waiting] + [len(request.prompt)]
        pages = sum([-(-count // size) for count in tokens]) - view.free_pages
        if seats <= 0 and pages <= 0:
            return 0.0
        held = sorted((self._left(sequence), len(sequence.held_pages)) for sequence in view.running)
        for left, freed in held:
            seats, pages = seats - 1, pages - freed
            if seats <= 0 and pages <= 0:
                return left * pace.step
        # then those who wait now come and go too
        rounds = max(seats / view.max_num_seqs, pages / view.num_pages)
        each = fmean(map(self._left, view.waiting)) if view.waiting else self.mean_output
        return ((held[-1][0] if held else 0.0) + rounds * each) * pace.step

    def _left(self, sequence: Sequence) -> float:
        """Tokens that it will still say: as predicted, or as many as others did on average."""
        predicted = sequence.request.terms.predicted_tokens
        left = self.mean_output if predicted is None else predicted - sequence.num_generated
        return min(max(1.0, left), sequence.full_length - len(sequence.tokens))

    def _expected(self, request: Request) -> float:
        predicted = request.terms.predicted_tokens
        expected = self.mean_output if predicted is None else predicted
        return min(max(1.0, expected), float(request.max_tokens or inf))
