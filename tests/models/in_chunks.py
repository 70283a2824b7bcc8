"""Runs a model as the runner does, but with every logit in view: chunk after chunk, through
pages that lie anywhere in a pool full of rubbish."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from jpaged.layers.paged import KVPages, PageTable
from jpaged.models.loading import load_params, read_folder
from jpaged.weights.functional import merge

PAGE_SIZE, NUM_PAGES, CHUNK = 4, 40, 16


def paged_logits(folder: Path, tokens: list[int], dtype: str = "auto") -> np.ndarray:
    """[T, V] in float32, `CHUNK` tokens a step: only the cache joins one chunk to the next."""
    model = read_folder(folder, dtype)
    params = load_params(folder, model)
    rng = np.random.default_rng(0)
    pages = rng.permutation(NUM_PAGES)[: -(-len(tokens) // PAGE_SIZE)]
    kv_pages = tuple(_rubbish(spec, model.dtype, rng) for spec in model.kv_spec)

    @jax.jit
    def run(params, kv_pages, tokens, table):
        module = merge(model.graph, params)
        hidden, kv_pages = module(tokens, table, kv_pages)
        return module.logits(hidden).astype(jnp.float32), kv_pages

    found = []
    for start in range(0, len(tokens), CHUNK):
        chunk = tokens[start : start + CHUNK]
        padded = np.array(chunk + [0] * (CHUNK - len(chunk)), np.int32)
        logits, kv_pages = run(params, kv_pages, padded, _table(start, len(chunk), pages))
        found.append(logits[: len(chunk)])
    return np.concatenate(found)


def _rubbish(spec, dtype, rng: np.random.Generator) -> KVPages:
    """A layer's cache as other sequences left it: whoever reads what it did not write is found
    out."""
    empty = KVPages.zeros(spec, NUM_PAGES, PAGE_SIZE, dtype)
    return KVPages(*(jnp.asarray(rng.normal(0, 9, each.shape), dtype) for each in empty))


def _table(start: int, count: int, pages: np.ndarray) -> PageTable:
    """One sequence and an empty second row; tokens beyond `count` are padding."""
    positions = np.zeros(CHUNK, np.int32)
    positions[:count] = np.arange(start, start + count)
    slots = np.full(CHUNK, NUM_PAGES * PAGE_SIZE, np.int32)
    mine = positions[:count]
    slots[:count] = pages[mine // PAGE_SIZE] * PAGE_SIZE + mine % PAGE_SIZE
    rows = np.zeros((2, len(pages)), np.int32)
    rows[0] = pages
    fields = (positions, slots, np.array([0, count, count]), rows, np.array([start + count, 0]))
    return PageTable(*(jnp.asarray(field, jnp.int32) for field in fields), placed={})
