"""To whoever has computed most of the prompt already, unless that is little, or they are busy."""

from collections import Counter
from collections.abc import Sequence

from jpaged.errors import ConfigError
from jpaged.scheduling.request import Request
from jpaged.simulator.routing import ReplicaView, Router


class PrefixAffinity(Router):
    """Exploits the replica that has the prompt's prefix, if what is there exceeds what is left to
    compute; else explores the one that is least loaded.

    Nobody is overrun: where a replica has more than `balance` times the requests of the least
    loaded one, and `slack` more, that one gets the request, and soon has the prefix too.

    Srivatsa et al., "Preble: Efficient Distributed Prompt Scheduling for LLM Serving", ICLR 2025,
    the global part of E2.  Preble's load is the work of the last three minutes and counts what
    would be evicted; here it is the requests that are there, of equal ones the prompt tokens sent.
    """

    def __init__(self, balance: float = 1.5, slack: int = 8):
        if balance < 1 or slack < 0:
            raise ConfigError(
                f"balance must be at least 1 and slack at least 0, not {balance} and {slack}"
            )
        self.balance, self.slack = balance, slack
        self.sent = Counter[int]()  # prompt tokens that had to be computed, by replica

    def route(self, replicas: Sequence[ReplicaView], request: Request) -> int:
        cached = [replica.num_cached(request) for replica in replicas]
        loads = [replica.num_requests for replica in replicas]
        chosen = least = min(
            range(len(replicas)), key=lambda index: (loads[index], self.sent[index])
        )
        longest = max(cached)
        if longest > len(request.prompt) - longest:
            holders = [index for index, tokens in enumerate(cached) if tokens == longest]
            holder = min(holders, key=lambda index: (loads[index], self.sent[index]))
            if loads[holder] <= self.balance * loads[least] + self.slack:
                chosen = holder
        self.sent[chosen] += len(request.prompt) - cached[chosen]
        return chosen
