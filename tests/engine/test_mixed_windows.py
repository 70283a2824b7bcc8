"""Models of which some layers see everything and others a window: these keep fewer pages."""

from pathlib import Path
from typing import Any

import jax
import pytest
from engines import a_llm, greedily, num_held_pages, random_prompts, tokens_of
from tiny import greedy_of, load_hf, save_tiny
from tiny_configs import CASES

from jpaged import LLM, BeamSearchParams, LLMEngine, SamplingParams

WINDOWS = {"qwen2: window from a layer on": 5, "qwen2: window in named layers": 9}
COUNT = 60


@pytest.fixture(scope="module", params=WINDOWS)
def model(request, tmp_path_factory) -> tuple[Path, int]:
    folder = save_tiny(tmp_path_factory.mktemp("mixed"), CASES[request.param], seed=3)
    return folder, WINDOWS[request.param]


@pytest.fixture(scope="module")
def oracle(model) -> tuple[list[list[int]], list[list[int]]]:
    """Prompts much longer than the window, and what transformers says."""
    hf = load_hf(model[0])
    prompts = [[token % 128 for token in prompt] for prompt in random_prompts(811, 4, 20, 60)]
    theirs, margins = zip(*(greedy_of(hf, prompt, COUNT) for prompt in prompts), strict=True)
    assert min(margins) > 1e-4, "a near-tie proves nothing: choose another seed"
    return prompts, list(theirs)


def an_llm(folder: Path, **options: Any) -> LLM:
    sizes = {"max_model_len": 128, "max_num_seqs": 4, "max_num_batched_tokens": 32}
    sizes |= {"page_size": 4, "num_pages": 128, "skip_tokenizer_init": True, "warmup": "none"}
    return a_llm(folder, **{**sizes, **options})


def test_the_layers_with_a_window_have_a_smaller_cache(model):
    folder, window = model
    with an_llm(folder) as llm:
        engine = llm.llm_engine
        # what every seat looks at, as much for the prefix cache, and a step's tokens
        num_places = 2 * 4 * ((window + 1) // 4 + 2) + 32 // 4
        assert engine.sizes.windows == ((window, num_places),)
        num_pages = {spec.window: kv.k.shape[0] for spec, kv in layers(engine)}
        assert num_pages == {None: 128, window: num_places}
        allocated = sum(leaf.nbytes for leaf in jax.tree.leaves(engine.executor.kv_pages))
        assert allocated == engine.sizes.cache_bytes == engine.memory_report().kv_pages


def test_the_same_memory_holds_more_pages(model):
    folder, _ = model
    room = {"num_pages": None, "kv_cache_memory_bytes": 400_000}
    sizes = []
    for max_num_seqs in (2, 4, 100):  # that many seats may look at all there is
        with an_llm(folder, max_num_seqs=max_num_seqs, max_num_batched_tokens=100, **room) as llm:
            sizes.append(llm.llm_engine.sizes)
    assert all(350_000 < each.cache_bytes <= 400_000 for each in sizes)
    assert sizes[0].num_pages > sizes[1].num_pages > sizes[2].num_pages
    assert sizes[2].windows == ()


def layers(engine: LLMEngine):
    return zip(engine.model.kv_spec, engine.executor.kv_pages, strict=True)


@pytest.mark.parametrize("options", [{}, {"page_size": 1, "num_pages": 512}, {"max_num_seqs": 2}])
def test_tokens_are_those_of_transformers(model, oracle, options):
    prompts, theirs = oracle
    with an_llm(model[0], **options) as llm:
        assert tokens_of(llm.generate(prompts, greedily(COUNT), use_tqdm=False)) == theirs
        report = llm.llm_engine.page_report()
        assert num_held_pages(llm.llm_engine) == report.windows[0].looked_at == 0
        assert report.windows[0].num_places < report.num_pages


def test_places_are_given_back_while_pages_are_kept(model, oracle):
    prompts, _ = oracle
    folder, window = model
    with an_llm(folder) as llm:
        engine, prompt = llm.llm_engine, max(prompts, key=len)
        engine.add_request("long", prompt, greedily(COUNT))
        seen, held = [], []
        while engine.has_unfinished_requests():
            engine.step()
            report = engine.page_report()
            seen.append(report.windows[0].looked_at)
            held.append(report.held)
        assert max(held) >= (len(prompt) + COUNT - 1) // 4
        assert max(seen[2:-1]) <= (window + 2) // 4 + 2  # once the prompt's chunks are over
        assert f"layers that see {window} tokens" in str(report)


@pytest.mark.parametrize("num_host_pages", [None, 90])
def test_preempted_sequences_come_back_right(model, oracle, num_host_pages):
    prompts, theirs = oracle
    options = {"num_pages": 40, "max_num_seqs": 3, "num_host_pages": num_host_pages}
    with an_llm(model[0], **options) as llm:
        assert tokens_of(llm.generate(prompts, greedily(COUNT), use_tqdm=False)) == theirs
        counts = llm.llm_engine.stats().counts
        assert llm.llm_engine.sizes.windows
    assert counts.num_preemptions > 0
    assert (counts.num_pages_swapped_in > 0) == (num_host_pages is not None)


def test_a_prefix_is_found_where_its_places_are_still_there(model, oracle):
    prompts, theirs = oracle
    with an_llm(model[0]) as llm:
        for _ in range(2):
            outputs = [llm.generate([p], greedily(COUNT), use_tqdm=False)[0] for p in prompts]
            assert tokens_of(outputs) == theirs
        [again] = llm.generate(prompts[-1:], greedily(COUNT), use_tqdm=False)
        assert tokens_of([again]) == theirs[-1:]
        # what it said is the latest in the cache; its prompt's places had to go, or were found
        conversation = prompts[-1] + theirs[-1]
        [longer] = llm.generate([conversation], greedily(5), use_tqdm=False)
        assert longer.num_cached_tokens is not None
        assert longer.num_cached_tokens >= len(conversation) - 5


def test_samples_and_beams_share_what_they_still_look_at(model, oracle):
    prompts, _ = oracle
    params = SamplingParams(n=3, seed=4, max_tokens=40, ignore_eos=True)
    search = BeamSearchParams(beam_width=3, max_tokens=30, ignore_eos=True)
    found = []
    plain = {"max_num_seqs": 100, "max_num_batched_tokens": 400}  # a place for every page
    for options in (plain, {}, {"enable_prefix_caching": False, "page_size": 1, "num_pages": 500}):
        with an_llm(model[0], **options) as llm:
            assert bool(llm.llm_engine.sizes.windows) == (options is not plain)
            outputs = llm.generate(prompts, params, use_tqdm=False)
            beams = llm.beam_search(prompts, search, use_tqdm=False)
            found.append(
                (
                    [[sample.token_ids for sample in output.outputs] for output in outputs],
                    [[beam.tokens for beam in output.sequences] for output in beams],
                )
            )
    assert found[0] == found[1] == found[2]


def test_a_snapshot_goes_on_elsewhere(model, oracle, tmp_path):
    prompts, theirs = oracle
    with an_llm(model[0], num_pages=40, max_num_seqs=3, num_host_pages=90) as llm:
        engine = llm.llm_engine
        for index, prompt in enumerate(prompts):
            engine.add_request(str(index), prompt, greedily(COUNT))
        while not engine.stats().counts.num_swapped_out:
            engine.step()
        engine.snapshot().save(tmp_path / "moment")
        with engine.branch() as twin:
            assert ended(twin) == theirs
    with LLMEngine.resume(tmp_path / "moment", use_tqdm_on_load=False) as other:
        assert other.sizes.windows
        assert ended(other) == theirs


def ended(engine: LLMEngine) -> list[list[int]]:
    said = {}
    while engine.has_unfinished_requests():
        said |= {output.request_id: output for output in engine.step() if output.finished}
    return tokens_of(said[name] for name in sorted(said))
