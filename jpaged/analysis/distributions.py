"""How long requests took: quantiles, and points of the curve of which share took no longer."""

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any

from jpaged.scheduling.events import RequestRecord
from jpaged.simulator.result import QUANTILES

MOST_POINTS = 400  # of a curve


def finished(ended: Iterable[RequestRecord]) -> list[RequestRecord]:
    """Those that were not aborted: they count in a summary, as in `Result.summary`."""
    return [record for record in ended if record.finish_reason != "abort"]


def values_of(name: str, records: Iterable[RequestRecord]) -> list[float]:
    """Of those that have one, in order of size."""
    values = [getattr(record, name) for record in records]
    return sorted(value for value in values if value is not None)


def gaps(records: Iterable[RequestRecord]) -> list[float]:
    """Seconds between a token and the next one, of all sequences whose times were kept."""
    times = [record.token_times for record in records]
    return sorted(after - before for each in times for before, after in pairwise(each))


def distributions(ended: Iterable[RequestRecord]) -> dict[str, Any]:
    """Of the times that are known of any; see `distribution`."""
    records = finished(ended)
    values = {name: values_of(name, records) for name in ("ttft", "tpot")}
    values |= {"gap": gaps(records), "latency": values_of("latency", records)}
    return {name: distribution(each) for name, each in values.items() if each}


def distribution(values: Sequence[float]) -> dict[str, Any]:
    """Of sorted values: how many, their quantiles, and points of the curve."""
    last = len(values) - 1
    num_points = min(MOST_POINTS, len(values))
    shares = [index / max(1, num_points - 1) for index in range(num_points)]
    return {
        "count": len(values),
        "quantiles": {name: quantile(values, share) for name, share in QUANTILES.items()},
        "points": [[values[round(share * last)], share] for share in shares],
    }


def quantile(values: Sequence[float], share: float) -> float:
    """Of sorted values; between two of them it is interpolated."""
    at = share * (len(values) - 1)
    below = int(at)
    above = min(below + 1, len(values) - 1)
    return values[below] + (at - below) * (values[above] - values[below])
