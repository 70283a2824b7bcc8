"""What the finished model can do: measured on the weights as they are saved."""

from random import Random

import jax
import jax.numpy as jnp
import numpy as np
from demo_corpus.sums import sum_question
from flax import nnx
from tokenizers import Tokenizer

from demo_training.tokenizer import END_OF_TURN, PADDING, render

LENGTH = 96


def rounded(params: nnx.State) -> nnx.State:
    """The parameters after a trip through bfloat16, the type they are saved in."""
    return jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16).astype(leaf.dtype), params)


def sum_accuracy(graph: nnx.GraphDef, params: nnx.State, tokenizer: Tokenizer) -> float:
    """The share of held-out sum questions that the model answers right, to the last token.

    When every token of the right answer is the most likely one after those before it, greedy
    decoding writes exactly that answer.
    """
    rng = Random("held-out sums")
    rows = [encode_question(*sum_question(rng), tokenizer) for _ in range(500)]
    tokens = np.array([row for row, _ in rows], np.int32)
    is_answer = np.array([mask for _, mask in rows])
    logits = jax.jit(lambda params, tokens: nnx.merge(graph, params)(tokens))(params, tokens)
    right = np.asarray(logits[:, :-1].argmax(-1)) == tokens[:, 1:]
    return float((right | ~is_answer[:, 1:]).all(-1).mean())


def encode_question(
    question: str, answer: str, tokenizer: Tokenizer
) -> tuple[list[int], list[bool]]:
    """Tokens of a chat, padded to `LENGTH`, and which of them are the answer."""
    asked = tokenizer.encode(render([{"role": "user", "content": question}]) + "<|assistant|>").ids
    answered = tokenizer.encode(answer + END_OF_TURN).ids
    padding = tokenizer.encode(PADDING).ids * (LENGTH - len(asked) - len(answered))
    is_answer = [False] * len(asked) + [True] * len(answered) + [False] * len(padding)
    return asked + answered + padding, is_answer
