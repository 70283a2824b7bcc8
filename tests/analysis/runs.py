"""Small runs to make logs and pages of."""

from random import Random

from filler import a_scheduler

from jpaged.sampling_params import SamplingParams
from jpaged.scheduling.events import RequestRecord, StepRecord
from jpaged.scheduling.terms import Terms
from jpaged.simulator import Constant, Result, simulate
from jpaged.simulator.replica import Replica
from jpaged.simulator.workload import EOS, TimedRequest


def a_workload(num: int = 40, seed: int = 0, n: int = 1) -> list[TimedRequest]:
    """Of three clients, half of them behind a common prefix, faster than they are served."""
    rng, now = Random(seed), 0.0
    prefix = tuple(rng.choices(range(1000), k=24))
    found = []
    for index in range(num):
        now += rng.expovariate(40.0)
        prompt = prefix * (rng.random() < 0.5) + tuple(
            rng.choices(range(1000), k=rng.randint(1, 40))
        )
        terms = Terms(client=rng.choice("abc"), ttft=0.2 if index % 2 else None, tpot=0.02)
        params = SamplingParams(n=n)
        found.append(
            TimedRequest(f"r{index}", now, prompt, rng.randint(1, 40), params, terms=terms)
        )
    return found


def a_run(num: int = 40, trace_pages: bool = True, num_replicas: int = 1, n: int = 1) -> Result:
    """Under memory pressure: sequences are preempted, and some of what they had is found."""
    return simulate(
        "fcfs",
        a_workload(num, n=n),
        Constant(step=0.01, token=0.0001),
        num_pages=40,
        page_size=8,
        max_num_seqs=16,
        max_model_len=256,
        max_num_batched_tokens=64,
        num_replicas=num_replicas,
        trace_pages=trace_pages,
    )


def a_replica(ahead: int = 1, num_pages: int = 24, **told) -> Replica:
    """With little memory, and a device that says ten tokens to everybody."""
    scheduler = a_scheduler(num_pages, 4, max_num_seqs=8, max_num_batched_tokens=32)
    return Replica(scheduler, Constant(step=1.0), lambda _: 10, EOS, ahead=ahead, **told)


def serve(replica: Replica, num: int = 12) -> None:
    for timed in a_workload(num, seed=1, n=2):
        replica.add(timed.as_request(96, now=0.0))
    while replica.has_work:
        replica.step(float("inf"))


def a_request_record(**values) -> RequestRecord:
    """Arrived at 0, let in at 1, first token at 2, last at 6."""
    fields = {
        "request_id": "a",
        "index": 0,
        "client": "",
        "session": "",
        "priority": 0,
        "arrival": 0.0,
        "scheduled": 1.0,
        "first_token": 2.0,
        "last_token": 6.0,
        "num_prompt": 4,
        "num_cached": 0,
        "num_output": 5,
        "num_preemptions": 0,
        "finish_reason": "stop",
    }
    return RequestRecord(**(fields | values))


def a_step_record(start: float, end: float, **values) -> StepRecord:
    names = ("num_tokens", "num_sequences", "num_waiting", "num_preempted", "num_finished")
    names += ("pages_held", "pages_unshared", "pages_idle", "pages_free")
    fields = dict.fromkeys((*names, "slots_held", "slots_used"), 0)
    return StepRecord(index=0, start=start, end=end, bucket=None, **(fields | values))
