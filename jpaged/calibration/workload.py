"""What an engine and its simulation are both asked to serve."""

from dataclasses import replace

from jpaged.scheduling.request import Request
from jpaged.simulator.lengths import CONTEXT, SHAREGPT
from jpaged.simulator.workload import TimedRequest, generate

ORDINARY = 3  # token ids below are often special


class Known(TimedRequest):
    """A request whose `max_tokens` is what it will say.

    So an engine that ignores ends of sequence says as much as fate had in store; and neither it
    nor the simulation schedules a token beyond the last, which would be dropped.
    """

    def as_request(
        self, context: int = CONTEXT, before: tuple[int, ...] = (), now: float | None = None
    ) -> Request:
        return replace(super().as_request(context, before, now), max_tokens=self.num_output)


def conversations(
    num_requests: int, rate: float, seed: int, context: int, vocab: int
) -> list[Known]:
    """ShareGPT-like requests, shortened to fit a context; `rate` a second, as a Poisson process.

    The same seed gives the same requests at every rate.
    """
    law = SHAREGPT.shortened(CONTEXT / context, most=context // 2)
    low = min(ORDINARY, vocab - 1)
    return [
        Known(
            each.name,
            each.arrival,
            tuple([low + token % (vocab - low) for token in each.prompt]),
            each.num_output,
        )
        for each in generate(law, num_requests, rate, seed)
    ]
