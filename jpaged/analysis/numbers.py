"""Numbers for people, and what the measures of a summary are in words."""

from math import isfinite, isnan

from jpaged.simulator.measures import is_more_better

SUMMARY = {
    "num_requests": ("sequences that ended", ""),
    "num_refused": ("requests refused", ""),
    "seconds": ("from the first arrival to the last token", "s"),
    "requests_per_second": ("sequences finished", "/s"),
    "tokens_per_second": ("tokens said", "/s"),
    "goodput": ("sequences that kept all promises", "/s"),
    "num_preemptions": ("preemptions", ""),
    "recompute_tax": ("computed tokens that were computed before", "%"),
    "hit_rate": ("prompt tokens found in the cache", "%"),
    "padding": ("token slots of steps that were empty", "%"),
}
NAMES = {
    "ttft": "time to first token",
    "tpot": "time per output token",
    "latency": "end to end",
    "max_gap": "longest wait for a token",
}


def number(value: float, unit: str) -> str:
    """Three digits and a unit.  Shares are given from 0 to 1, times in seconds."""
    if isnan(value):
        return "–"
    if unit == "%":
        return f"{100 * value:.1f} %"
    if unit == "s" and 0 < abs(value) < 1:
        return f"{_digits(1e3 * value)} ms" if abs(value) >= 1e-3 else f"{_digits(1e6 * value)} µs"
    is_count = value == 0 or (value == int(value) and unit == "") or abs(value) >= 1000
    return f"{f'{value:,.0f}' if is_count else _digits(value)} {unit}".strip()


def _digits(value: float) -> str:
    """Three of them, zeros at the end included."""
    return f"{value:#.3g}".removesuffix(".") if abs(value) < 999.5 else f"{value:,.0f}"


def change(share: float, error: float | None = None) -> str:
    """`−3.2 % ± 1.1 %`; the error is left out where it is not known."""
    if not isfinite(share):
        return "–"
    if share == error == 0:
        return "the same"
    text = f"{100 * share:+,.1f} %".replace("-", "−")
    text = text[1:] if text[1:] == "0.0 %" else text  # no sign to nothing
    return text if error is None or isnan(error) else f"{text} ± {100 * error:,.1f} %"


def words_of(measure: str) -> tuple[str, str]:
    """What a measure is, and its unit."""
    measure, is_of_one, client = measure.partition("@")
    name, _, quantile = measure.partition("_")
    text, unit = SUMMARY.get(measure) or (f"{NAMES[name]}, {quantile}", "s")
    return f"{text}, of {client}" if is_of_one else text, unit


def better(measure: str) -> str:
    return "more is better" if is_more_better(measure) else "less is better"
