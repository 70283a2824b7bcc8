"""Requests as they came in somewhere: traces that are public.

    azure        TIMESTAMP, ContextTokens, GeneratedTokens                     CSV, dates
    burstgpt     Timestamp, Request tokens, Response tokens, …                 CSV, seconds
    mooncake     timestamp, input_length, output_length, hash_ids of 512       JSONL, milliseconds
    timed_trace  timestamp, input_length, output_length, hash_ids of 16        JSONL, seconds

azure: of 2023 and 2024, github.com/Azure/AzurePublicDataset; Patel et al., "Splitwise", ISCA 2024,
and Stojkovic et al., "DynamoLLM", HPCA 2025.  burstgpt: github.com/HPMLL/BurstGPT; Wang et al.,
"BurstGPT: A Real-World Workload Dataset to Optimize LLM Serving Systems", KDD 2025.  mooncake:
github.com/kvcache-ai/Mooncake, FAST25-release; Qin et al., "Mooncake", FAST 2025.  timed_trace:
what `vllm bench serve --dataset-name timed_trace` reads (vllm-project/vllm, pull request 39795),
Alibaba's github.com/alibaba-edu/qwen-bailian-usagetraces-anon among them; Wang et al., "KVCache
Cache in the Wild", ATC 2025.

Nobody publishes prompts.  Where there are hash ids, equal ones become equal tokens, so a prefix
cache finds what it found there; where there are none, no two prompts have anything in common.
"""

from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import chain, islice
from pathlib import Path
from typing import Literal, NoReturn, Unpack

from jpaged.errors import ConfigError
from jpaged.scheduling.terms import NO_TERMS
from jpaged.simulator.workload.laws import check_counts, check_positive
from jpaged.simulator.workload.request import Asked, TimedRequest, source_of
from jpaged.simulator.workload.tokens import Blocks, Passage, Tokens
from jpaged.simulator.workload.trace_files import Line, read_lines


@dataclass(frozen=True)
class Entry:
    """A request of a trace; time in seconds from anywhere."""

    line: Line
    time: float
    num_prompt: int
    num_output: int
    ids: list[int] | None = None
    session: str = ""


@dataclass(frozen=True)
class Kind:
    """A kind of trace: the columns it is known by, and how a line is read.

    block_size: tokens of a hash id; 0 if there are none.
    """

    columns: tuple[str, ...]
    read: Callable[[Line], Entry | None]
    block_size: int = 0


def from_trace(
    path: str | Path,
    *,
    kind: str | None = None,
    limit: int | None = None,
    speedup: float = 1.0,
    max_len: int | None = None,
    too_long: Literal["refuse", "skip", "cut"] = "refuse",
    block_size: int | None = None,
    seed: int = 0,
    **asked: Unpack[Asked],
) -> list[TimedRequest]:
    """The requests of a trace, the first at time 0; their names are the lines they stand in.

    kind: of those above; None recognises it.  limit: only the first so many.  speedup: 2 is twice
    the rate; all gaps shrink alike, so bursts stay bursts.  max_len: tokens of prompt and output;
    requests that have more are refused, skipped, or cut: the output first to less than max_len,
    then the prompt, at its end.  block_size: tokens of a hash id, if not the kind's.

    Raises `ConfigError`, naming file and line, for what is not understood.  BurstGPT's failed
    requests, which have no response, are left out.
    """
    check_positive(speedup=speedup)
    given = {"limit": limit, "max_len": max_len, "block_size": block_size}
    check_counts(**{name: value for name, value in given.items() if value is not None})
    if max_len == 1:
        raise ConfigError("max_len=1: a prompt and an output have a token each, so 2 is the least")
    if too_long not in ("refuse", "skip", "cut"):
        raise ConfigError(f"too_long is refuse, skip or cut, not {too_long!r}")
    path = Path(path).expanduser()
    found, lines = _recognise(path, kind)
    size = block_size or found.block_size
    entries = _shortened(_in_order(found, lines, size), max_len, too_long)
    source = f"{source_of(seed, asked)}/{path.name}"
    workload, start = [], None
    for entry in islice(entries, limit):
        start = entry.time if start is None else start
        arrival = (entry.time - start) / speedup
        workload.append(_request(entry, arrival, source, size, asked))
    if not workload:
        raise ConfigError(f"{path}: no request is left (max_len={max_len}, too_long={too_long!r})")
    return workload


def _request(entry: Entry, arrival: float, source: str, size: int, asked: Asked) -> TimedRequest:
    number = entry.line.number
    prompt: Tokens = Passage(source, number, entry.num_prompt)
    if entry.ids is not None:
        needed = -(-entry.num_prompt // size)  # a prompt that was cut needs fewer
        prompt = Blocks(source, array("Q", entry.ids[:needed]), size, entry.num_prompt)
    if entry.session:
        terms = replace(asked.get("terms", NO_TERMS), session=entry.session)
        asked = {**asked, "terms": terms}
    return TimedRequest(str(number), arrival, prompt, entry.num_output, **asked)


def _hashed(unit: float, block_size: int) -> Kind:
    def read(line: Line) -> Entry:
        return Entry(
            line,
            line.seconds("timestamp") * unit,
            line.count("input_length"),
            line.count("output_length"),
            line.ids("hash_ids"),
        )

    columns = ("timestamp", "input_length", "output_length", "hash_ids")
    return Kind(columns, read, block_size)


def _azure(line: Line) -> Entry:
    num_prompt, num_output = line.count("ContextTokens"), line.count("GeneratedTokens")
    return Entry(line, line.date("TIMESTAMP"), num_prompt, num_output)


def _burstgpt(line: Line) -> Entry | None:
    num_output = line.count("Response tokens", least=0)
    if num_output == 0:  # how it marks failures
        return None
    time, num_prompt = line.seconds("Timestamp"), line.count("Request tokens")
    return Entry(line, time, num_prompt, num_output, session=line.values.get("Session ID") or "")


KINDS = {
    "azure": Kind(("TIMESTAMP", "ContextTokens", "GeneratedTokens"), _azure),
    "burstgpt": Kind(("Timestamp", "Request tokens", "Response tokens"), _burstgpt),
    "mooncake": _hashed(unit=1e-3, block_size=512),
    "timed_trace": _hashed(unit=1.0, block_size=16),
}


def _recognise(path: Path, name: str | None) -> tuple[Kind, Iterator[Line]]:
    """The kind, and all lines: as many are looked at as leave more than one possible."""
    if name is not None and name not in KINDS:
        raise ConfigError(f"no kind of trace is named {name!r}; there are {', '.join(KINDS)}")
    lines, seen = read_lines(path), []
    possible = list(KINDS) if name is None else [name]
    for line in lines:
        seen.append(line)
        if not (possible := [each for each in possible if _is_of(line, KINDS[each], name)]):
            _fail_unknown(line, name)
        if len(possible) == 1:
            return KINDS[possible[0]], chain(seen, lines)
    raise ConfigError(
        f"{path}: every line may be of {' or '.join(possible)}; say kind= and block_size="
    )


def _is_of(line: Line, kind: Kind, name: str | None) -> bool:
    if not line.values.keys() >= set(kind.columns):
        return False
    if name is not None or not kind.block_size:
        return True
    entry = kind.read(line)
    return entry is not None and _fits(entry, kind.block_size)


def _fail_unknown(line: Line, name: str | None) -> NoReturn:
    tried = KINDS if name is None else {name: KINDS[name]}
    lacking = {
        each: [column for column in kind.columns if column not in line.values]
        for each, kind in tried.items()
    }
    if not all(lacking.values()):
        line.fail(
            f"{line.count('input_length')} tokens in {len(line.ids('hash_ids'))} hash_ids are "
            "blocks of neither 512 (mooncake) nor 16 tokens (timed_trace); say kind= and "
            "block_size="
        )
    says = "; ".join(f"{each} lacks {', '.join(columns)}" for each, columns in lacking.items())
    line.fail(f"{', '.join(map(str, line.values))} are no columns of a known trace: {says}")


def _fits(entry: Entry, block_size: int) -> bool:
    """Whether that many tokens are in that many blocks."""
    return entry.ids is None or len(entry.ids) == -(-entry.num_prompt // block_size)


def _in_order(kind: Kind, lines: Iterator[Line], size: int) -> Iterator[Entry]:
    latest, roots = -float("inf"), dict[str, str]()
    for line in lines:
        entry = kind.read(line)
        if entry is None:
            continue
        if entry.time < latest:
            line.fail("it came before the line above it; sort the file by time")
        if entry.ids is not None and not _fits(entry, size):
            line.fail(
                f"{len(entry.ids)} hash_ids of {size} tokens are not a prompt of "
                f"{entry.num_prompt}; say block_size="
            )
        latest = entry.time
        yield _in_session(entry, roots)


def _in_session(entry: Entry, roots: dict[str, str]) -> Entry:
    """Where a line names the chat that it continues, the session is their first."""
    chat, parent = (str(entry.line.values.get(name)) for name in ("chat_id", "parent_chat_id"))
    if chat == "None":
        return entry
    roots[chat] = roots.get(parent, chat)
    return replace(entry, session=roots[chat])


def _shortened(entries: Iterator[Entry], max_len: int | None, too_long: str) -> Iterator[Entry]:
    for entry in entries:
        total = entry.num_prompt + entry.num_output
        if max_len is None or total <= max_len:
            yield entry
        elif too_long == "refuse":
            entry.line.fail(
                f"{total} tokens ({entry.num_prompt} prompt + {entry.num_output} output), the most "
                f"is {max_len} (max_len, or the engine's max_model_len); raise it (from a shell, "
                f"--option max_model_len=…), or say too_long=skip or cut"
            )
        elif too_long == "cut":
            num_output = min(entry.num_output, max(1, max_len - 1))
            yield replace(entry, num_prompt=max_len - num_output, num_output=num_output)
