"""Small traces in each format: synthetic, seeded, written by `python trace_samples.py`.

Columns, units and spellings are those of the published files; the numbers are ours.
"""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random

FOLDER = Path(__file__).parent / "traces"
NUM_ROWS = 30


def times(rng: Random, rate: float = 2.0) -> list[float]:
    """Seconds at which requests arrive."""
    now, found = 0.0, []
    for _ in range(NUM_ROWS):
        now += rng.expovariate(rate)
        found.append(now)
    return found


def lengths(rng: Random) -> tuple[int, int]:
    return rng.randrange(1, 1500), rng.randrange(1, 400)


def azure_2023(rng: Random) -> str:
    """Seven decimals of a second and carriage returns, as the original has."""
    start, lines = datetime(2023, 11, 16, 18, 15, 46), ["TIMESTAMP,ContextTokens,GeneratedTokens"]
    for time in times(rng):
        prompt, output = lengths(rng)
        lines.append(f"{start + timedelta(seconds=time)}0,{prompt},{output}")
    return "\r\n".join([*lines, ""])


def azure_2024(rng: Random) -> str:
    """With the zone."""
    start = datetime(2024, 5, 10, 23, 59, 50, tzinfo=UTC)
    lines = ["TIMESTAMP,ContextTokens,GeneratedTokens"]
    for time in times(rng):
        prompt, output = lengths(rng)
        lines.append(f"{start + timedelta(seconds=time)},{prompt},{output}")
    return "\n".join([*lines, ""])


def burstgpt(rng: Random) -> str:
    """Every tenth request has failed: it has no response."""
    head = "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type"
    lines = [head]
    for index, time in enumerate(times(rng, 0.1)):
        prompt, output = lengths(rng)
        output = 0 if index % 10 == 9 else output
        model = rng.choice(["ChatGPT", "GPT-4"])
        log = rng.choice(["Conversation log", "API log"])
        lines.append(f"{int(time)},{model},{prompt},{output},{prompt + output},{log}")
    return "\n".join([*lines, ""])


def blocks(rng: Random, size: int, known: list[list[int]], fresh: int) -> tuple[list[int], int]:
    """Hash ids that go on from some that were there, and a length that the last one ends in."""
    before = rng.choice(known) if known and rng.random() < 0.7 else []
    ids = before[: rng.randrange(len(before))] if before else []  # the last is not whole
    ids += range(fresh, fresh + rng.randrange(1, 4))
    known.append(ids)
    return ids, (len(ids) - 1) * size + rng.randrange(1, size + 1)


def mooncake(rng: Random) -> str:
    lines, known, fresh = [], [], 0
    for time in times(rng):
        ids, length = blocks(rng, 512, known, fresh)
        fresh = max(fresh, *ids) + 1
        row = {"timestamp": int(1000 * time), "input_length": length}
        lines.append(json.dumps(row | {"output_length": rng.randrange(1, 400), "hash_ids": ids}))
    return "\n".join([*lines, ""])


def bailian(rng: Random) -> str:
    """Chats of several turns, as Alibaba's; what vLLM's timed_trace needs is among it."""
    lines, known, fresh = [], [], 0
    for index, time in enumerate(times(rng)):
        ids, length = blocks(rng, 16, known, fresh)
        fresh = max(fresh, *ids) + 1
        parent = rng.randrange(100, 100 + index) if index and rng.random() < 0.5 else -1
        row = {"chat_id": 100 + index, "parent_chat_id": parent, "timestamp": round(time, 3)}
        row |= {"input_length": length, "output_length": rng.randrange(1, 400), "type": "text"}
        lines.append(json.dumps(row | {"turn": 1 if parent < 0 else 2, "hash_ids": ids}))
    return "\n".join([*lines, ""])


SAMPLES = {
    "azure_2023.csv": azure_2023,
    "azure_2024.csv": azure_2024,
    "burstgpt.csv": burstgpt,
    "mooncake.jsonl": mooncake,
    "bailian.jsonl": bailian,
}


def sample(name: str) -> str:
    """The text of a sample file."""
    return SAMPLES[name](Random(name))


if __name__ == "__main__":
    for name in SAMPLES:
        (FOLDER / name).write_text(sample(name), newline="")
