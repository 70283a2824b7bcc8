"""Each replica in its turn."""

from collections.abc import Sequence

from jpaged.scheduling.request import Request
from jpaged.simulator.routing import ReplicaView, Router


class RoundRobin(Router):
    """Each replica in its turn, whatever it is doing."""

    def __init__(self):
        self.latest = -1

    def route(self, replicas: Sequence[ReplicaView], request: Request) -> int:
        self.latest = (self.latest + 1) % len(replicas)
        return self.latest
