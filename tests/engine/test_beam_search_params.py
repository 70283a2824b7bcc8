"""A beam search's options: what is refused, and what the rest is taken for."""

import pytest

from jpaged import BeamSearchParams, RequestRejected

NAN, INF = float("nan"), float("inf")

BAD = [
    ({"beam_width": 0}, "beam_width must be at least 1, not 0"),
    ({"beam_width": 2.0}, "beam_width must be a whole number, not 2.0"),
    ({"beam_width": True}, "beam_width must be a whole number, not True"),
    ({"max_tokens": 0}, "max_tokens must be at least 1, not 0"),
    ({"max_tokens": None}, "max_tokens must be a whole number, not None"),
    ({"temperature": NAN}, "temperature must be a number from 0, not nan"),
    ({"temperature": -1}, "temperature .* not -1"),
    ({"temperature": INF}, "temperature .* not inf"),
    ({"temperature": "hot"}, "temperature .* not 'hot'"),
    ({"length_penalty": NAN}, "length_penalty must be a finite number, not nan"),
    ({"length_penalty": INF}, "length_penalty must be a finite number, not inf"),
    ({"length_penalty": None}, "length_penalty must be a finite number, not None"),
    ({"length_penalty": 31}, r"from -30 to 30 for scores of 10 tokens \(max_tokens\) .* not 31"),
    ({"length_penalty": -31}, "float32, not -31"),
    ({"early_stopping": "always"}, "True, False or \"never\", not 'always'"),
    ({"early_stopping": 1}, "early_stopping .* not 1"),
    ({"early_stopping": None}, "early_stopping .* not None"),
    ({"stop_token_ids": [3, "a"]}, "stop_token_ids must hold token ids, not 'a'"),
    ({"stop_token_ids": [-1]}, "stop_token_ids must hold token ids, not -1"),
    ({"stop_token_ids": 1.5}, "stop_token_ids must hold token ids, not 1.5"),
    ({"ignore_eos": "no"}, "ignore_eos must be True or False, not 'no'"),
    ({"skip_special_tokens": None}, "skip_special_tokens must be True or False, not None"),
]


@pytest.mark.parametrize("options, message", BAD)
def test_a_bad_value_is_named(options, message):
    with pytest.raises(RequestRejected, match=message):
        BeamSearchParams(**{"beam_width": 4, "max_tokens": 10, **options})


def test_all_bad_values_are_named_at_once():
    with pytest.raises(RequestRejected) as caught:
        BeamSearchParams(0, -1, length_penalty=NAN, early_stopping="later", stop_token_ids=[-5])
    for name in ("beam_width", "max_tokens", "length_penalty", "early_stopping", "stop_token_ids"):
        assert name in str(caught.value)


def test_positions_and_defaults_are_vllms():
    params = BeamSearchParams(4, 10, True, 0.5, 2.0, True, False)
    assert (params.ignore_eos, params.temperature, params.length_penalty) == (True, 0.5, 2.0)
    assert (params.include_stop_str_in_output, params.skip_special_tokens) == (True, False)
    plain = BeamSearchParams(4, 10)
    assert (plain.ignore_eos, plain.temperature, plain.length_penalty) == (False, 0.0, 1.0)
    assert (plain.include_stop_str_in_output, plain.skip_special_tokens) == (False, True)
    with pytest.raises(TypeError):
        BeamSearchParams(4, 10, True, 0.5, 2.0, True, False, True)  # pyright: ignore[reportCallIssue]


@pytest.mark.parametrize(
    "temperature, divisor", [(0, 1.0), (1e-6, 1.0), (1e-4, 1e-2), (0.7, 0.7), (1, 1), (2.5, 2.5)]
)
def test_the_temperature_divides_the_logits_unless_it_is_zero(temperature, divisor):
    assert BeamSearchParams(2, 5, temperature=temperature).logit_divisor == divisor


def test_one_stop_token_may_stand_alone():
    assert BeamSearchParams(2, 5, stop_token_ids=7).stop_token_ids == (7,)  # pyright: ignore
    assert BeamSearchParams(2, 5).stop_token_ids == ()


def test_any_penalty_is_fine_for_one_token():
    assert BeamSearchParams(2, 1, length_penalty=1e6).length_penalty == 1e6
