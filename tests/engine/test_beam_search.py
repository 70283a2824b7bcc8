"""Beam search in the engine: what transformers' `generate(num_beams=…)` finds, on shared pages."""

from typing import Any

import pytest
import torch
from engines import (
    a_llm,
    an_engine,
    first,
    greedily,
    last,
    num_held_pages,
    random_prompts,
    tokens_of,
)
from tiny import load_hf, save_tiny
from tiny_configs import CASES
from transformers import GenerationConfig

from jpaged import (
    LLM,
    BeamSearchOutput,
    BeamSearchParams,
    RequestRejected,
    SamplingParams,
)

FAMILIES = (
    "llama: grouped queries",
    "mistral: window",
    "qwen3: wide heads",
    "gpt2: plain",
    "opt: like 125m",
)
COUNT = 12
PROMPTS = random_prompts(503, 3, shortest=20, longest=30)
SETTINGS: dict[str, dict[str, Any]] = {
    "plain": {"beam_width": 4},
    "wide, favouring long": {"beam_width": 7, "length_penalty": 2.0},
    "short, at once": {"beam_width": 3, "length_penalty": -0.5, "early_stopping": True},
    "never": {"beam_width": 4, "length_penalty": 0.6, "early_stopping": "never"},
    "no penalty": {"beam_width": 2, "length_penalty": 0.0},
}


def theirs(model: Any, prompt: list[int], params: BeamSearchParams) -> tuple[list, list]:
    """All `beam_width` returned sequences (what was generated), and their scores."""
    ends = list(params.stop_token_ids or ())
    settings = GenerationConfig(
        num_beams=params.beam_width,
        num_return_sequences=params.beam_width,
        max_new_tokens=params.max_tokens,
        length_penalty=params.length_penalty,
        early_stopping=params.early_stopping,
        do_sample=False,
        eos_token_id=ends or None,
        pad_token_id=0,
        return_dict_in_generate=True,
        output_scores=True,
    )
    found = model.generate(
        torch.tensor([prompt]), settings, attention_mask=torch.ones(1, len(prompt))
    )
    generated = [row[len(prompt) :].tolist() for row in found.sequences]
    return [cut(row, ends) for row in generated], found.sequences_scores.tolist()


def cut(tokens: list[int], ends: list[int]) -> list[int]:
    """Without what pads behind the end."""
    at = [place for place, token in enumerate(tokens) if token in ends]
    return tokens[: at[0] + 1] if at else tokens


def ours(output: BeamSearchOutput, prompt: list[int]) -> tuple[list, list]:
    assert all(found.tokens[: len(prompt)] == prompt for found in output.sequences)
    generated = [found.tokens[len(prompt) :] for found in output.sequences]
    return generated, [found.score for found in output.sequences]


@pytest.fixture(scope="module", params=FAMILIES)
def both(request, tmp_path_factory) -> Any:
    folder = save_tiny(tmp_path_factory.mktemp("tiny"), CASES[request.param], seed=5)
    llm = a_llm(folder, skip_tokenizer_init=True, max_num_seqs=8, num_pages=256)
    yield llm, load_hf(folder)
    llm.close()


def likely_ends(model: Any, prompts: list[list[int]]) -> list[int]:
    """Tokens that beams do say, so that hypotheses finish at many lengths."""
    params = BeamSearchParams(beam_width=4, max_tokens=COUNT)
    said = [
        token for prompt in prompts for row in theirs(model, prompt, params)[0] for token in row
    ]
    return sorted(set(said), key=said.count)[-6:]


@pytest.mark.parametrize("setting", SETTINGS.values(), ids=SETTINGS)
def test_sequences_and_scores_are_those_of_transformers(both, setting):
    llm, model = both
    prompts = [[3 + (7 * i * i + k) % 120 for k in range(5 + 9 * i)] for i in range(4)]
    ends = likely_ends(model, prompts)
    params = BeamSearchParams(max_tokens=COUNT, stop_token_ids=ends, ignore_eos=True, **setting)

    outputs = llm.beam_search([{"prompt_token_ids": prompt} for prompt in prompts], params)

    lengths = set()
    for prompt, output in zip(prompts, outputs, strict=True):
        sequences, scores = theirs(model, prompt, params)
        mine, my_scores = ours(output, prompt)
        assert mine == sequences
        assert my_scores == pytest.approx(scores, abs=1e-4)
        lengths |= set(map(len, mine))
    favours_long = params.length_penalty > 1
    assert len(lengths) > 1 or favours_long, "nothing ended early: the setting proves little"
    assert num_held_pages(llm.llm_engine) == 0


# On one small Llama, whatever else happens in the engine


@pytest.fixture(scope="module")
def found_alone(tiny_llama) -> tuple[list[list[int]], BeamSearchParams, list[tuple[list, list]]]:
    """Prompts, a search, and what transformers finds."""
    model = load_hf(tiny_llama)
    prompts = random_prompts(500, 3, shortest=9, longest=14)
    params = BeamSearchParams(3, 10, ignore_eos=True, length_penalty=0.8)
    return prompts, params, [theirs(model, prompt, params) for prompt in prompts]


def assert_found(llm: LLM, found_alone: Any) -> None:
    prompts, params, expected = found_alone
    outputs = llm.beam_search(prompts, params)
    for prompt, output, (sequences, scores) in zip(prompts, outputs, expected, strict=True):
        mine, my_scores = ours(output, prompt)
        assert mine == sequences
        assert my_scores == pytest.approx(scores, abs=1e-4)
    assert num_held_pages(llm.llm_engine) == 0


@pytest.mark.parametrize(
    "options",
    [
        {"num_pages": 6, "max_model_len": 24},
        {"max_num_seqs": 3, "max_num_batched_tokens": 3},
        {"enable_prefix_caching": False, "num_pages": 9, "max_model_len": 24},
        {"async_scheduling": False},
        {"page_size": 16, "max_num_seqs": 9},
        {"page_size": 1, "num_pages": 60, "max_model_len": 24},
    ],
    ids=lambda options: " ".join(f"{k}={v}" for k, v in options.items()),
)
def test_beams_do_not_depend_on_pages_seats_or_preemptions(tiny_llama, found_alone, options):
    with a_llm(tiny_llama, warmup="none", **options) as llm:
        assert_found(llm, found_alone)
        num_preempted = sum(record.num_preempted for record in llm.llm_engine.records)
        # nine beams want in: they take turns
        assert num_preempted > 0 or options.get("max_num_seqs") == 9


def test_beams_and_ordinary_requests_share_steps(tiny_llama, found_alone):
    prompts, params, expected = found_alone
    others = random_prompts(501, 3)
    with a_llm(tiny_llama, max_num_seqs=8) as llm:
        alone = tokens_of(llm.generate(others, greedily(9), use_tqdm=False))
        engine = llm.llm_engine
        for number, (prompt, other) in enumerate(zip(prompts, others, strict=True)):
            engine.add_beam_search(f"beam {number}", prompt, params)
            engine.add_request(f"other {number}", other, greedily(9))

        outputs = last(engine)

        assert [first(outputs[f"other {i}"]).token_ids for i in range(3)] == alone
        for number, (sequences, _) in enumerate(expected):
            assert [each.token_ids for each in outputs[f"beam {number}"].outputs] == sequences
        assert max(record.num_sequences for record in engine.records) > 3 + 3


def test_beams_share_their_pages(tiny_llama):
    prompt = random_prompts(502, 1, shortest=40, longest=40)[0]
    with a_llm(tiny_llama, warmup="none") as llm:
        llm.beam_search([prompt], BeamSearchParams(4, 8, ignore_eos=True))
        records = [record for record in llm.llm_engine.records if record.num_sequences == 4]
    # ten pages of prompt, once; and at most two pages behind it for each of four beams
    assert max(record.pages_held for record in records) <= 10 + 4 * 2
    assert max(record.pages_unshared for record in records) == 4 * 12
    assert max(record.sharing for record in records) > 0.6


def test_a_temperature_divides_the_logits(tiny_llama, found_alone):
    prompts, params, _ = found_alone
    with a_llm(tiny_llama, warmup="none") as llm:
        [output] = llm.beam_search(prompts[:1], BeamSearchParams(2, 1, temperature=2.0))
        [plain] = llm.generate(prompts[:1], greedily(1, logprobs=20), use_tqdm=False)
        logits = torch.tensor(
            [entry.logprob for entry in (first(plain).logprobs or [{}])[0].values()]
        )
        tokens = list((first(plain).logprobs or [{}])[0])
    assert [found.tokens[-1] for found in output.sequences] == tokens[:2]
    gaps = [found.cum_logprob for found in output.sequences]
    assert gaps[0] - gaps[1] == pytest.approx(float(logits[0] - logits[1]) / 2, abs=1e-5)


def test_text_is_that_of_the_tokens_without_what_ended_them(tiny_llama):
    with a_llm(tiny_llama, warmup="none") as llm:
        [free] = llm.beam_search(["a story"], BeamSearchParams(2, 4, ignore_eos=True))
        end = free.sequences[0].tokens[-2]
        [output] = llm.beam_search(["a story"], BeamSearchParams(2, 4, stop_token_ids=[end]))
        decode = llm.get_tokenizer().decode
        prompt = llm.get_tokenizer().encode("a story")
    ended = [found for found in output.sequences if found.stop_reason == end]
    assert ended and all(found.finish_reason == "stop" for found in ended)
    for found in output.sequences:
        said = found.tokens[len(prompt) :]
        said = said[:-1] if found in ended else said
        assert found.text == decode(said, skip_special_tokens=True)
        assert len(found.logprobs) == len(found.tokens) - len(prompt)
        assert sum(next(iter(p.values())).logprob for p in found.logprobs) == pytest.approx(
            found.cum_logprob, abs=1e-4
        )


@pytest.mark.parametrize(
    ("params", "options", "message"),
    [
        (BeamSearchParams(5, 4), {}, r"beam_width=5 is over the engine's 4 seats \(max_num_seqs\)"),
        (
            BeamSearchParams(4, 4, stop_token_ids=list(range(20))),
            {},
            r"beam_width=4 ranks 24 candidates .* finds 20 \(max_logprobs\)",
        ),
        (BeamSearchParams(2, 4), {"max_model_len": 8}, "the prompt has 9 tokens"),
        (SamplingParams(), {}, "params must be BeamSearchParams, not SamplingParams"),
    ],
)
def test_a_bad_search_is_refused_and_harms_nobody(tiny_llama, params, options, message):
    engine = an_engine(tiny_llama, warmup="none", **options)
    engine.add_request("other", [5, 6, 7], greedily(4))
    engine.step()

    with pytest.raises(RequestRejected, match=message):
        engine.add_beam_search("bad", [5] * 9, params)

    assert engine.get_num_unfinished_requests() == 1
    assert len(first(last(engine)["other"]).token_ids) == 4
    engine.close()


def test_a_width_below_one_is_refused():
    with pytest.raises(RequestRejected, match="beam_width must be at least 1, not 0"):
        BeamSearchParams(0, 4)


def test_an_aborted_search_leaves_nothing_behind(tiny_llama, found_alone):
    prompts, params, _ = found_alone
    engine = an_engine(tiny_llama, warmup="none")
    engine.add_beam_search("search", prompts[0], params)
    for _ in range(5):
        engine.step()
    assert num_held_pages(engine) > 0

    engine.abort_request("search")

    assert num_held_pages(engine) == 0
    assert not engine.has_unfinished_requests()
    engine.close()


def test_one_prompt_at_a_time_finds_the_same(tiny_llama, found_alone):
    prompts, params, expected = found_alone
    with a_llm(tiny_llama, warmup="none") as llm:
        outputs = llm.beam_search(prompts, params, concurrency_limit=1)
    for prompt, output, (sequences, _) in zip(prompts, outputs, expected, strict=True):
        assert ours(output, prompt)[0] == sequences


@pytest.mark.parametrize("ahead", [False, True])
def test_a_search_is_not_slowed_by_company(tiny_llama, ahead):
    """Each of its steps waits for the one before, but for nobody else's."""
    engine = an_engine(tiny_llama, max_logprobs=20, warmup="none", async_scheduling=ahead)
    engine.add_request("company", PROMPTS[1], greedily(60, ignore_eos=True))
    engine.add_beam_search("beams", PROMPTS[0], BeamSearchParams(3, 12, ignore_eos=True))
    ended = None
    while ended is None:
        ended = next((o for o in engine.step() if o.request_id == "beams" and o.finished), None)
    assert engine.loop.num_steps <= 13
    engine.close()


def test_what_beams_compute_twice_is_counted(tiny_llama):
    """Against what they compute alone: whoever branches off a preempted beam computes all anew."""
    computed, recomputed = [], []
    for num_pages in (400, 24):
        engine = an_engine(
            tiny_llama,
            max_model_len=72,
            max_num_seqs=12,
            num_pages=num_pages,
            enable_prefix_caching=False,
            warmup="none",
        )
        for index in range(3):
            search = BeamSearchParams(4, 30, ignore_eos=True)
            engine.add_beam_search(str(index), PROMPTS[index], search)
        while engine.has_unfinished_requests():
            engine.step()
        counts = engine.stats().counts
        computed.append(counts.num_tokens)
        recomputed.append(counts.num_recomputed)
        engine.close()
    assert recomputed[0] == 0 < recomputed[1]
    assert computed[1] - recomputed[1] == pytest.approx(computed[0], rel=0.03)
