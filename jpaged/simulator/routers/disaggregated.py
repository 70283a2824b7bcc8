"""Prompts here, decoding there."""

from collections.abc import Iterable, Sequence

from jpaged.errors import ConfigError
from jpaged.scheduling.request import Request
from jpaged.simulator.routing import Move, ReplicaView, Router


class Disaggregated(Router):
    """The first `num_prefill` replicas compute prompts and say the first token; the others go on.

    So no prompt ever stalls who decodes there; but a step that was scheduled ahead still computes
    the second token in the first pool, beside a prompt, unless async_scheduling is off.  A prompt
    goes to the replica with the fewest tokens to compute; behind its first token its pages are
    copied, `token_seconds` for each token's keys and values (`Roofline.token_seconds`), to the one
    with the fewest requests.  Until that has room they stay where they are: the first pool's memory
    is the queue between the two.

    Zhong et al., "DistServe: Disaggregating Prefill and Decoding for Goodput-optimized Large
    Language Model Serving", OSDI 2024; Patel et al., "Splitwise", ISCA 2024.
    """

    def __init__(self, num_prefill: int = 1, token_seconds: float = 0.0):
        if num_prefill < 1 or not token_seconds >= 0:
            raise ConfigError(
                f"num_prefill must be at least 1 and token_seconds at least 0, not {num_prefill} "
                f"and {token_seconds}"
            )
        self.num_prefill, self.token_seconds = num_prefill, token_seconds

    def route(self, replicas: Sequence[ReplicaView], request: Request) -> int:
        if self.num_prefill >= len(replicas):
            raise ConfigError(
                f"{self.num_prefill} of {len(replicas)} replicas compute prompts, none is left to "
                "decode; raise num_replicas or lower num_prefill"
            )
        return min(range(self.num_prefill), key=lambda index: replicas[index].num_pending)

    def moves(self, replicas: Sequence[ReplicaView], source: int) -> Iterable[Move]:
        if source >= self.num_prefill:
            return
        decoders = range(self.num_prefill, len(replicas))
        for sequence in replicas[source].scheduler.running:
            if sequence.num_generated and not sequence.is_paused:
                target = min(decoders, key=lambda index: replicas[index].num_requests)
                yield Move(sequence, target, self.token_seconds * sequence.num_computed)
