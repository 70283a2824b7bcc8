"""Where generation ends, and what of the text is shown: against Hugging Face's greedy tokens."""

import json

import pytest
import torch
from engines import an_engine, first, greedily, last, random_prompts, run
from tiny import logits_of
from tiny_llama import END_OF_TEXT, END_OF_TURN, MAX_POSITIONS, save_tiny_llama, tiny_tokenizer

from jpaged import RequestOutputKind, SamplingParams

COUNT = 24


@pytest.fixture(scope="module")
def prompt() -> list[int]:
    return random_prompts(30, 1)[0]


@pytest.fixture(scope="module")
def plain_ids() -> list[int]:
    """Tokens that read as plain text: with only these allowed, every border is a character's."""
    tokenizer = tiny_tokenizer()
    pieces = {token: str(tokenizer.decode([token])) for token in range(4, 384)}
    return [token for token, piece in pieces.items() if piece.isascii() and piece.isprintable()]


@pytest.fixture(scope="module")
def tokens(hf_model, prompt, plain_ids) -> list[int]:
    """The likeliest plain tokens after the prompt, when nothing stops them."""
    found = list(prompt)
    for _ in range(COUNT):
        best = logits_of(hf_model, found)[-1][torch.tensor(plain_ids)].topk(2)
        assert best.values[0] - best.values[1] > 1e-4, "rounding could decide; change the seed"
        found.append(plain_ids[int(best.indices[0])])
    return found[len(prompt) :]


@pytest.fixture
def text(llm, tokens) -> str:
    return llm.get_tokenizer().decode(tokens)


@pytest.fixture
def generate(llm, prompt, plain_ids):
    """Runs the prompt with some parameters more; the tokens are `tokens` unless these stop it."""

    def generate(count: int = COUNT, **params):
        asked = greedily(count, allowed_token_ids=plain_ids, **params)
        return first(llm.generate(prompt, asked)[0])

    return generate


def border(llm, tokens: list[int], after: int) -> int:
    """Where in the text the first `after` tokens end."""
    return len(llm.get_tokenizer().decode(tokens[:after]))


def seldom(text: str, at: int, length: int) -> str:
    """A piece of the text that does not occur earlier in it."""
    piece = text[at : at + length]
    assert len(piece) == length and text.find(piece) == at, "change the place"
    return piece


def test_a_stop_string_across_a_token_border_ends_the_text(llm, tokens, text, generate):
    at = border(llm, tokens, 8) - 1
    stop = seldom(text, at, 3)
    output = generate(stop=stop)
    assert output.text == text[:at]
    assert (output.finish_reason, output.stop_reason) == ("stop", stop)
    assert output.token_ids == tokens[: len(output.token_ids)]
    assert border(llm, tokens, len(output.token_ids)) >= at + len(stop)


def test_a_stop_string_may_be_included(llm, tokens, text, generate):
    at = border(llm, tokens, 8) - 1
    stop = seldom(text, at, 3)
    output = generate(stop=[stop], include_stop_str_in_output=True)
    assert output.text == text[: at + 3]


def test_the_earliest_of_several_stop_strings_wins(llm, tokens, text, generate):
    early, late = border(llm, tokens, 5), border(llm, tokens, 12)
    stops = [seldom(text, late, 2), "never there", seldom(text, early, 2)]
    output = generate(stop=stops)
    assert (output.text, output.stop_reason) == (text[:early], stops[2])


def test_of_two_stop_strings_in_one_token_the_first_in_the_text_wins(llm, tokens, text, generate):
    tokenizer = llm.get_tokenizer()
    place = next(i for i, token in enumerate(tokens) if len(tokenizer.decode([token])) > 2)
    at = border(llm, tokens, place)
    stops = [text[at + 1 : at + 3], text[at : at + 2]]
    output = generate(stop=stops)
    assert (output.text, output.stop_reason) == (text[:at], stops[1])


def test_a_stop_string_in_the_last_token_is_found(llm, tokens, text, generate):
    stop = seldom(text, border(llm, tokens, 8) - 2, 2)
    output = generate(8, stop=stop)
    assert (output.finish_reason, output.stop_reason) == ("stop", stop)


@pytest.mark.parametrize("kind", [RequestOutputKind.DELTA, RequestOutputKind.CUMULATIVE])
@pytest.mark.parametrize("length", [2, 5, 9])
def test_a_stream_never_shows_what_is_cut_off_later(
    engine, llm, prompt, tokens, text, plain_ids, kind, length
):
    at = border(llm, tokens, 7) - 1
    stop = seldom(text, at, length)
    stops = [stop, "never there"]
    params = greedily(COUNT, stop=stops, output_kind=kind, allowed_token_ids=plain_ids)
    engine.add_request("a", prompt, params)
    shown = ""
    for output in run(engine)["a"]:
        new = first(output).text
        shown = shown + new if kind is RequestOutputKind.DELTA else new
        assert text[:at].startswith(shown)
    assert shown == text[:at]


def test_a_stop_string_counts_only_after_min_tokens(llm, tokens, text, generate):
    stop = seldom(text, border(llm, tokens, 4), 2)
    assert text.count(stop) == 1
    output = generate(stop=stop, min_tokens=12)
    assert (output.text, output.finish_reason) == (text, "length")


def test_a_stop_string_counts_from_the_last_of_the_min_tokens_on(llm, tokens, text, generate):
    stop = seldom(text, border(llm, tokens, 8) - 2, 2)  # the eighth token completes it
    at_eight, at_nine = (generate(stop=stop, min_tokens=count) for count in (8, 9))
    assert (at_eight.finish_reason, at_nine.finish_reason) == ("stop", "length")


def test_a_stop_token_ends_the_text_without_being_part_of_it(llm, tokens, generate):
    place = next(i for i in range(4, COUNT) if tokens[i] not in tokens[:i])
    output = generate(stop_token_ids=[tokens[place], 389])
    assert output.token_ids == tokens[: place + 1]
    assert output.text == llm.get_tokenizer().decode(tokens[:place])
    assert (output.finish_reason, output.stop_reason) == ("stop", tokens[place])


def test_a_stop_token_cannot_be_chosen_before_min_tokens(tokens, generate):
    output = generate(stop_token_ids=[tokens[4]], min_tokens=10)
    assert tokens[4] not in output.token_ids[:10]
    assert output.token_ids[:4] == tokens[:4]
    assert len(output.token_ids) >= 10


def test_the_end_of_sequence_token_ends_it(llm, prompt):
    wants_end = {"temperature": 0.0, "logit_bias": {END_OF_TEXT: 100}, "max_tokens": 6}
    ended = first(llm.generate(prompt, SamplingParams(min_tokens=2, **wants_end))[0])
    assert len(ended.token_ids) == 3 and ended.token_ids.index(END_OF_TEXT) == 2
    assert (ended.finish_reason, ended.stop_reason) == ("stop", None)
    ignored = first(
        llm.generate(
            prompt, SamplingParams(ignore_eos=True, skip_special_tokens=False, **wants_end)
        )[0]
    )
    assert ignored.token_ids == [END_OF_TEXT] * 6
    assert (ignored.text, ignored.finish_reason) == ("<|endoftext|>" * 6, "length")


def test_the_tokenizers_end_token_ends_it_too(tmp_path, prompt):
    folder = save_tiny_llama(tmp_path)
    path = folder / "tokenizer_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "eos_token": "<|end|>"}))
    engine = an_engine(folder, warmup="none")
    for token in (END_OF_TEXT, END_OF_TURN):
        engine.add_request(str(token), prompt, SamplingParams(logit_bias={token: 100}))
    finished = last(engine)
    engine.close()
    for token in (END_OF_TEXT, END_OF_TURN):
        assert first(finished[str(token)]).token_ids == [token]
        assert first(finished[str(token)]).finish_reason == "stop"


@pytest.mark.parametrize("max_tokens", [None, 10**6])
def test_without_a_limit_the_context_is_the_limit(llm, prompt, max_tokens):
    output = first(llm.generate(prompt, greedily(max_tokens))[0])
    assert len(prompt) + len(output.token_ids) == MAX_POSITIONS
    assert output.finish_reason == "length"


def test_a_prompt_that_leaves_room_for_one_token_gets_one(llm):
    output = first(llm.generate([5] * (MAX_POSITIONS - 1), greedily())[0])
    assert (len(output.token_ids), output.finish_reason) == (1, "length")


def test_without_detokenising_there_is_no_text(tokens, generate):
    output = generate(detokenize=False)
    assert (output.text, output.token_ids) == ("", tokens)
