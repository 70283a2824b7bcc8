"""Calibrates an engine and holds its simulation against it, in turns of a few seconds.

    calibrate  load 1  load 2 …  calibrate  load 1  load 2 …  ► costs ► simulations

A shared machine has several speeds, a third apart, and costs of one do not foretell another; in
short turns all see all of them.  What is served has other seeds, and other laws of length, than
what is measured.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from jpaged.calibration.accuracy import Comparison
from jpaged.calibration.calibrate import Steps, options_of, table_of, watched
from jpaged.calibration.loads import Loads, capacity
from jpaged.calibration.meter import Measured
from jpaged.calibration.pace import pace
from jpaged.calibration.validate import LOADS, check_amounts, compare, crowd, requests, run_of
from jpaged.calibration.workload import Known
from jpaged.engine.llm_engine import LLMEngine
from jpaged.engine.progress import progress
from jpaged.scheduling.policy import Policy
from jpaged.simulator.result import Result
from jpaged.simulator.simulate import simulate
from jpaged.simulator.table import FromTable

TURN = 5.0  # seconds of arrivals at each load
WARM = 3.0  # seconds until memory is touched and caches are filled
DESIGNED = 10.0  # seconds of every shape, one after another
CALIBRATED = 2  # times as long as each load is served


@dataclass
class Load:
    """Parts of what arrives at one rate, and what the engine did with them: in one list a
    repetition of them all."""

    share: float  # of the rate that saturates
    rate: float
    parts: list[list[Known]]
    runs: list[list[Result]]
    steps: list[Measured] = field(default_factory=list)

    def serve(self, engine: LLMEngine, repeat: int, part: int) -> None:
        result, measured = run_of(engine, self.parts[part])
        self.runs[repeat].append(result)
        self.steps += measured

    def compare(self, engine: LLMEngine, table: FromTable, policy: str | Policy) -> Comparison:
        foretold = [simulate(policy, part, table, **options_of(engine)) for part in self.parts]
        return compare(self.share, self.rate, self.runs, self.steps, foretold, table)


def validate_in_turns(
    engine: LLMEngine,
    *,
    policy: str | Policy = "fcfs",
    loads: Sequence[float] = LOADS,
    seconds: float = 30.0,
    turn: float = TURN,
    repeats: int = 2,
    seed: int = 1,
) -> tuple[FromTable, list[Comparison]]:
    """The costs of this engine, and how true they make its simulation at each load.

    seconds: of arrivals at each load, in turns of so many.  repeats: of the same requests, which
    tell how far an engine is from itself.  The engine must have nothing to do.
    Raises `ConfigError` for numbers that cannot be.
    """
    check_amounts(loads, seconds, repeats, turn)
    engine.set_policy(policy)
    work = Loads(engine, seed)
    work.mixed(min(WARM, seconds))
    usual = pace(engine)
    num_parts = max(1, round(seconds / turn))
    part = seconds / num_parts
    served = loads_of(engine, loads, num_parts, part, repeats, seed)
    steps = Steps(designed=watched(work, work.designed, min(DESIGNED, seconds)).steps)
    num_turns = repeats * num_parts
    with progress(num_turns, "Calibrating and serving", "turn") as bar:
        for index in range(num_turns):
            engine.reset_prefix_cache()
            steps.add_mixed(watched(work, work.mixed, CALIBRATED * part))
            for load in served:
                load.serve(engine, *divmod(index, num_parts))
            bar.update()
    table = replace(table_of(engine, steps), pace=usual)
    return table, [load.compare(engine, table, policy) for load in served]


def loads_of(
    engine: LLMEngine,
    shares: Sequence[float],
    num_parts: int,
    seconds: float,
    repeats: int,
    seed: int,
) -> list[Load]:
    """Shares of what the engine can serve, measured; each part has arrivals for so many seconds."""
    most, loads = capacity(engine, crowd(engine, seed - 1)), []
    for share in shares:
        rate = share * most
        count = max(1, round(rate * seconds))
        parts = [requests(engine, rate, count, seed + part) for part in range(num_parts)]
        loads.append(Load(share, rate, parts, [[] for _ in range(repeats)]))
    return loads
