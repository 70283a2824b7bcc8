"""Costs that were measured: a table of the compiled shapes, and what adds to them.

    seconds = base(bucket) + token(bucket) · tokens
            + read · num_read + pair · num_pairs + sequence · num_sequences + moved · num_moved
            + rest · after_rest + prompts · after_prompts

    host    = host_seconds + host(bucket) + host_prompt · num_prompts + host_token · tokens
            + host_sequence · num_sequences             before the step: scheduling, packing
            + host_rest · after_rest + host_prompts · after_prompts
    enter   = enter_seconds + enter_prompt · num_prompts + enter_sequence · num_sequences
            + enter_end · num_ended                     after it: what it answered
    admit   = admit_seconds + admit_token · tokens      for each request that arrives

Single steps are scattered around that, by a log-normal law: where host and device take about the
same, or a queue is short, it is not enough to know the mean.

Shapes repeat, because a step is compiled for a few of them only: that is why a table can be exact
where a simulator of another engine has to guess.  `jpaged calibrate MODEL` writes one, and
`jpaged validate MODEL` tells how true it is.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from random import Random

from jpaged.errors import ConfigError
from jpaged.scheduling.buckets import Bucket, BucketLadder
from jpaged.scheduling.cost import StepShape

FORMAT = 5
# engine options that a step's cost depends on: under others the table says nothing
SHAPING = (
    "max_model_len",
    "page_size",
    "max_num_seqs",
    "max_num_batched_tokens",
    "async_scheduling",
)


@dataclass(frozen=True)
class Row:
    """What was measured of one bucket, in seconds: `base`, and `token` for each token that is no
    padding; `host`, what its steps take the host beyond those that take it least.

    spread, host_spread: the deviation of a single step from that, as a share of it.
    num_steps: how many were held out of the fit.  error, error_p90: the median and the nine tenths
    of their relative errors.  bias: by how much the fit takes all of them together for longer.
    """

    base: float
    token: float
    host: float = 0.0
    spread: float = 0.0
    host_spread: float = 0.0
    num_steps: int = 0
    error: float = 0.0
    error_p90: float = 0.0
    bias: float = 0.0


@dataclass(frozen=True)
class FromTable:
    """A cost model from measurements; of_model, shape (a `ModelShape`), machine and engine (its
    options) say of what; pace, the seconds of a step of one sequence then (`calibration.pace`).

    rows: by bucket.  read, pair, sequence: seconds for a token read from the cache, for a pair of
    query and key, for a sequence.  moved: for a page copied or swapped.  rest, prompts: for what
    came shortly before (`aftermath`).  host_, enter_ and admit_: what the host takes, most of it
    while the device is at the step before.
    """

    rows: dict[Bucket, Row]
    read: float = 0.0
    pair: float = 0.0
    sequence: float = 0.0
    moved: float = 0.0
    rest: float = 0.0
    prompts: float = 0.0
    host_seconds: float = 0.0
    host_prompt: float = 0.0
    host_token: float = 0.0
    host_sequence: float = 0.0
    host_rest: float = 0.0
    host_prompts: float = 0.0
    enter_seconds: float = 0.0
    enter_prompt: float = 0.0
    enter_sequence: float = 0.0
    enter_end: float = 0.0
    admit_seconds: float = 0.0
    admit_token: float = 0.0
    of_model: str = ""
    machine: str = ""
    shape: dict[str, int] = field(default_factory=dict)
    engine: dict[str, int] = field(default_factory=dict)
    pace: float = 0.0
    error: float = 0.0
    error_p90: float = 0.0
    bias: float = 0.0

    def seconds(self, shape: StepShape) -> float:
        """Raises `ConfigError` for a bucket that was not measured."""
        row = self._row(shape)
        if row is None:
            raise ConfigError(
                f"the cost table of {self.of_model or 'this model'} has no bucket {shape.bucket}; "
                f"it was measured with {self.engine}: use the same options, or calibrate again"
            )
        return (
            row.base
            + row.token * shape.num_tokens
            + self.read * shape.num_read
            + self.pair * shape.num_pairs
            + self.sequence * shape.num_sequences
            + self.moved * shape.num_moved
            + self.rest * shape.after_rest
            + self.prompts * shape.after_prompts
        )

    def host(self, shape: StepShape) -> float:
        """Seconds of the host before a step is submitted."""
        return (
            self.host_seconds
            + (row.host if (row := self._row(shape)) else 0.0)
            + self.host_prompt * shape.num_prompts
            + self.host_token * shape.num_tokens
            + self.host_sequence * shape.num_sequences
            + self.host_rest * shape.after_rest
            + self.host_prompts * shape.after_prompts
        )

    def entering(self, shape: StepShape, num_ended: int) -> float:
        """Seconds of the host for the answer of a step, with which so many sequences end."""
        return (
            self.enter_seconds
            + self.enter_prompt * shape.num_prompts
            + self.enter_sequence * shape.num_sequences
            + self.enter_end * num_ended
        )

    def admitting(self, num_tokens: int) -> float:
        """Seconds of the host for a request with such a prompt."""
        return self.admit_seconds + self.admit_token * num_tokens

    def drawn(self, shape: StepShape, rng: Random) -> tuple[float, float]:
        """The same, of the device and the host, for one step of many: by chance."""
        row, seconds, host = self._row(shape), self.seconds(shape), self.host(shape)
        if row is None:
            return seconds, host
        return seconds * _scattered(row.spread, rng), host * _scattered(row.host_spread, rng)

    def spread(self, shape: StepShape) -> float:
        """Of single steps of that shape."""
        row = self._row(shape)
        return 0.0 if row is None else row.spread

    def _row(self, shape: StepShape) -> Row | None:
        return None if shape.bucket is None else self.rows.get(shape.bucket)

    def check(self, engine: Mapping[str, object], shape: Mapping[str, int] | None = None) -> None:
        """Raises `ConfigError`, naming what differs, if the table is of an engine with other
        options, or of another model."""
        differing = [
            f"{name} is {engine[name]!r}, measured was {self.engine[name]!r}"
            for name in SHAPING
            if name in engine and engine[name] != self.engine.get(name, engine[name])
        ]
        differing += [
            f"the model's {name} is {value!r}, measured was {self.shape[name]!r}"
            for name, value in (shape or {}).items()
            if value != self.shape.get(name, value)
        ]
        if differing:
            raise ConfigError(
                f"the cost table of {self.of_model or 'this model'} does not fit: "
                f"{'; '.join(differing)}; use the same, or calibrate again"
            )

    @property
    def buckets(self) -> BucketLadder:
        """The shapes that were measured."""
        rungs = sorted(self.rows)
        return BucketLadder(
            decode=tuple(rung for rung in rungs if rung.is_decode),
            mixed=tuple(rung for rung in rungs if not rung.is_decode),
        )

    def save(self, path: str | Path) -> None:
        table = {"format": FORMAT} | {k: v for k, v in vars(self).items() if k != "rows"}
        table["rows"] = [[*bucket, asdict(row)] for bucket, row in sorted(self.rows.items())]
        Path(path).write_text(json.dumps(table, indent=1) + "\n")

    @classmethod
    def load(cls, path: str | Path) -> "FromTable":
        """Reads what `save` wrote.  Raises `ConfigError` if it is none."""
        try:
            table = json.loads(Path(path).read_text())
            if (found := table.pop("format")) != FORMAT:
                raise ConfigError(
                    f"{path} is a cost table of format {found}, not {FORMAT}; calibrate again"
                )
            rows = {Bucket(*shape): Row(**row) for *shape, row in table.pop("rows")}
            return cls(rows=rows, **table)
        except FileNotFoundError as error:
            raise ConfigError(
                f"there is no {path}; `jpaged calibrate` writes cost tables"
            ) from error
        except (OSError, ValueError, KeyError, TypeError) as error:
            if isinstance(error, ConfigError):
                raise
            raise ConfigError(
                f"{path} is no cost table ({error}); see `jpaged calibrate`"
            ) from error


def _scattered(spread: float, rng: Random) -> float:
    """A number around 1: its mean is 1, the deviation of its logarithm is the spread."""
    return math.exp(rng.gauss(-spread * spread / 2, spread)) if spread else 1.0
