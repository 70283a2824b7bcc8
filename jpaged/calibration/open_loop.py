"""Serves a workload on a real engine as it comes: in real time, whether or not the engine keeps up.

A request is handed over when its time has come, between two steps, as a server would.  While there
is nothing to do the driver sleeps, and watches the clock for the last moment before an arrival: an
operating system wakes a sleeper late.
"""

import time
from collections import deque
from dataclasses import replace

from jpaged.calibration.workload import Known
from jpaged.engine.llm_engine import LLMEngine
from jpaged.sampling_params import SamplingParams
from jpaged.scheduling.events import RequestRecord
from jpaged.simulator.result import Result

AWAKE = 2e-3  # seconds before an arrival in which the driver does not sleep


def serve(engine: LLMEngine, workload: list[Known]) -> Result:
    """Runs the workload to its end.  Times are seconds since it began."""
    engine.records.clear()
    engine.ended.clear()
    result, to_come = Result(), deque(workload)
    begun = engine.clock()
    while to_come or engine.has_unfinished_requests():
        now = engine.clock() - begun
        while to_come and to_come[0].arrival <= now:
            _hand_over(engine, to_come.popleft(), begun)
        if engine.has_unfinished_requests():
            engine.step()
            _take(engine, result)
        elif to_come:
            _wait_until(begun + to_come[0].arrival, engine)
    result.ended = [_since(begun, each) for each in result.ended]
    return result


def _hand_over(engine: LLMEngine, timed: Known, begun: float) -> None:
    params = SamplingParams(temperature=0, max_tokens=timed.num_output, ignore_eos=True)
    engine.add_request(timed.name, timed.prompt, params, begun + timed.arrival)


def _take(engine: LLMEngine, result: Result) -> None:
    while engine.records:
        result.records.append(engine.records.popleft())
    while engine.ended:
        result.ended.append(engine.ended.popleft())


def _wait_until(moment: float, engine: LLMEngine) -> None:
    ahead = moment - engine.clock()
    if ahead > AWAKE:
        time.sleep(ahead - AWAKE)
    while engine.clock() < moment:
        pass


def _since(begun: float, record: RequestRecord) -> RequestRecord:
    """The same record on a clock that begins with the workload."""

    def shifted(moment: float | None) -> float | None:
        return None if moment is None else moment - begun

    return replace(
        record,
        arrival=record.arrival - begun,
        scheduled=shifted(record.scheduled),
        first_token=shifted(record.first_token),
        last_token=shifted(record.last_token),
        token_times=tuple(each - begun for each in record.token_times),
    )
