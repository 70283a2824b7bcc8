"""What holds for every policy that has a name."""

import pickle
from copy import deepcopy

import pytest
from filler import a_request, a_scheduler, run, step

from jpaged.policies import NAMES, Fcfs, Policy, resolve
from jpaged.scheduling.scheduler import Scheduler


def in_the_midst() -> Scheduler:
    """Some run, some wait, some were evicted to the host; `Fcfs` did all that."""
    scheduler = a_scheduler(num_pages=12, max_num_seqs=4, num_host_pages=6, policy=Fcfs())
    for index in range(9):
        scheduler.add(a_request(str(index), prompt=3 + index, max_tokens=12, priority=index % 3))
    for _ in range(9):
        step(scheduler)
    assert scheduler.running and scheduler.waiting
    assert any(sequence.num_preemptions for sequence in scheduler.queues)
    return scheduler


@pytest.mark.parametrize("name", NAMES)
def test_a_policy_may_take_over_from_another(name):
    scheduler = in_the_midst()
    everyone = list(scheduler.queues)
    scheduler.policy = resolve(name)

    run(scheduler)

    assert isinstance(scheduler.policy, NAMES[name]) and scheduler.policy_error is None
    assert all(sequence.finish_reason == "length" for sequence in everyone)


def pickled(policy: Policy) -> Policy:
    return pickle.loads(pickle.dumps(policy))


@pytest.mark.parametrize("copy", [deepcopy, pickled])
@pytest.mark.parametrize("name", NAMES)
def test_a_copy_goes_on_as_the_policy_would_have(name, copy):
    def ends(is_copied: bool) -> list[float | None]:
        scheduler = in_the_midst()
        everyone = list(scheduler.queues)
        scheduler.policy = resolve(name)
        for _ in range(3):
            step(scheduler, now=20.0)
        if is_copied:
            scheduler.policy = copy(scheduler.policy)
        run(scheduler)
        assert scheduler.policy_error is None
        return [sequence.timing.last_token for sequence in everyone]

    assert ends(is_copied=True) == ends(is_copied=False)
