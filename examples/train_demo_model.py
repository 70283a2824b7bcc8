"""Trains the demo model from nothing and writes it as a Hugging Face folder.

    python examples/train_demo_model.py --out jpaged/assets/demo

Generates the corpus, trains a tokenizer on it, trains a small Llama on two CPU cores in well
under an hour, and writes weights, tokenizer, configuration and model card. The first part of
the run reads windows of 256 tokens, the last part windows of 1024, so that every position up
to the model's limit has been trained. A finished model can be trained further:

    python examples/train_demo_model.py --start-from jpaged/assets/demo --out further
"""

import argparse
import shlex
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import jax
import numpy as np
from demo_corpus import make_short_exercise
from demo_training.card import write_card
from demo_training.data import HELD_OUT_SEEDS, PackedTokens, pack, texts
from demo_training.evaluation import rounded, sum_accuracy
from demo_training.export import export_folder, load_params
from demo_training.model import DemoConfig
from demo_training.tokenizer import train_tokenizer
from demo_training.trainer import TOKENS_PER_STEP, Progress, Trainer
from tokenizers import Tokenizer
from tqdm import tqdm

SHORT, LONG = 256, 1024
LONG_SHARE = 0.25
EXERCISE, EXERCISE_EVERY, EXERCISE_SHARE = 64, 3, 0.75
EVALUATE_EVERY = 200
SAVE_EVERY = 500


def parse_arguments() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description="Trains the demo model.")
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    parser.add_argument("--start-from", type=Path, help="folder whose weights to train further")
    bound = parser.add_mutually_exclusive_group()
    bound.add_argument("--minutes", type=float, default=30.0, help="train for so long")
    bound.add_argument("--steps", type=int, help="or for so many steps of 1024 tokens")
    parser.add_argument("--documents", type=int, default=80_000, help="to train on")
    parser.add_argument("--learning-rate", type=float, default=2e-3, help="at its peak")
    parser.add_argument(
        "--dtype", default="float32", help="of the computation; bfloat16 is slow on CPUs"
    )
    return parser.parse_args()


@dataclass(frozen=True)
class Corpus:
    """All there is to read, tokenized."""

    tokenizer: Tokenizer
    training: PackedTokens
    exercises: PackedTokens
    held_out: PackedTokens

    def windows(self, rng: np.random.Generator, step: int, share: float) -> np.ndarray:
        """Draws what a step reads: short windows, long ones at the end, exercises in between."""
        if share < EXERCISE_SHARE and step % EXERCISE_EVERY == 0:
            return self.exercises.windows(rng, TOKENS_PER_STEP // EXERCISE, EXERCISE)
        length = LONG if share > 1.0 - LONG_SHARE else SHORT
        return self.training.windows(rng, TOKENS_PER_STEP // length, length)


def prepare(num_documents: int, start_from: Path | None) -> Corpus:
    """Generates the corpus, and trains its tokenizer unless there is one already."""
    documents = texts(range(num_documents))
    if start_from is None:
        tokenizer = train_tokenizer(documents[:20_000], DemoConfig.vocab_size)
    else:
        tokenizer = Tokenizer.from_file(str(start_from / "tokenizer.json"))
    exercises = texts(range(num_documents // 4), make_short_exercise)
    held_out = texts(range(HELD_OUT_SEEDS, HELD_OUT_SEEDS + 2_000))
    packs = (pack(tokenizer, part) for part in (documents, exercises, held_out))
    return Corpus(tokenizer, *packs)


def train(trainer: Trainer, corpus: Corpus, progress: Progress, save: Callable[[], None]) -> int:
    """Runs the loop with a progress bar and returns the number of steps."""
    rng, step, recent, held_out_loss = np.random.default_rng(0), 0, [], float("nan")
    bar = tqdm(total=100.0, bar_format="{l_bar}{bar}| {elapsed}<{remaining} {postfix}")
    while (share := progress.share(step)) < 1.0:
        windows = corpus.windows(rng, step, share)
        recent = [*recent[-99:], trainer.train_on(windows, share)]
        step += 1
        if step % EVALUATE_EVERY == 0:
            held_out_loss = trainer.evaluate(corpus.held_out, 16, SHORT)
        if step % SAVE_EVERY == 0:
            save()
        if step % 10 == 0:
            bar.update(100 * share - bar.n)
            bar.set_postfix_str(
                f"step {step} train {np.mean(recent):.4f} held-out {held_out_loss:.4f}"
            )
    bar.close()
    return step


def main() -> None:
    """Corpus, tokenizer, training, folder, card."""
    arguments, began, config = parse_arguments(), time.monotonic(), DemoConfig()
    corpus = prepare(arguments.documents, arguments.start_from)
    print(f"{len(corpus.training.tokens):,} tokens, prepared in {time.monotonic() - began:.0f} s")

    trainer = Trainer(config, arguments.dtype, arguments.learning_rate)
    if arguments.start_from is not None:
        trainer.params = load_params(arguments.start_from, trainer.params)

    def save() -> None:
        export_folder(arguments.out, trainer.params, config, corpus.tokenizer)

    progress = Progress(arguments.minutes, arguments.steps)
    steps = train(trainer, corpus, progress, save)
    trainer.params = rounded(trainer.params)
    save()
    facts = {
        "command": shlex.join(["python", *sys.argv]),
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(trainer.params)),
        "documents": arguments.documents,
        "corpus_tokens": len(corpus.training.tokens),
        "steps": steps,
        "seen_tokens": steps * TOKENS_PER_STEP,
        "minutes": (time.monotonic() - began) / 60,
        "train_loss": trainer.evaluate(corpus.training, 64, LONG),
        "held_out_loss": trainer.evaluate(corpus.held_out, 64, LONG),
        "sum_accuracy": sum_accuracy(trainer.graph, trainer.params, corpus.tokenizer),
    }
    write_card(arguments.out, config, facts)
    print(facts)


if __name__ == "__main__":
    main()
