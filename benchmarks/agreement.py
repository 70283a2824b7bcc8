"""Are jpaged's greedy tokens those of transformers in float32?

In bf16 the two likeliest tokens may change places by rounding.  A position where float32's first
two are closer than that rounding is a tie, and counts for nothing; the rounding is measured, as
the largest difference between transformers' own bf16 and float32 logits at that position.
"""

import json
import subprocess
import sys
from pathlib import Path

GREEDY = ("w1", "w3", "w4")
MOST_REQUESTS = 8  # of each workload


def check_greedy(python: str, model: str, tokens: dict[str, list[list[int]]]) -> dict:
    """{workload: {"positions", "ties", "wrong"}}; runs this file in transformers' interpreter."""
    chosen = {name: said[:MOST_REQUESTS] for name, said in tokens.items() if name in GREEDY}
    command = [python, str(Path(__file__)), model]
    done = subprocess.run(
        command, input=json.dumps(chosen), capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    import torch
    from transformers import AutoModelForCausalLM
    from workloads import workload

    def load(dtype):
        return AutoModelForCausalLM.from_pretrained(sys.argv[1], dtype=dtype).eval()

    wide, narrow = load(torch.float32), load(torch.bfloat16)
    counts = {}
    for name, said in json.loads(sys.stdin.read()).items():
        positions = ties = wrong = 0
        for request, tokens in zip(workload(name, 0), said, strict=False):
            ids = torch.tensor([request["prompt"] + tokens[:-1]])
            with torch.inference_mode():
                first = len(request["prompt"]) - 1
                exact, rounded = wide(ids).logits[0, first:], narrow(ids).logits[0, first:].float()
            top = exact.topk(2, dim=-1)
            rounding = (exact - rounded).abs().amax(dim=-1)
            is_tie = top.values[:, 0] - top.values[:, 1] < 2 * rounding
            is_wrong = (top.indices[:, 0] != torch.tensor(tokens)) & ~is_tie
            positions, ties = positions + len(tokens), ties + int(is_tie.sum())
            wrong += int(is_wrong.sum())
        counts[name] = {"positions": positions, "ties": ties, "wrong": wrong}
    print(json.dumps(counts))


if __name__ == "__main__":
    main()
