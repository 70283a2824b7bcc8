"""Beam search's decisions, against Hugging Face transformers' `generate(num_beams=…)`.

Both sides see the same logits bit for bit: ours calls the model on the same rows.  So sequences,
scores and the number of steps must be equal, not close.
"""

import copy
import itertools
import pickle
import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from tiny import random_model
from transformers import (
    GenerationConfig,
    GenerationMixin,
    LlamaConfig,
    PretrainedConfig,
    PreTrainedModel,
)
from transformers.generation import GenerationMode

from jpaged import BeamSearchParams
from jpaged.engine.beams import Beams, Continuation, Hypothesis, num_candidates

PROMPT = [3, 8, 5]
EARLY_STOPPING = (True, False, "never")


class TableModel(PreTrainedModel, GenerationMixin):
    """Pretends to be a language model: the prefix picks a row of a table of logits."""

    config_class = PretrainedConfig
    main_input_name = "input_ids"

    def __init__(self, table: torch.Tensor):
        super().__init__(PretrainedConfig(is_decoder=True, vocab_size=table.shape[1]))
        self.table = table
        self.anchor = torch.nn.Parameter(torch.zeros(1))  # says which device and dtype

    def forward(self, input_ids: torch.Tensor, **ignored: object) -> Any:
        length = input_ids.shape[1]
        weights = torch.tensor([7 * place * place + 3 for place in range(length)])
        rows = (input_ids * weights).sum(1) % len(self.table)
        return SimpleNamespace(logits=self.table[rows][:, None])

    def prepare_inputs_for_generation(self, input_ids: torch.Tensor, **ignored: object) -> dict:  # pyright: ignore[reportIncompatibleMethodOverride]
        return {"input_ids": input_ids}

    def _update_model_kwargs_for_generation(self, outputs, model_kwargs, **ignored) -> dict:
        return model_kwargs


def a_table_model(
    vocab: int, seed: int, eos: tuple[int, ...] = (), bias: float = 0.0, num_rows: int = 97
) -> TableModel:
    table = 1.5 * torch.randn((num_rows, vocab), generator=torch.Generator().manual_seed(seed))
    table[:, list(eos)] += bias
    return TableModel(table).eval()


def a_llama(vocab: int, seed: int, eos: tuple[int, ...] = (), bias: float = 0.0) -> Any:
    """A random Llama whose head likes the end-of-sequence tokens by `bias`."""
    config = LlamaConfig(
        vocab_size=vocab,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=64,
        bos_token_id=None,
        eos_token_id=None,
    )
    model = random_model(config, seed)
    head = torch.nn.Linear(32, vocab, bias=True)
    head.weight.data = model.lm_head.weight.data
    head.bias.data = torch.zeros(vocab)
    head.bias.data[list(eos)] = bias
    model.lm_head = head
    return model


@dataclass
class Found:
    """What a search returns, and in how many steps."""

    tokens: list[tuple[int, ...]]
    scores: list[float]
    num_steps: int


def found_by_hf(model: Any, params: BeamSearchParams, eos: tuple[int, ...]) -> Found:
    ends = () if params.ignore_eos else eos
    ends = [*ends, *(params.stop_token_ids or ())]
    settings = GenerationConfig(
        do_sample=False,
        num_beams=params.beam_width,
        num_return_sequences=params.beam_width,
        max_new_tokens=params.max_tokens,
        length_penalty=params.length_penalty,
        early_stopping=params.early_stopping,
        eos_token_id=ends or None,
        pad_token_id=0,
        use_cache=False,
        return_dict_in_generate=True,
        output_scores=True,
    )
    model.generation_config = settings
    ids = torch.tensor([PROMPT])
    out = model.generate(ids, settings, attention_mask=torch.ones_like(ids))
    lengths = (out.beam_indices >= 0).sum(1).tolist()
    rows = out.sequences[:, len(PROMPT) :].tolist()
    tokens = [tuple(row[:length]) for row, length in zip(rows, lengths, strict=True)]
    return Found(tokens, out.sequences_scores.tolist(), len(out.scores))


def candidates(model: Any, beams: Beams) -> tuple[np.ndarray, np.ndarray]:
    """(tokens, log-probabilities), [num_live, C], the likeliest first, tied ones by token."""
    rows = [[*PROMPT, *beam.tokens] for beam in beams.live]
    width = beams.params.beam_width
    padded = torch.tensor((rows + [rows[0]] * width)[:width])  # as many rows as transformers has
    with torch.no_grad():
        # and of the last place only, or the head's products are summed in another order
        out = model(
            input_ids=padded,
            attention_mask=torch.ones_like(padded),
            use_cache=False,
            logits_to_keep=1,
        )
    logits = out.logits[:, -1]
    logprobs = torch.log_softmax(logits, dim=-1)[: len(rows)]
    count = min(num_candidates(width, len(beams.end_token_ids)), logits.shape[1])
    best, tokens = torch.sort(logprobs, descending=True, stable=True)
    return tokens[:, :count].numpy(), best[:, :count].numpy()


def found_by_us(
    model: Any, params: BeamSearchParams, eos: tuple[int, ...]
) -> tuple[Found, list[Hypothesis]]:
    beams = Beams(params, params.max_tokens, frozenset(eos))
    num_steps = 0
    while not beams.is_done:
        parents = beams.live
        continuations = beams.advance(*candidates(model, beams))
        num_steps += 1
        assert len(continuations) == len(beams.live)
        for (parent, token), beam in zip(continuations, beams.live, strict=True):
            assert beam.tokens == (*parents[parent].tokens, token)
    best = beams.hypotheses()
    return Found([one.tokens for one in best], [one.score for one in best], num_steps), best


def same_as_hf(model: Any, params: BeamSearchParams, eos: tuple[int, ...]) -> list[Hypothesis]:
    """Asserts that both find the same, and returns it."""
    ours, best = found_by_us(model, params, eos)
    assert ours == found_by_hf(model, params, eos), params
    assert len(best) == params.beam_width
    for one in best:
        ends = one.tokens[-1] in {*eos, *(params.stop_token_ids or ())}
        assert one.finish_reason == ("stop" if ends else "length")
        assert np.float32(one.cumulative_logprob) == sum(map(np.float32, one.logprobs))
    return best


@pytest.fixture
def beam_search_of_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Transformers searches with beams where it would decode greedily, for there is one."""
    mode = GenerationMode.BEAM_SEARCH
    monkeypatch.setattr(GenerationConfig, "get_generation_mode", lambda *_, **__: mode)


@pytest.fixture
def ties_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """`torch.topk`, which promises no order of ties, keeps to that of the flattened list."""

    def topk(values: torch.Tensor, k: int) -> tuple[torch.Tensor, torch.Tensor]:
        best, indices = torch.sort(values, dim=-1, descending=True, stable=True)
        return best[..., :k], indices[..., :k]

    monkeypatch.setattr(torch, "topk", topk)


GRID = list(itertools.product((2, 4, 7), (-1.0, 0.0, 0.6, 1.0, 2.0), EARLY_STOPPING))


@pytest.fixture(scope="module")
def eager_llama() -> Any:
    return a_llama(vocab=40, seed=1, eos=(1,), bias=2.5)


@pytest.mark.parametrize("early_stopping", EARLY_STOPPING)
@pytest.mark.parametrize("width", [2, 4, 7])
def test_a_llama_is_searched_as_transformers_does(eager_llama, width, early_stopping):
    for penalty in (-1.0, 0.0, 0.6, 1.0, 2.0):
        params = BeamSearchParams(width, 14, length_penalty=penalty, early_stopping=early_stopping)
        same_as_hf(eager_llama, params, eos=(1,))


def test_the_settings_above_finish_at_many_lengths_and_stop_at_many_steps(eager_llama):
    lengths, reasons = set(), set()
    num_steps = {rule: 0 for rule in EARLY_STOPPING}
    for width, penalty, rule in GRID:
        params = BeamSearchParams(width, 14, length_penalty=penalty, early_stopping=rule)
        found, best = found_by_us(eager_llama, params, (1,))
        lengths |= {len(one.tokens) for one in best}
        reasons |= {one.finish_reason for one in best}
        num_steps[rule] += found.num_steps
    assert len(lengths) >= 6 and reasons == {"stop", "length"}
    assert num_steps[True] < num_steps[False] < num_steps["never"] < 14 * len(GRID) // 3
