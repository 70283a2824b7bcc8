"""A policy that does anything it is allowed to: what it cannot break, no policy can."""

import random

from jpaged.policies import Fcfs
from jpaged.scheduling.view import View


class Whimsical(Fcfs):
    """Any order, any chunk, any victim, and now and then somebody is left out: rows and chunks
    change from step to step."""

    def __init__(self, rng: random.Random):
        self.rng = rng

    def propose(self, view: View):
        everyone = [*view.running, *view.waiting]
        self.rng.shuffle(everyone)
        yield from ((sequence, self.rng.choice((0, 1, 1, 3, 64))) for sequence in everyone)

    def victim(self, view: View):
        return self.rng.choice(view.running)
