"""JSON with one meaning: what is read is what `json` reads, or it is refused."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jpaged.server.errors import ApiError
from jpaged.server.reading import read_json

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**30), 10**30)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(VALUES, st.booleans())
def test_proper_json_is_read_as_it_was_written(value, ascii_only):
    assert read_json(json.dumps(value, ensure_ascii=ascii_only).encode()) == value


@given(st.binary(max_size=60))
def test_whatever_bytes_come_it_is_a_value_or_a_refusal(body):
    try:
        value = read_json(body)
    except ApiError as error:
        assert error.status_code == 400
    else:
        json.dumps(value, allow_nan=True).encode()


@pytest.mark.parametrize(
    "text",
    ['"\\ud83d"', '["\\ude00"]', '{"a": {"b": "x\\ud800y"}}', '{"\\udc00": 1}'],
)
def test_half_characters_are_refused(text):
    with pytest.raises(ApiError, match="half of a character"):
        read_json(text.encode())


def test_escaped_whole_characters_are_read():
    assert read_json(b'"\\ud83d\\ude00 \\u00e9"') == "😀 é"


def test_a_key_that_comes_twice_is_named():
    with pytest.raises(ApiError, match="'seed' twice"):
        read_json(b'{"a": [{"seed": 1, "n": 2, "seed": 1}]}')


def test_numbers_that_are_too_large_for_a_float_are_infinite_and_left_to_the_field():
    assert read_json(b"1e999") == math.inf
