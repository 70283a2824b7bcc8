"""Writes down a run of an engine, so that it can be done again step by step: see `replaying.py`.

What a run depends on is little: what was asked of the engine and before which step, what its clock
said, and the shapes its steps ran in.  Everything else follows, also under a policy that draws
lots, whose seed the view gives.  What came of it is written beside, to be compared with.

    {"format": 1, "config": {…}, …}                                          once
    {"call": "enqueue", "request": {…}, …}                                   between two steps
    {"step": 0, "times": […], "buckets": […], "items": [[id, index, count, token], …]}
    {"idle": true, "times": […], "buckets": []}                              nothing was to do
"""

import base64
import json
from collections.abc import Callable, Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from jpaged.beam_search_params import BeamSearchParams
from jpaged.engine.freezing import freeze
from jpaged.sampling_params import RequestOutputKind, SamplingParams
from jpaged.scheduling.batch import ScheduledBatch, StepOutput
from jpaged.scheduling.buckets import Bucket
from jpaged.scheduling.request import Request, Sequence
from jpaged.scheduling.terms import Terms

FORMAT = 1


class Recorder:
    """Writes one line after another; whatever interrupts it, what happened before is there.

    clock: the serving loop's, through which all answers pass while this records.
    """

    def __init__(self, path: str | Path, header: dict[str, Any], clock: Callable[[], float]):
        self._file = Path(path).expanduser().open("w")
        self._clock = clock
        self._times: list[float] = []
        self._write({"format": FORMAT} | header)

    def clock(self) -> float:
        self._times.append(self._clock())
        return self._times[-1]

    def call(self, name: str, **arguments: Any) -> None:
        """Something that was asked of the engine between two steps."""
        self._write({"call": name} | arguments)

    def step(
        self,
        index: int,
        advanced: Iterable[Sequence],
        output: StepOutput | None,
        batch: ScheduledBatch | None,
        buckets: Iterable[Bucket],
    ) -> None:
        """What the serving loop answered, and the shapes of the steps it began meanwhile."""
        heard, self._times = {"times": self._times, "buckets": list(buckets)}, []
        if batch is None or output is None:
            self._write({"idle": True} | heard)
        else:
            items = plain_items(set(advanced), output, batch)
            self._write({"step": index} | heard | {"items": items})

    def close(self) -> None:
        self._file.close()

    def _write(self, line: dict[str, Any]) -> None:
        self._file.write(json.dumps(line, default=plain) + "\n")
        self._file.flush()


def plain_items(
    advanced: set[Sequence], output: StepOutput, batch: ScheduledBatch
) -> list[list[Any]]:
    """A step's rows: request, index, tokens computed, and what it said, None if it did not."""
    rows = zip(batch.items, output.tokens, strict=True)
    return [
        [each.request.id, each.index, count, token if each in advanced else None]
        for (each, count), token in rows
    ]


def plain(value: object) -> dict[str, Any]:
    """What JSON does not know as it does: a request, the options of a search, a policy."""
    if isinstance(value, Request):
        return plain_request(value)
    return asdict(value) if isinstance(value, BeamSearchParams) else plain_policy(value)


def plain_policy(policy: object) -> dict[str, str | None]:
    """Its name and, if it is one of ours, its state."""
    kind = type(policy)
    is_ours = kind.__module__.startswith("jpaged.")
    state = base64.b64encode(freeze(policy)).decode() if is_ours else None
    return {"name": kind.__qualname__, "state": state}


def plain_request(request: Request) -> dict[str, Any]:
    """A request as JSON has it."""
    return asdict(request) | {
        "params": plain_params(request.params),
        "eos_token_ids": sorted(request.eos_token_ids),
    }


def plain_params(params: SamplingParams) -> dict[str, Any]:
    return asdict(params) | {"output_kind": params.output_kind.name}


def request_of(plain: dict[str, Any]) -> Request:
    """The request again."""
    values: dict[str, Any] = plain | {
        "prompt": tuple(plain["prompt"]),
        "params": params_of(plain["params"]),
        "eos_token_ids": frozenset(plain["eos_token_ids"]),
        "bad_words": tuple(map(tuple, plain["bad_words"])),
        "terms": Terms(**plain["terms"]),
    }
    return Request(**values)


def params_of(plain: dict[str, Any]) -> SamplingParams:
    values: dict[str, Any] = dict(plain)
    values["output_kind"] = RequestOutputKind[plain["output_kind"]]
    return SamplingParams(**values)
