"""Does a recorded run again, step by step, to the same tokens; from any step on it may go its own
way.

    replay = Replay("run.jsonl")
    replay.run(until=812)                         # the engine stands where it stood before step 812
    replay.branch(ShortestFirst())                # and goes on under another policy
    replay.simulate(ShortestFirst(), cost_model)  # or in virtual time

Every step is compared with what was written down: the first that differs is an error.
"""

import base64
import copy
import json
from collections import Counter, deque
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from jpaged.beam_search_params import BeamSearchParams
from jpaged.engine.freezing import thaw
from jpaged.engine.llm_engine import LLMEngine
from jpaged.engine.outputs import RequestOutput
from jpaged.engine.recording import FORMAT, plain_items, request_of
from jpaged.engine.snapshot import Mark
from jpaged.errors import ReplayDiverged
from jpaged.scheduling.batch import ScheduledBatch, StepOutput
from jpaged.scheduling.buckets import Bucket
from jpaged.scheduling.cost import CostModel
from jpaged.scheduling.policy import Policy
from jpaged.scheduling.request import Sequence
from jpaged.simulator.counterfactual import Fates, go_on
from jpaged.simulator.result import Result

Line = dict[str, Any]
CALLS = frozenset(
    "enqueue beam_search fork extend drop abort settle set_policy reset_prefix_cache".split()
)


class Replay:
    """A run that is done again.  `engine` is a real one, and stands where the replay stands.

    policy: the one of the recorded run, if it is not one of ours; another one will diverge.
    options: what is to be different, such as `model`, if the checkpoint lies elsewhere now.  Raises
    `SnapshotMismatch` if the engine is another, `ReplayDiverged` if the file is no recording.
    """

    def __init__(self, path: str | Path, policy: Policy | None = None, **options: Any):
        self.path = Path(path).expanduser()
        self._lines = list(_read(self.path))
        if not self._lines:
            raise ReplayDiverged(f"{self.path} is empty: no recording")
        header = self._lines.pop(0)
        policy = policy or _policy_of(header["policy"])
        sizes = Mark(**header["mark"]).sizes | {"kv_cache_memory_bytes": None, "policy": policy}
        # whatever shape a step had is compiled when it is met
        config = {**header["config"], **sizes, "warmup": "none", **options}
        config = {name: value for name, value in config.items() if value is not None}
        self.engine = LLMEngine(config.pop("model"), **config)
        self.engine.mark.check(Mark(**header["mark"]))
        self.engine.scheduler.num_scheduled = header["num_scheduled"]
        self.engine.loop.num_steps = header["num_steps"]
        self.engine.loop.clock = self._clock
        self.engine.loop.sleep = lambda seconds: None
        self.outputs: dict[str, RequestOutput] = {}  # the latest of each request
        self._times = deque(time for line in self._lines for time in line.get("times", ()))
        self._now = 0.0
        self._at = 0  # the next line
        self._is_over = False
        shapes = [Bucket(*b) for line in self._lines for b in line.get("buckets", ())]
        self.engine.executor.script.extend(shapes)

    @property
    def num_steps(self) -> int:
        """Of the whole recording."""
        return sum("step" in line for line in self._lines)

    def run(
        self, until: int | None = None, on_step: Callable[[int], object] = lambda step: None
    ) -> dict[str, RequestOutput]:
        """Goes on to the end, or until the step of this number is next.  Returns the latest output
        of each request.  Raises `ReplayDiverged` where a step does not come out as it did."""
        if self._is_over:
            raise ReplayDiverged("this replay was left for a branch or a simulation; begin anew")
        while self._at < len(self._lines):
            line = self._lines[self._at]
            if until is not None and line.get("step", -1) >= until:
                break
            self._at += 1
            self._do(line)
            if "step" in line:
                on_step(line["step"])
        return self.outputs

    def simulate(self, policy: str | Policy, cost_model: CostModel) -> Result:
        """What the rest of the run would be under another policy, in virtual time: the same
        requests arrive at the same times and say as much as they did."""
        self._settle()
        rest = [line for line in self._lines[self._at :] if line.get("call") == "enqueue"]
        arrivals = [request_of(line["request"]) for line in rest]
        scheduler = self.engine.scheduler
        # all but its policy, which another one replaces: it may hold what cannot be copied
        scheduler = copy.deepcopy(scheduler, {id(scheduler.policy): scheduler.policy})
        return go_on(scheduler, policy, cost_model, self._fates(), arrivals, self._now)

    def branch(self, policy: Policy | None = None) -> LLMEngine:
        """An engine that goes on from here, with what is in flight; close it first.

        It shares weights with `engine`, and its clock goes on from the recorded instant, however
        long this took, and for every branch anew.  Steps under way end before; therefore the replay
        itself cannot go on then, and `run` raises `ReplayDiverged`.
        """
        self._settle()
        moment = replace(self.engine.snapshot(), taken_at=self._now)
        return self.engine.branch(moment, policy)

    def close(self) -> None:
        self.engine.close()

    def __enter__(self) -> "Replay":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _clock(self) -> float:
        if self._times:
            self._now = self._times.popleft()
        return self._now

    def _do(self, line: Line) -> None:
        if "call" in line:
            if line["call"] not in CALLS:
                raise ReplayDiverged(f"{self.path} has a call {line['call']!r}, which is unknown")
            getattr(self, f"_{line['call']}")(line)
            return
        self._compare(line, *self.engine.loop.step())

    def _compare(
        self,
        line: Line,
        advanced: list[Sequence],
        output: StepOutput | None,
        batch: ScheduledBatch | None,
    ) -> None:
        found = []
        if batch is not None and output is not None:
            found = plain_items(set(advanced), output, batch)
        if found != line.get("items", []):
            raise ReplayDiverged(_difference(self.path, line, found))
        self.engine.live.take(advanced, output, batch)
        for each in self.engine.live.pop_outputs():
            self.outputs[each.request_id] = each

    def _settle(self, line: Line | None = None) -> None:
        """Waits for steps under way without beginning others, as for a snapshot."""
        self._is_over = line is None  # the recorded run went on otherwise
        while self.engine.loop.is_underway:
            self._at += 1
            self._compare(self._lines[self._at - 1], *self.engine.loop.collect())

    def _fates(self) -> Fates:
        """How many tokens each sequence says in the whole recording."""
        items = [item for line in self._lines for item in line.get("items", ())]
        return Counter((name, index) for name, index, _, token in items if token is not None)

    def _enqueue(self, line: Line) -> None:
        self.engine.enqueue(request_of(line["request"]), line["text"], line["steered"])

    def _beam_search(self, line: Line) -> None:
        search = BeamSearchParams(**line["search"])
        self.engine.enqueue_beam_search(request_of(line["request"]), (line["text"], search))

    def _fork(self, line: Line) -> None:
        live = self.engine.live
        state = live.find(line["request_id"])
        live.fork(state, state.living_sample(line["index"]), request_of(line["request"]))

    def _extend(self, line: Line) -> None:
        self.engine.extend(line["request_id"], line["tokens"])

    def _drop(self, line: Line) -> None:
        self.engine.drop(line["request_id"])

    def _abort(self, line: Line) -> None:
        self.engine.abort_request(line["request_ids"])

    def _set_policy(self, line: Line) -> None:
        self.engine.set_policy(_policy_of(line["policy"]))

    def _reset_prefix_cache(self, line: Line) -> None:
        self.engine.reset_prefix_cache()


def _read(path: Path) -> Iterator[Line]:
    """The lines of a recording.  Raises `ReplayDiverged`, with file and line, for what is none."""
    for number, text in enumerate(path.read_text().splitlines(), start=1):
        try:
            line = json.loads(text)
            if number == 1 and line["format"] != FORMAT:
                raise ValueError(f"format {line['format']}, this jpaged reads {FORMAT}")
            yield line
        except (ValueError, KeyError, TypeError) as error:
            raise ReplayDiverged(f"{path}:{number} is no line of a recording: {error}") from error


def _policy_of(plain: dict[str, str | None]) -> Policy:
    if plain["state"] is None:
        raise ReplayDiverged(
            f"the run was recorded under the policy {plain['name']}, whose code is not in it; pass "
            "policy=… (from a shell, --policy mine.py:MyPolicy)"
        )
    return thaw(base64.b64decode(plain["state"]), None, None, is_trusted=False)


def _difference(path: Path, line: Line, found: list[list[Any]]) -> str:
    recorded = line.get("items", [])
    pairs = [(theirs, ours) for theirs, ours in zip(recorded, found, strict=False)]
    first = next(((a, b) for a, b in pairs if a != b), (len(recorded), len(found)))
    return (
        f"step {line.get('step', '(idle)')} of {path} does not come out as it did: recorded "
        f"{first[0]}, now {first[1]} (request, sample, tokens computed, token said)"
    )
