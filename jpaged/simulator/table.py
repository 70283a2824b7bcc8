"""Costs that were measured: a table of the compiled shapes, and what the cache adds to them.

    seconds = base(bucket) + token · num_tokens + read · num_read + pair · num_pairs + moved · pages

Shapes repeat, because a step is compiled for a few of them only: that is why a table can be exact
where a simulator of another engine has to guess.  `jpaged calibrate MODEL` writes one.
"""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

from jpaged.errors import ConfigError
from jpaged.scheduling.buckets import Bucket, BucketLadder
from jpaged.scheduling.cost import StepShape

FORMAT = 1


@dataclass(frozen=True)
class Row:
    """What was measured of one bucket, in seconds: `base` and `token` for each token that is no
    padding.  num_steps: how often; error: the median of the fit's relative errors."""

    base: float
    token: float
    num_steps: int = 0
    error: float = 0.0


@dataclass(frozen=True)
class FromTable:
    """A cost model from measurements; `of_model`, `machine` and `engine` (its options) say of what.

    rows: by bucket.  read, pair: seconds for a token read from the cache, and for a pair of query
    and key.  moved: for a page copied or swapped.
    """

    rows: dict[Bucket, Row]
    read: float = 0.0
    pair: float = 0.0
    moved: float = 0.0
    host_seconds: float = 0.0
    of_model: str = ""
    machine: str = ""
    engine: dict[str, int] = field(default_factory=dict)
    error: float = 0.0

    def seconds(self, shape: StepShape) -> float:
        """Raises `ConfigError` for a bucket that was not measured."""
        row = self.rows.get(shape.bucket) if shape.bucket is not None else None
        if row is None:
            raise ConfigError(
                f"the cost table of {self.of_model or 'this model'} has no bucket {shape.bucket}; "
                f"it was measured with {self.engine}: use the same options, or calibrate again"
            )
        rest = self.read * shape.num_read + self.pair * shape.num_pairs
        tokens = row.base + row.token * shape.num_tokens
        return max(0.0, tokens + rest + self.moved * shape.num_moved)

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
            if table.pop("format") != FORMAT:
                raise ConfigError(f"{path} is a cost table of another format; calibrate again")
            rows = {Bucket(*shape): Row(**row) for *shape, row in table.pop("rows")}
            return cls(rows=rows, **table)
        except (OSError, ValueError, KeyError, TypeError) as error:
            if isinstance(error, ConfigError):
                raise
            raise ConfigError(
                f"{path} is no cost table ({error}); see `jpaged calibrate`"
            ) from error
