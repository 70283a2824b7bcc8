"""The offline workloads.  No third-party imports: every engine's interpreter reads this file.

A request is {prompt: token ids, out: tokens to generate (end-of-sequence ignored), n: samples,
temperature}.  A workload has the same lengths and other tokens for every seed, so that no prefix
cache survives from one repetition to the next.
"""

import random

VOCAB = 32000
NAMES = ("w1", "w2", "w3", "w4", "w5")
ABOUT = {
    "w1": "uniform batch: 32 x 64 in x 64 out",
    "w2": "mixed lengths: 64 x 16-512 in, 8-256 out",
    "w3": "one stream: 128 in x 128 out",
    "w4": "shared prefix: 64 x (512 + 16) in x 16 out",
    "w5": "parallel sampling: 8 x 64 in x 64 out, n=8",
}


def workload(name: str, seed: int) -> list[dict]:
    """The requests of a workload.  Raises `KeyError` for an unknown name."""
    return {"w1": _uniform, "w2": _mixed, "w3": _stream, "w4": _prefix, "w5": _samples}[name](
        random.Random(f"{name}-{seed}")
    )


def _request(prompt: list[int], out: int, n: int = 1, temperature: float = 0.0) -> dict:
    return {"prompt": prompt, "out": out, "n": n, "temperature": temperature}


def _tokens(rng: random.Random, count: int) -> list[int]:
    return [rng.randrange(3, VOCAB - 1) for _ in range(count)]


def _uniform(rng: random.Random) -> list[dict]:
    return [_request(_tokens(rng, 64), 64) for _ in range(32)]


def _mixed(rng: random.Random) -> list[dict]:
    lengths = random.Random("w2-lengths")  # the same for every seed
    pairs = [(lengths.randint(16, 512), lengths.randint(8, 256)) for _ in range(64)]
    return [_request(_tokens(rng, inside), out) for inside, out in pairs]


def _stream(rng: random.Random) -> list[dict]:
    return [_request(_tokens(rng, 128), 128)]


def _prefix(rng: random.Random) -> list[dict]:
    prefix = _tokens(rng, 512)
    return [_request(prefix + _tokens(rng, 16), 16) for _ in range(64)]


def _samples(rng: random.Random) -> list[dict]:
    return [_request(_tokens(rng, 64), 64, n=8, temperature=1.0) for _ in range(8)]
