"""Who descends from whom in beam search: recorded from the bundled model, drawn for simulations.

    python benchmarks/genealogies.py     # records anew; needs torch, a few minutes

How much memory beams share depends on when their common ancestors lived, and that is the model's
doing: if every beam chose its parent by lot, all would share everything but the last 2 (k - 1)
tokens or so, whereas real beams go on side by side for dozens.  So simulations replay what
transformers' probabilities of the bundled model made of ten prompts.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random

FILE = Path(__file__).with_suffix(".json")
WIDTHS = (2, 4, 6)
NUM_STEPS = 192
SETTLED = 64  # from this step on the beams are as closely related as they will ever be
PROMPTS = (
    "Once upon a time",
    "One rainy morning",
    "There was a little dog who",
    "The girl was sad because",
    "In a small village",
    "Tom and his sister found",
    "A long time ago a king",
    "My grandmother told me",
    "The cat sat by the window and",
    "On the way to school",
)


@dataclass(frozen=True)
class Genealogies:
    """Recorded beam searches of one width: for each step, which beam each beam descends from."""

    width: int
    searches: tuple[tuple[tuple[int, ...], ...], ...]

    @classmethod
    def load(cls, width: int, path: Path = FILE) -> "Genealogies":
        """Those of a width that was recorded.  Raises `KeyError` for another one."""
        recorded = json.loads(path.read_text())[str(width)]
        searches = (tuple(tuple(map(int, step)) for step in search) for search in recorded)
        return cls(width, tuple(searches))

    def draw(self, rng: Random) -> Iterator[tuple[int, ...]]:
        """The parents of step after step, for ever: a search from its start, then pieces of
        others from where they have settled."""
        yield from rng.choice(self.searches)
        while True:
            yield from rng.choice(self.searches)[SETTLED:]


def record(width: int) -> list[list[str]]:
    """Beam searches that never end a sequence; a step is a string of parents, "0012"."""
    import torch  # only to record: simulations run without
    from tqdm import tqdm
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from jpaged.weights.folder import find_folder

    folder = find_folder("demo")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    ends = model.generation_config.eos_token_id

    @torch.no_grad()
    def search(prompt: str) -> list[str]:
        ids = tokenizer(prompt, return_tensors="pt").input_ids
        output = model(ids.repeat(width, 1), use_cache=True)
        # all beams are the same at first, so only one of them may have descendants
        scores = torch.tensor([0.0] + [-torch.inf] * (width - 1))
        steps = []
        for _ in range(NUM_STEPS):
            logprobs = output.logits[:, -1].log_softmax(-1)
            logprobs[:, ends] = -torch.inf
            scores, places = (scores[:, None] + logprobs).flatten().topk(width)
            parents, tokens = places // logprobs.shape[1], places % logprobs.shape[1]
            cache = output.past_key_values
            cache.reorder_cache(parents)
            output = model(tokens[:, None], past_key_values=cache, use_cache=True)
            steps.append("".join(map(str, parents.tolist())))
        return steps

    return [search(prompt) for prompt in tqdm(PROMPTS, desc=f"{width} beams")]


def main() -> None:
    FILE.write_text(json.dumps({width: record(width) for width in WIDTHS}) + "\n")
    print(f"written to {FILE}")


if __name__ == "__main__":
    main()
