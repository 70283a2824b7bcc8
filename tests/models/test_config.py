"""A configuration is understood to the last key, or refused by the name of what was not."""

import json
from pathlib import Path

import pytest

from jpaged.errors import UnsupportedModel
from jpaged.models import read_config
from jpaged.models.hf_config import HFConfig
from jpaged.models.llama import LlamaConfig
from jpaged.models.loading import read_folder, read_model

LLAMA = {
    "model_type": "llama",
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "rms_norm_eps": 1e-5,
}
GPT2 = {
    "model_type": "gpt2",
    "vocab_size": 64,
    "n_positions": 32,
    "n_embd": 32,
    "n_layer": 2,
    "n_head": 4,
}
OPT = {
    "model_type": "opt",
    "vocab_size": 64,
    "hidden_size": 32,
    "ffn_dim": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 32,
}
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32}


def read(values: dict, **changes) -> LlamaConfig:
    config = read_config(HFConfig({**values, **changes}))
    return config  # pyright: ignore[reportReturnType]  most tests read Llama's fields


def without(values: dict, key: str) -> dict:
    return {each: value for each, value in values.items() if each != key}


def refusal(values: dict, **changes) -> str:
    with pytest.raises(UnsupportedModel) as caught:
        read_model(HFConfig({**values, **changes}))
    return str(caught.value)


@pytest.mark.parametrize("name", ["llamma", "mixtral", "", None])
def test_an_unknown_model_type_is_refused_with_the_supported_ones(name):
    message = refusal(LLAMA, model_type=name)

    for supported in ("llama", "mistral", "qwen2", "qwen3", "gpt2", "opt"):
        assert supported in message


def test_a_misspelt_model_type_is_refused_with_the_nearest():
    assert "did you mean 'qwen3'" in refusal(LLAMA, model_type="qwen_3")


@pytest.mark.parametrize("values", [LLAMA, GPT2, OPT], ids=["llama", "gpt2", "opt"])
def test_a_key_that_nobody_understands_is_refused_and_named(values: dict):
    message = refusal(values, final_logit_softcapping=30.0, quantization_config={"bits": 4})

    assert "final_logit_softcapping=30.0" in message
    assert "quantization_config" in message


@pytest.mark.parametrize("values", [LLAMA, GPT2, OPT], ids=["llama", "gpt2", "opt"])
@pytest.mark.parametrize("is_null", [False, True], ids=["absent", "null"])
def test_a_missing_size_is_refused_and_named(values: dict, is_null: bool):
    silent = {**values, "vocab_size": None} if is_null else without(values, "vocab_size")

    assert "lacks 'vocab_size'" in refusal(silent)


def test_null_stands_for_the_default():
    names = ["num_key_value_heads", "head_dim", "rope_scaling", "rope_parameters", "sliding_window"]
    nulls = dict.fromkeys([*names, "layer_types", "attention_bias", "hidden_act"])

    config = read(LLAMA, **nulls)

    assert config == read(without(LLAMA, "num_key_value_heads"))
    assert (config.kv_heads, config.head_dim, config.activation) == (4, 8, "silu")


@pytest.mark.parametrize(
    "change",
    [
        {"hidden_act": "xielu"},
        {"partial_rotary_factor": 0.5},
        {"rope_interleaved": True},
        {"use_mrope": True},
        {"num_key_value_heads": 3},
        {"hidden_size": 30},
        {"head_dim": 7},
        {"dtype": "int8"},
        {"torch_dtype": "float8_e4m3fn"},
        {"dtype": "nonsense"},
    ],
    ids=str,
)
def test_a_llama_we_would_compute_wrongly_is_refused(change: dict):
    assert str(next(iter(change.values()))) in refusal(LLAMA, **change)


@pytest.mark.parametrize(
    "change",
    [
        {"activation_function": "xielu"},
        {"layer_norm_elementwise_affine": False},
        {"learned_embeddings": False},
        {"scale_embeddings": True},
    ],
    ids=str,
)
def test_an_opt_we_would_compute_wrongly_is_refused(change: dict):
    assert next(iter(change)) in refusal(OPT, **change)


def test_keys_of_well_known_checkpoints_that_change_nothing_are_accepted():
    smollm2 = {"rope_interleaved": False, "is_llama_config": True, "transformers.js_config": {}}
    galactica = {"learned_embeddings": True, "scale_embeddings": False}

    assert read(LLAMA, **smollm2, max_length=4096) == read(LLAMA)
    assert read(OPT, **galactica) == read(OPT)


def test_what_transformers_assumes_of_a_silent_config_is_assumed_here():
    silent = without(LLAMA, "num_key_value_heads")

    mistral = read(silent, model_type="mistral", num_attention_heads=16)
    qwen3 = read(LLAMA, model_type="qwen3")

    assert (mistral.kv_heads, mistral.windows) == (8, (4096,) * 4)
    assert qwen3.head_dim == 128
    assert read(silent, model_type="mistral", sliding_window=None, num_key_value_heads=None) == (
        read(silent)
    )


def test_a_window_is_read_where_transformers_reads_it_and_nowhere_else():
    named = ["full_attention", "sliding_attention"] * 2
    qwen = {**LLAMA, "model_type": "qwen2", "sliding_window": 9}

    assert read(LLAMA, model_type="mistral", sliding_window=9).windows == (9, 9, 9, 9)
    assert read(qwen, use_sliding_window=True, max_window_layers=3).windows == (*[None] * 3, 9)
    assert read(qwen, use_sliding_window=True, layer_types=named).windows == (None, 9, None, 9)
    assert read(qwen, use_sliding_window=False).windows == (None,) * 4
    # transformers' Llama knows no window, its Mistral no kinds of layer: theirs is in doubt
    assert "sliding_window=9" in refusal(LLAMA, sliding_window=9)
    assert "layer_types" in refusal(LLAMA, model_type="mistral", layer_types=named)
    assert "layer_types" in refusal(qwen, use_sliding_window=True, layer_types=named[:2])


def test_both_spellings_of_rope_are_read_alike():
    scaling = without(YARN, "rope_type")

    old = read(LLAMA, rope_theta=500.0, rope_scaling={**scaling, "type": "yarn"})
    new = read(LLAMA, rope_parameters={**YARN, "rope_theta": 500.0})

    assert old.rope == new.rope
    assert old.rope != read(LLAMA, rope_theta=500.0).rope


@pytest.mark.parametrize(
    "rope, named",
    [
        ({"rope_type": "longrope", "factor": 2.0}, "'longrope'"),
        ({"type": "su"}, "'su'"),
        ({"rope_type": "linear"}, "factor"),
        ({"rope_type": "llama3", "factor": 8.0}, "low_freq_factor"),
        ({**YARN, "alpha": 1000.0}, "alpha"),
        ({"rope_type": "default", "partial_rotary_factor": 0.5}, "partial_rotary_factor"),
        ({"rope_type": "default", "mrope_section": [2, 1, 1]}, "mrope_section"),
        ({"full_attention": YARN, "sliding_attention": None}, "full_attention"),
    ],
    ids=lambda each: each if isinstance(each, str) else "",
)
@pytest.mark.parametrize("key", ["rope_scaling", "rope_parameters"])
def test_a_rope_we_would_turn_wrongly_is_refused_and_named(rope: dict, named: str, key: str):
    assert named in refusal(LLAMA, **{key: rope})


@pytest.mark.parametrize("text", ["{", "[]", '"llama"', "\udcff\udcfe"])
def test_a_config_that_is_no_json_object_is_refused(text: str, tmp_path: Path):
    (tmp_path / "config.json").write_text(text, errors="surrogateescape")

    with pytest.raises(UnsupportedModel, match=r"config\.json"):
        read_folder(tmp_path)


def test_a_folder_without_a_config_is_refused(tmp_path: Path):
    with pytest.raises(UnsupportedModel, match=r"no config\.json"):
        read_folder(tmp_path)


def test_code_beside_a_checkpoint_is_never_run(tmp_path: Path):
    trap = tmp_path / "sprung"
    (tmp_path / "modeling_trap.py").write_text(f"open({str(trap)!r}, 'w')")
    auto_map = {"AutoModelForCausalLM": "modeling_trap.Trap", "AutoConfig": "modeling_trap.Trap"}
    (tmp_path / "config.json").write_text(json.dumps({**LLAMA, "auto_map": auto_map}))

    model = read_folder(tmp_path)

    assert model.config == read(LLAMA)  # the architecture in the package, not the folder's
    assert not trap.exists()


def test_an_unknown_type_with_code_is_refused_unrun(tmp_path: Path):
    trap = tmp_path / "sprung"
    (tmp_path / "modeling_trap.py").write_text(f"open({str(trap)!r}, 'w')")
    values = {**LLAMA, "model_type": "trap", "auto_map": {"AutoModel": "modeling_trap.Trap"}}
    (tmp_path / "config.json").write_text(json.dumps(values))

    with pytest.raises(UnsupportedModel, match="'trap'"):
        read_folder(tmp_path)

    assert not trap.exists()
