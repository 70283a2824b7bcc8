"""Request-level batches: what serving was before it looked at iterations."""

from collections.abc import Iterable

from jpaged.scheduling.policy import Fcfs, Wish
from jpaged.scheduling.view import View


class Static(Fcfs):
    """Takes as many requests as there are seats, and no other until all of them have ended.

    NVIDIA's FasterTransformer under a batching server, the baseline of Yu et al., "Orca", OSDI
    2022.  Kinder than that was: an answer leaves when it ends, not with its batch, and whoever has
    ended costs no step any more.
    """

    def __init__(self):
        self.batch: set[str] = set()  # ids of requests

    def propose(self, view: View) -> Iterable[Wish]:
        yield from ((sequence, sequence.num_pending) for sequence in view.running)
        members = [each for each in view.waiting if each.request.id in self.batch]  # were evicted
        if not members and not view.running:
            members = view.waiting[: view.max_num_seqs]
            self.batch = {sequence.request.id for sequence in members}
        yield from ((sequence, sequence.num_pending) for sequence in members)
