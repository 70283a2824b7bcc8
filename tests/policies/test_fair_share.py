"""FairShare: two clients who both wait never drift apart, however much one of them asks.

Headline (Sheng et al., OSDI 2024, theorem 4.4): their services differ by at most
2·max(w_p·longest prompt, w_q·tokens in a batch) under VTC, and without bound under FCFS.  Here the
bound is 2560, FCFS reaches some 11000, VTC some 100.
"""

from collections.abc import Iterator
from dataclasses import replace
from random import Random

import pytest
from filler import a_request, a_scheduler, names, step

from jpaged.errors import ConfigError
from jpaged.policies import FairShare, Fcfs
from jpaged.scheduling.policy import Policy
from jpaged.scheduling.terms import Terms
from jpaged.simulator import Constant, Result, simulate
from jpaged.simulator.workload import TimedRequest

PROMPT_WEIGHT, OUTPUT_WEIGHT = 1.0, 2.0
LONGEST, NUM_PAGES, PAGE_SIZE = 40, 40, 16


def a_flood(num_requests: int = 240, seed: int = 0) -> list[TimedRequest]:
    """All at once: five of six requests are the greedy client's."""
    rng = Random(seed)
    return [
        TimedRequest(
            str(i),
            0.001 * i,
            tuple(rng.choices(range(32000), k=rng.randint(8, LONGEST))),
            rng.randint(8, 40),
            terms=Terms(client="greedy" if i % 6 else "modest"),
        )
        for i in range(num_requests)
    ]


def serve(policy: Policy) -> Result:
    return simulate(
        policy,
        a_flood(),
        Constant(0.02),
        max_num_seqs=8,
        max_model_len=96,
        page_size=PAGE_SIZE,
        num_pages=NUM_PAGES,
        enable_prefix_caching=False,
    )


def services(result: Result, share: float = 1.0) -> Iterator[tuple[float, float]]:
    """(greedy − modest) as it grows, while both have requests waiting."""
    events: list[tuple[float, float]] = []
    for each in result.ended:
        sign = 1.0 if each.client == "greedy" else -1 / share
        assert each.scheduled is not None
        events.append((each.scheduled, sign * PROMPT_WEIGHT * each.num_prompt))
        events += [(time, sign * OUTPUT_WEIGHT) for time in each.token_times]
    last = {each.client: each.scheduled or 0.0 for each in result.ended}
    for each in result.ended:
        last[each.client] = max(last[each.client], each.scheduled or 0.0)
    gap = 0.0
    for time, change in sorted(events):
        if time > min(last.values()):
            return
        gap += change
        yield time, gap


@pytest.mark.parametrize("policy", [Fcfs(), FairShare()], ids=["fcfs", "vtc"])
def test_backlogged_clients_stay_within_the_bound_only_under_vtc(policy):
    bound = 2 * max(PROMPT_WEIGHT * LONGEST, OUTPUT_WEIGHT * NUM_PAGES * PAGE_SIZE)

    widest = max(abs(gap) for _, gap in services(serve(policy)))

    assert (widest <= bound) is isinstance(policy, FairShare)
    if isinstance(policy, Fcfs) and not isinstance(policy, FairShare):
        assert widest > 4 * bound


def test_a_client_with_twice_the_share_gets_twice_as_much():
    result = serve(FairShare(shares={"modest": 2.0}))

    end = max(each.scheduled or 0.0 for each in result.ended if each.client == "modest")
    said = {"greedy": 0.0, "modest": 0.0}
    for each in result.ended:
        said[each.client] += sum(time <= end for time in each.token_times)
    assert said["modest"] / said["greedy"] == pytest.approx(2.0, rel=0.2)


def test_rest_earns_no_credit():
    policy = FairShare()
    scheduler = a_scheduler(policy=policy, max_num_seqs=1)

    def ask(client: str, name: str):
        request = a_request(name, prompt=4, max_tokens=4)
        scheduler.add(replace(request, terms=Terms(client=client)))

    for name in "abcdefgh":
        ask("busy", name)
        ask("other", name.upper())
    for now in range(24):
        step(scheduler, float(now))
    for name in "123456":
        ask("rested", name)
    ran = ""
    for now in range(24, 48):
        ran += names(s for s, count in step(scheduler, float(now)).items if count > 1)

    # three clients in their turns; with credit it would have been the rested one, six times
    assert sum(name.isdigit() for name in ran) in (2, 3)


@pytest.mark.parametrize("wrong", [{"shares": {"a": 0.0}}, {"prompt_weight": -1.0}])
def test_weights_and_shares_that_cannot_be_are_refused(wrong):
    with pytest.raises(ConfigError, match="shares must be above 0"):
        FairShare(**wrong)
