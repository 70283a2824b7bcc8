"""What a folder says beside its sizes: the dtype, and where a text ends."""

import pytest

from jpaged.models.hf_config import HFConfig
from jpaged.models.loading import read_model

LLAMA = {
    "model_type": "llama",
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 1,
    "num_attention_heads": 4,
}


@pytest.mark.parametrize(
    "values, generation, expected",
    [
        ({"eos_token_id": 2}, None, {2}),
        ({"eos_token_id": 2}, {}, {2}),
        ({"eos_token_id": 2}, {"eos_token_id": [2, 7]}, {2, 7}),
        ({"eos_token_id": [3, 4]}, None, {3, 4}),
        ({"eos_token_id": None}, None, set()),
        ({}, None, set()),
    ],
)
def test_end_tokens_come_from_the_generation_config_first(values, generation, expected):
    assert read_model(HFConfig({**LLAMA, **values}), generation=generation).eos_token_ids == (
        expected
    )


@pytest.mark.parametrize(
    "values, asked, expected",
    [
        ({"dtype": "bfloat16"}, "auto", "bfloat16"),
        ({"torch_dtype": "float16"}, "auto", "float16"),
        ({"torch_dtype": "torch.bfloat16"}, "auto", "bfloat16"),
        ({"dtype": None, "torch_dtype": None}, "auto", "float32"),
        ({}, "auto", "float32"),
        ({"dtype": "bfloat16"}, "float32", "float32"),
    ],
)
def test_auto_follows_the_dtype_of_the_checkpoint(values: dict, asked: str, expected: str):
    assert read_model(HFConfig({**LLAMA, **values}), asked).dtype == expected
