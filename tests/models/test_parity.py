"""Our models are those of transformers, to the rounding of float32, through pages and chunks."""

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")

import jax  # noqa: E402
from in_chunks import CHUNK, PAGE_SIZE, paged_logits  # noqa: E402
from tiny import greedy_of, load_hf, logits_of, save_tiny  # noqa: E402
from tiny_configs import CASES, LLAMA, MISTRAL, OPT, QWEN2  # noqa: E402

from jpaged import LLM, SamplingParams  # noqa: E402
from jpaged.models.loading import read_folder  # noqa: E402

TOLERANCE = 1e-4  # float32 sums of a few dozen terms of size 1-10, taken in another order
NUM_NEW = 32
# where seed 1 gives a near-tie, or a text of very few different tokens
SEEDS = {"gpt2: plain": 2, "opt: like 125m": 2, "opt: like 350m": 2}
HALF_CASES = [next(iter(family)) for family in (LLAMA, MISTRAL, QWEN2)] + [*OPT][:2]


@pytest.fixture(scope="module", autouse=True)
def quick_compilation_and_exact_products():
    """Most of the time here is LLVM's, and fast code is no use for two short prompts.  GPUs round
    the factors of float32 products unless told otherwise."""
    name = "jax_disable_most_optimizations"
    before = jax.config.read(name)
    jax.config.update(name, True)
    with jax.default_matmul_precision("highest"):
        yield
    jax.config.update(name, before)


def prompts_for(vocab: int) -> list[list[int]]:
    """Longer than every window, a page and a step; one that ends with its page, one that does
    not."""
    rng = np.random.default_rng(vocab)
    return [rng.integers(3, vocab, length).tolist() for length in (45, 10 * PAGE_SIZE)]


def jpaged_greedy(folder: Path, prompts: list[list[int]]) -> list[list[int]]:
    llm = LLM(
        str(folder),
        skip_tokenizer_init=True,
        page_size=PAGE_SIZE,
        num_pages=50,
        max_num_seqs=2,
        max_num_batched_tokens=16,
        warmup="none",  # of all the steps that could be, two are run
        use_tqdm_on_load=False,
    )
    params = SamplingParams(temperature=0, max_tokens=NUM_NEW, ignore_eos=True)
    outputs = llm.generate([{"prompt_token_ids": p} for p in prompts], params, use_tqdm=False)
    return [list(output.outputs[0].token_ids) for output in outputs]


@pytest.mark.parametrize("name", CASES)
def test_logits_and_greedy_tokens_equal_those_of_transformers(name: str, tmp_path: Path):
    folder = save_tiny(tmp_path, CASES[name], seed=SEEDS.get(name, 1))
    prompts = prompts_for(CASES[name].vocab_size)
    oracle = load_hf(folder)
    greedy, margins = zip(*(greedy_of(oracle, prompt, NUM_NEW) for prompt in prompts), strict=True)
    assert min(margins) > 5 * TOLERANCE, "a near-tie proves nothing: choose another seed"

    logits = paged_logits(folder, prompts[0])
    tokens = jpaged_greedy(folder, prompts)

    assert len(prompts[0]) > 2 * CHUNK
    np.testing.assert_allclose(logits, logits_of(oracle, prompts[0]), rtol=0, atol=TOLERANCE)
    assert tokens == list(greedy)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("name", HALF_CASES)
def test_half_precision_errs_no_more_than_transformers_does(name: str, dtype: str, tmp_path: Path):
    folder = save_tiny(tmp_path, CASES[name], seed=1, dtype=dtype)
    prompt = prompts_for(CASES[name].vocab_size)[0]
    # the same rounded weights, computed with in float32
    exact = logits_of(load_hf(folder), prompt).numpy()
    theirs = logits_of(load_hf(folder, dtype), prompt).numpy()

    ours = paged_logits(folder, prompt, "auto")

    assert read_folder(folder).dtype == dtype
    # both round at every layer, in different places: within a factor two they are equals
    assert np.abs(ours - exact).mean() < 2 * np.abs(theirs - exact).mean()
    assert np.abs(ours - exact).max() < 3 * np.abs(theirs - exact).max()
