"""Andes: tokens where somebody waits to read them.

Headline (arXiv 2404.16283): under a surge the mean quality of experience is above FCFS's by a
factor of up to 4.7.  Here 80 people who read ten tokens a second come within 2 s to a cache for
some 13: FCFS 0.80, Andes 1.00.  The price: 185 preemptions for 146, 54 % of all tokens computed
again and not 37 %, and last tokens after 8.4 s and not 6.6, which the readers do not notice.
"""

from dataclasses import replace
from random import Random
from statistics import mean
from typing import Any

import pytest
from filler import a_request, a_scheduler, names, schedule, step

from jpaged.errors import ConfigError
from jpaged.policies import Andes, Fcfs
from jpaged.policies.andes import experience
from jpaged.scheduling.cost import Costs
from jpaged.scheduling.policy import Policy
from jpaged.scheduling.terms import Terms
from jpaged.simulator import Constant, Result, simulate
from jpaged.simulator.workload import TimedRequest

TTFT, TPOT = 1.0, 0.1


def a_surge(num_requests: int, seed: int = 0) -> list[TimedRequest]:
    rng, now, workload = Random(seed), 0.0, []
    for i in range(num_requests):
        now += rng.expovariate(40.0)
        prompt = tuple(rng.choices(range(32000), k=rng.randint(20, 100)))
        terms = Terms(ttft=TTFT, tpot=TPOT)
        workload.append(TimedRequest(str(i), now, prompt, rng.randint(100, 300), terms=terms))
    return workload


def serve(policy: Policy, workload: list[TimedRequest], **options: Any) -> Result:
    return simulate(
        policy,
        workload,
        Constant(0.01, 5e-5),
        max_model_len=512,
        enable_prefix_caching=False,
        **options,
    )


def mean_experience(result: Result) -> float:
    return mean(experience(each.arrival, each.token_times, TTFT, TPOT) for each in result.ended)


def test_under_a_surge_the_mean_experience_is_above_fcfs():
    workload = a_surge(80)

    fcfs, andes = (
        mean_experience(serve(policy, workload, num_pages=160)) for policy in (Fcfs(), Andes())
    )

    assert fcfs < 0.85
    assert andes > 0.95


@pytest.mark.parametrize(("token", "run"), [(5.0, "a"), (0.01, "abc")])
def test_readers_who_are_ahead_pause_where_a_step_of_all_is_slower_than_they_read(token, run):
    """Three say a token a second to readers of one in ten seconds, and one waits for a seat."""
    scheduler = a_scheduler(
        policy=Andes(), max_num_seqs=3, costs=Costs(Constant(0.0, token)), max_num_batched_tokens=8
    )
    for name in "abcd":
        request = a_request(name, prompt=2, max_tokens=60)
        scheduler.add(replace(request, terms=Terms(ttft=9999.0 if name == "d" else 1.0, tpot=10.0)))
    for now in range(40):
        step(scheduler, float(now))

    # the eldest runs whatever a policy says
    assert names(sequence for sequence, _ in schedule(scheduler, 40.0).items) == run


def test_who_gets_every_token_in_time_has_the_best_experience():
    in_time = [TTFT + TPOT * i for i in range(10)]

    assert experience(0.0, in_time, TTFT, TPOT) == pytest.approx(1.0)
    assert experience(0.0, [0.1] * 10, TTFT, TPOT) == pytest.approx(1.0)
    assert experience(0.0, [], TTFT, TPOT) == 0.0


def test_experience_is_the_area_under_what_was_read():
    # by hand: due at 1.0 and 1.5, came at 2.0 together, read until 3.0: (1 + .5) / (2 + 1.5)
    assert experience(0.0, [2.0, 2.0], ttft=1.0, tpot=0.5) == pytest.approx(1.5 / 3.5)


def test_a_speed_that_cannot_be_is_refused():
    with pytest.raises(ConfigError, match=r"tpot=0 must be above 0 seconds"):
        Andes(tpot=0)
