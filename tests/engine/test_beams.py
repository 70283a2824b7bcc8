"""Beam search's decisions, against Hugging Face transformers' `generate(num_beams=…)`.

Both sides see the same logits bit for bit: ours calls the model on the same rows.  So sequences,
scores and the number of steps must be equal, not close.
"""

import copy
import itertools
import pickle
import random
from collections.abc import Iterator
from dataclasses import dataclass
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
from transformers.generation.configuration_utils import GenerationMode

from jpaged import BeamSearchParams
from jpaged.engine.beams import Beams, Continuation, Hypothesis, num_candidates

PROMPT = [3, 8, 5]
EARLY_STOPPING = (True, False, "never")


class TableModel(PreTrainedModel, GenerationMixin):
    """Pretends to be a language model: the prefix picks a row of a table of logits."""

    config_class = PretrainedConfig
    main_input_name = "input_ids"

    def __init__(self, table: torch.Tensor):
        super().__init__(PretrainedConfig())
        self.table = table
        self.anchor = torch.nn.Parameter(torch.zeros(1))  # says which device and dtype

    def forward(self, input_ids: torch.Tensor, attention_mask: object = None, **_: object) -> Any:
        length = input_ids.shape[1]
        weights = torch.tensor([7 * place * place + 3 for place in range(length)])
        rows = (input_ids * weights).sum(1) % len(self.table)
        return SimpleNamespace(logits=self.table[rows][:, None])

    def prepare_inputs_for_generation(self, input_ids, **kwargs):
        return {"input_ids": input_ids}

    def _update_model_kwargs_for_generation(self, outputs, model_kwargs, *args, **kwargs):
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


def ends_of(params: BeamSearchParams, eos: tuple[int, ...]) -> list[int]:
    """What ends a sequence: to transformers, all are end-of-sequence tokens."""
    return [*(() if params.ignore_eos else eos), *(params.stop_token_ids or ())]


def found_by_hf(model: Any, params: BeamSearchParams, eos: tuple[int, ...]) -> Found:
    settings = GenerationConfig(
        do_sample=False,
        num_beams=params.beam_width,
        num_return_sequences=params.beam_width,
        max_new_tokens=params.max_tokens,
        length_penalty=params.length_penalty,
        early_stopping=params.early_stopping,
        eos_token_id=ends_of(params, eos) or None,
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
        is_ended = one.tokens[-1] in ends_of(params, eos)
        assert one.finish_reason == ("stop" if is_ended else "length")
        total = sum(map(np.float32, one.logprobs), np.float32(0))
        assert one.cumulative_logprob == float(total)  # not only equal once rounded to float32
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
    num_steps = dict.fromkeys(EARLY_STOPPING, 0)
    for width, penalty, rule in GRID:
        params = BeamSearchParams(width, 14, length_penalty=penalty, early_stopping=rule)
        found, best = found_by_us(eager_llama, params, (1,))
        lengths |= {len(one.tokens) for one in best}
        reasons |= {one.finish_reason for one in best}
        num_steps[rule] += found.num_steps
    assert len(lengths) >= 6 and reasons == {"stop", "length"}
    assert num_steps[True] < num_steps[False] < num_steps["never"] < 14 * len(GRID) // 3


@pytest.mark.parametrize("early_stopping", EARLY_STOPPING)
@pytest.mark.parametrize("penalty", [-1.0, 0.0, 0.6, 1.0, 2.0])
def test_random_tables_are_searched_as_transformers_does(penalty, early_stopping, ties_in_order):
    for width, seed in itertools.product((2, 3, 4, 7), range(6)):
        eos = ((0,), (2, 5), ())[seed % 3]
        # with a bias of 6, both ends of all beams are before any token that goes on
        model = a_table_model(vocab=30, seed=seed, eos=eos, bias=2.0 if seed < 3 else 6.0)
        params = BeamSearchParams(
            width, 6 + seed, length_penalty=penalty, early_stopping=early_stopping
        )
        same_as_hf(model, params, eos)


@pytest.mark.parametrize("early_stopping", EARLY_STOPPING)
def test_one_beam_is_greedy_unless_it_never_stops_early(early_stopping, beam_search_of_one):
    lengths = set()
    for seed, penalty in itertools.product(range(12), (-1.0, 0.0, 0.6, 1.0, 2.0)):
        model = a_table_model(vocab=20, seed=seed, eos=(0,), bias=1.0)
        params = BeamSearchParams(1, 9, length_penalty=penalty, early_stopping=early_stopping)
        [best] = same_as_hf(model, params, eos=(0,))
        lengths.add(len(best.tokens))
        if early_stopping != "never" or penalty <= 0:
            assert best.tokens == greedy(model, 9, eos=0)
    assert len(lengths) >= 4


def greedy(model: TableModel, count: int, eos: int) -> tuple[int, ...]:
    tokens = list(PROMPT)
    while len(tokens) < len(PROMPT) + count and eos not in tokens[len(PROMPT) :]:
        tokens.append(int(model(torch.tensor([tokens])).logits[0, -1].argmax()))
    return tuple(tokens[len(PROMPT) :])


@pytest.mark.parametrize("options", [{}, {"ignore_eos": True}])
def test_stop_tokens_end_a_beam_as_an_end_of_sequence_does(options):
    """With `ignore_eos`, too; the stop reason tells which it was."""
    reasons = []
    for seed in range(8):
        model = a_table_model(vocab=30, seed=seed, eos=(0, 4, 9), bias=1.0)
        params = BeamSearchParams(4, 9, stop_token_ids=[9, 4], **options)
        for one in same_as_hf(model, params, eos=(0, 4)):
            last = one.tokens[-1]
            if one.finish_reason == "length":
                expected = None
            elif options:
                expected = last
            else:  # what is both is an end of sequence
                expected = 9 if last == 9 else None
            assert one.stop_reason == expected
            reasons.append((last, one.stop_reason))
    assert {(9, 9)} < set(reasons)
    assert ((4, 4) in reasons) == bool(options) and ((4, None) in reasons) != bool(options)


@pytest.mark.parametrize("early_stopping", EARLY_STOPPING)
@pytest.mark.parametrize(
    "vocab, width, eos", [(5, 4, (1,)), (7, 4, (1,)), (9, 7, (0, 3)), (4, 4, ())]
)
def test_a_vocabulary_smaller_than_two_beams_each(vocab, width, eos, early_stopping, ties_in_order):
    for seed, penalty in itertools.product(range(4), (-1.0, 0.6)):
        model = a_table_model(vocab, seed, eos, bias=0.5)
        params = BeamSearchParams(width, 8, length_penalty=penalty, early_stopping=early_stopping)
        same_as_hf(model, params, eos)


@pytest.mark.parametrize("early_stopping", [False, "never"])
@pytest.mark.parametrize(
    "vocab, width, eos", [(2, 3, (1,)), (3, 7, (0,)), (4, 7, (1, 2)), (3, 8, ())]
)
def test_a_vocabulary_too_small_for_all_beams(vocab, width, eos, early_stopping, ties_in_order):
    """Transformers fills up with copies of score -1e9; what else it finds is what we find."""
    num_fewer = 0
    for seed, max_tokens in itertools.product(range(4), (1, 2, 6)):
        model = a_table_model(vocab, seed, eos)
        params = BeamSearchParams(width, max_tokens, early_stopping=early_stopping)
        ours, _ = found_by_us(model, params, eos)
        theirs = found_by_hf(model, params, eos)
        real = [score for score in theirs.scores if score > -1e6]
        assert (ours.tokens, ours.scores) == (theirs.tokens[: len(real)], real)
        num_fewer += len(ours.tokens) < width
    assert num_fewer > 0


def test_where_every_token_ends_the_search_ends():
    beams = Beams(BeamSearchParams(4, 9), 9, frozenset({0, 1}))
    assert beams.advance(*rows([[(0, -1.0), (1, -0.5)]])) == []
    assert beams.is_done
    assert [one.tokens for one in beams.hypotheses()] == [(1,), (0,)]


@pytest.mark.parametrize("early_stopping", EARLY_STOPPING)
@pytest.mark.parametrize("num_levels", [1, 2, 3])
def test_ties_fall_as_in_the_flattened_list(num_levels, early_stopping, ties_in_order):
    """Whole logits of a few levels: half of all candidates tie, and so do scores."""
    num_ties = 0
    for seed, width in itertools.product(range(6), (2, 4, 7)):
        generator = torch.Generator().manual_seed(seed)
        table = torch.randint(num_levels, (5, 16), generator=generator).float()
        params = BeamSearchParams(width, 7, early_stopping=early_stopping)
        best = same_as_hf(TableModel(table), params, eos=(3, 11))
        num_ties += width - len({one.score for one in best})
    assert num_ties > 10


def rows(candidates: list[list[tuple[int, float]]]) -> tuple[np.ndarray, np.ndarray]:
    """[num_live, C] twice, of (token, log-probability) pairs."""
    pairs = np.array(candidates, np.float64)
    return pairs[..., 0].astype(np.int32), pairs[..., 1].astype(np.float32)


def test_the_first_step_has_one_beam_and_forks_it():
    beams = Beams(BeamSearchParams(3, 9), 9, frozenset({0}))
    first = beams.advance(*rows([[(7, -0.5), (0, -1.0), (8, -1.5), (2, -2.5)]]))
    assert first == [Continuation(0, 7), Continuation(0, 8), Continuation(0, 2)]
    second = beams.advance(
        *rows(
            [
                [(1, -2.5), (2, -4.0), (3, -5.0), (0, -6.0)],
                [(5, -0.5), (6, -0.75), (3, -5.0), (0, -6.0)],
                [(1, -2.5), (2, -4.0), (3, -5.0), (0, -6.0)],
            ]
        )
    )
    assert second == [Continuation(1, 5), Continuation(1, 6), Continuation(0, 1)]
    assert [beam.tokens for beam in beams.live] == [(8, 5), (8, 6), (7, 1)]
    assert [beam.cumulative_logprob for beam in beams.live] == [-2.0, -2.25, -3.0]
    assert [(one.tokens, one.score) for one in beams.hypotheses()] == [((0,), -1.0)]


def test_an_end_that_ranks_below_the_beams_is_dropped():
    beams = Beams(BeamSearchParams(2, 9), 9, frozenset({0}))
    continuations = beams.advance(*rows([[(7, -0.5), (8, -1.0), (0, -1.25)]]))
    assert continuations == [Continuation(0, 7), Continuation(0, 8)]
    assert beams.hypotheses() == []


def test_at_the_last_token_the_best_candidates_finish_and_no_others():
    beams = Beams(BeamSearchParams(2, 1), 1, frozenset({0}))
    assert beams.advance(*rows([[(7, -0.5), (0, -1.0), (8, -1.25)]])) == []
    found = [(one.tokens, one.finish_reason) for one in beams.hypotheses()]
    assert found == [((7,), "length"), ((0,), "stop")]


def test_a_token_of_no_probability_is_no_candidate():
    beams = Beams(BeamSearchParams(3, 9), 9)
    continuations = beams.advance(*rows([[(7, -0.5), (8, -np.inf), (9, -np.inf)]]))
    assert continuations == [Continuation(0, 7)]
    assert beams.advance(*rows([[(7, -np.inf), (8, -np.inf), (9, -np.inf)]])) == []
    assert beams.is_done


def test_the_engines_limit_of_length_counts_not_the_users():
    """Also in what "never" hopes for: at 4 tokens the live beam could still win, at 3 it cannot."""
    params = BeamSearchParams(1, 1000, length_penalty=1.0, early_stopping="never")
    for max_tokens, goes_on in ((3, False), (4, True)):
        beams = Beams(params, max_tokens, frozenset({0}))
        beams.advance(*rows([[(0, -1.0), (7, -3.5)]]))
        assert beams.is_done != goes_on


@pytest.mark.parametrize("eos", [(), (0,), (0, 5, 7)])
def test_more_candidates_change_nothing_and_one_fewer_would(eos, monkeypatch):
    def steps(width: int, seed: int, more: int) -> list:
        model = a_table_model(vocab=24, seed=seed, eos=eos, bias=3.0, num_rows=7)
        beams = Beams(BeamSearchParams(width, 6), 6, frozenset(eos))
        taken = []
        count = num_candidates(width, len(eos)) + more
        monkeypatch.setitem(globals(), "num_candidates", lambda *_: count)
        while not beams.is_done:
            taken.append(beams.advance(*candidates(model, beams)))
        monkeypatch.undo()
        return [taken, beams.hypotheses()]

    settings = [(width, seed) for width in (2, 5) for seed in range(20)]
    plain = [steps(*setting, 0) for setting in settings]
    assert plain == [steps(*setting, 24) for setting in settings]
    assert plain != [steps(*setting, -1) for setting in settings]


def test_the_order_of_candidates_within_a_row_does_not_matter():
    model = a_table_model(vocab=24, seed=3, eos=(0,), bias=1.0)
    plain, shuffled = (Beams(BeamSearchParams(4, 8), 8, frozenset({0})) for _ in range(2))
    columns = np.random.default_rng(0)
    while not plain.is_done:
        tokens, logprobs = candidates(model, plain)
        order = columns.permutation(tokens.shape[1])
        assert plain.advance(tokens, logprobs) == shuffled.advance(
            tokens[:, order], logprobs[:, order]
        )
    assert plain == shuffled


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda beams: pickle.loads(pickle.dumps(beams))])
def test_a_copy_goes_on_alone(copied):
    model = a_table_model(vocab=24, seed=5, eos=(0,), bias=1.0)
    beams = Beams(BeamSearchParams(4, 8), 8, frozenset({0}))
    for _ in range(3):
        beams.advance(*candidates(model, beams))
    kept, again = beams.live, copied(beams)
    while not beams.is_done:
        beams.advance(*candidates(model, beams))
    assert again.live == kept and again != beams
    while not again.is_done:
        again.advance(*candidates(model, again))
    assert again == beams and again.end_token_ids == beams.end_token_ids


def random_settings(count: int, seed: int) -> Iterator[tuple[BeamSearchParams, tuple, float, int]]:
    """(options, end-of-sequence tokens, their bias, vocabulary), some of everything."""
    draw = random.Random(seed)
    for _ in range(count):
        width, vocab = draw.choice((2, 3, 4, 5, 7, 8)), draw.choice((16, 40, 200))
        ends = draw.sample(range(vocab), draw.choice((0, 1, 1, 2, 3)))
        num_eos = draw.randint(0, len(ends))
        params = BeamSearchParams(
            width,
            draw.randint(1, 16),
            ignore_eos=draw.random() < 0.1,
            length_penalty=draw.choice((-1.0, 0.0, 0.6, 1.0, 2.0, draw.uniform(-2, 3))),
            early_stopping=draw.choice(EARLY_STOPPING),
            stop_token_ids=ends[num_eos:],
        )
        yield params, tuple(ends[:num_eos]), draw.uniform(0, 4), vocab


@pytest.mark.slow
@pytest.mark.parametrize("a_model", [a_llama, a_table_model])
def test_random_settings(a_model, ties_in_order):
    lengths = set()
    for seed, (params, eos, bias, vocab) in enumerate(random_settings(300, seed=8)):
        model = a_model(vocab, seed, (*eos, *(params.stop_token_ids or ())), bias)
        lengths |= {len(one.tokens) for one in same_as_hf(model, params, eos)}
    assert lengths == set(range(1, 17))
