"""What if another policy had decided from here on?  A scheduler in mid-flight, in virtual time."""

from collections import Counter

from jpaged.errors import ConfigError
from jpaged.policies import resolve
from jpaged.scheduling.cost import CostModel, Costs
from jpaged.scheduling.events import RequestRecord
from jpaged.scheduling.policy import Policy
from jpaged.scheduling.request import Request, Sequence
from jpaged.scheduling.scheduler import Scheduler
from jpaged.simulator.copies import copy_of
from jpaged.simulator.replica import Replica, serve_alone
from jpaged.simulator.result import Result

Fates = Counter[tuple[str, int]]  # tokens that each sample of each request will have said
FILLER = -1  # what they say: no token ends them, only their fate


def go_on(
    scheduler: Scheduler,
    policy: str | Policy,
    cost_model: CostModel,
    fates: Fates,
    arrivals: list[Request],
    now: float,
) -> Result:
    """Serves what is in flight and what is still to arrive, to the end.

    scheduler: with no step under way; it is used up.  policy: a copy of it decides.  now: seconds
    on the clock of the arrivals.  Raises `ConfigError` for sequences that somebody steers: nobody
    is there to do it.
    """
    steered = sorted({each.request.id for each in scheduler.queues if each.is_steered})
    if steered:
        raise ConfigError(f"requests {', '.join(steered)} are steered; that cannot be simulated")
    scheduler.policy = copy_of(resolve(policy), "policy")
    scheduler.costs = Costs(cost_model, scheduler.buckets)
    result = Result()

    def finish(sequence: Sequence) -> None:
        result.ended.append(RequestRecord.of(sequence))

    replica = Replica(
        scheduler,
        cost_model,
        lambda _: FILLER,
        FILLER,
        on_step=result.records.append,
        on_finish=finish,
    )
    replica.clock.wait_until(now)
    meet_fate(scheduler, fates)

    def admit(request: Request) -> None:
        reason = replica.add(request)
        if reason is not None:
            result.refused.append((request.id, reason))
        meet_fate(scheduler, fates)

    for _ in serve_alone(replica, sorted(arrivals, key=lambda each: each.arrival), admit):
        pass
    return result


def meet_fate(scheduler: Scheduler, fates: Fates) -> None:
    """Lets sequences end where they did end, whatever ended them."""
    for sequence in list(scheduler.queues):
        end = sequence.num_prompt + fates[sequence.request.id, sequence.index]
        if len(sequence.tokens) >= end:  # aborted, in the run as it was
            scheduler.finish(sequence, "abort")
        else:
            sequence.full_length = end
