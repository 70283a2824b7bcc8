"""ProgramAware: calls of short programs do not stand behind those of long ones.

Headline (Autellix, arXiv 2502.13965): by the attained service of programs, their mean time to
completion falls below FCFS's and below what a rule of single calls can reach.  Here nine of ten
programs make one to three calls and the tenth forty: FCFS 9.0 s, shortest prompts 8.6 s, attained
service of the call (MLFQ) 8.8 s, of the program 7.5 s.
"""

from dataclasses import replace
from functools import cache
from random import Random
from statistics import mean

import pytest
from filler import a_request, a_scheduler, run

from jpaged.errors import ConfigError
from jpaged.policies import Fcfs, ProgramAware, ShortestFirst, program_aware
from jpaged.scheduling.policy import Policy
from jpaged.scheduling.request import Sequence
from jpaged.scheduling.terms import Terms
from jpaged.simulator import Constant, Result, simulate
from jpaged.simulator.workload import TimedRequest

CALLS = (1, 1, 1, 1, 2, 2, 2, 3, 3, 40)


class PerCall(ProgramAware):
    """The same rule, blind for programs: a multi-level feedback queue of calls."""

    def program(self, sequence: Sequence) -> str:
        return ""


POLICIES: dict[str, Policy] = {
    "fcfs": Fcfs(),
    "shortest": ShortestFirst(),
    "per call": PerCall(quantum=64),
    "per program": ProgramAware(quantum=64),
}


def programs(num_programs: int = 150, rate: float = 8.0, seed: int = 0) -> list[TimedRequest]:
    """Each a chain of calls; a call follows the one before it by 50 ms."""
    rng, now, workload = Random(seed), 0.0, []
    for i in range(num_programs):
        now += rng.expovariate(rate)
        call = None
        for turn in reversed(range(rng.choice(CALLS))):
            call = TimedRequest(
                f"{i}.{turn}",
                0.05 if turn else now,
                tuple(rng.choices(range(32000), k=rng.randint(10, 30))),
                rng.randint(5, 40),
                terms=Terms(session=str(i)),
                then=call,
            )
        assert call is not None
        workload.append(call)
    return workload


@cache
def served(name: str) -> Result:
    return simulate(POLICIES[name], programs(), Constant(0.02), max_num_seqs=8)


def completion(result: Result) -> float:
    """The mean time from a program's first call to its last token."""
    first: dict[str, float] = {}
    last: dict[str, float] = {}
    for each in result.ended:
        first[each.session] = min(first.get(each.session, each.arrival), each.arrival)
        last[each.session] = max(last.get(each.session, 0.0), each.last_token or 0.0)
    return mean(last[session] - first[session] for session in first)


@pytest.mark.parametrize("other", ["fcfs", "shortest", "per call"])
def test_programs_complete_sooner_than_under_rules_of_single_calls(other):
    assert completion(served("per program")) < 0.9 * completion(served(other))


def test_the_same_tokens_are_served():
    said = [sum(each.num_output for each in served(name).ended) for name in POLICIES]

    assert len(set(said)) == 1


def test_a_program_has_attained_what_its_calls_computed():
    policy = ProgramAware()
    scheduler = a_scheduler(policy=policy, enable_prefix_caching=False)
    for name in ("first", "second"):
        request = a_request(name, prompt=6, max_tokens=4)
        scheduler.add(replace(request, terms=Terms(session="program")))
    run(scheduler)

    assert policy.attained == {"program": 2 * (6 + 4 - 1)}  # the last token is never computed


def test_of_many_programs_the_latest_are_remembered(monkeypatch):
    monkeypatch.setattr(program_aware, "MOST_PROGRAMS", 3)
    policy = ProgramAware()
    scheduler = a_scheduler(policy=policy, max_num_seqs=1)
    for name in "abcde":
        scheduler.add(replace(a_request(name), terms=Terms(session=name)))
    run(scheduler)

    assert list(policy.attained) == ["c", "d", "e"]


def test_levels_that_cannot_be_are_refused():
    with pytest.raises(ConfigError, match=r"growth=1\.0 above 1"):
        ProgramAware(growth=1.0)
