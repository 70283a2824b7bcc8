"""Rules say how a name and a layout there become a name and a layout here."""

import numpy as np
import pytest

from converters import Rule, Table
from converters.rules import keep, split_in_three, transpose
from jpaged.models import FAMILIES

TABLE = Table((Rule("norm.weight", "norm.weight", keep),), "model.", r".*\.inv_freq")


def test_a_number_and_a_word_are_carried_over():
    rule = Rule("layers.{i}.{p:q|k|v}_proj.{w:weight|bias}", "blocks.{i}.attn.{p}.{w}")

    assert rule.match("layers.12.k_proj.bias") == ("blocks.12.attn.k.bias",)


@pytest.mark.parametrize(
    "name",
    [
        "layers.1.o_proj.weight",  # not among the words
        "layers.x.q_proj.weight",  # no number
        "layers..q_proj.weight",
        "layers.1.q_proj.weight.scale",  # longer at the end
        "model.layers.1.q_proj.weight",  # longer at the beginning
        "layersX1.q_proj.weight",  # a dot is a dot
    ],
)
def test_another_name_does_not_match(name: str):
    assert Rule("layers.{i}.{p:q|k|v}_proj.weight", "blocks.{i}.{p}").match(name) is None


def test_one_tensor_may_become_several():
    rule = Rule("h.{i}.c_attn.{w:weight|bias}", ("q.{i}.{w}", "k.{i}.{w}"), split_in_three)

    assert rule.match("h.3.c_attn.bias") == ("q.3.bias", "k.3.bias")


@pytest.mark.parametrize("name", ["model.norm.weight", "norm.weight"])
def test_the_prefix_may_be_there_or_not(name: str):
    found = TABLE.find(name)

    assert found is not None and found[1] == ("norm.weight",)


@pytest.mark.parametrize("name", ["model.model.norm.weight", "other.norm.weight", "norm.bias"])
def test_an_unknown_name_is_not_found(name: str):
    assert TABLE.find(name) is None
    assert not TABLE.ignores(name)


def test_buffers_are_ignored_by_whole_name():
    assert TABLE.ignores("model.rotary_emb.inv_freq")
    assert not TABLE.ignores("model.rotary_emb.inv_freq.weight")


def test_transpose_turns_a_matrix_and_leaves_a_bias():
    matrix, bias = np.arange(6).reshape(2, 3), np.arange(3)

    np.testing.assert_array_equal(transpose(matrix)[0], [[0, 3], [1, 4], [2, 5]])
    np.testing.assert_array_equal(transpose(bias)[0], bias)


def test_queries_keys_and_values_are_split_along_the_outputs():
    q, k, v = split_in_three(np.arange(12).reshape(2, 6))

    np.testing.assert_array_equal(q, [[0, 1], [6, 7]])
    np.testing.assert_array_equal(k, [[2, 3], [8, 9]])
    np.testing.assert_array_equal(v, [[4, 5], [10, 11]])


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("name", ["lm_head.weight", "model.layers.0.self_attn.rotary_emb.inv_freq"])
def test_every_family_knows_what_old_checkpoints_store_besides(family: str, name: str):
    table = FAMILIES[family].rules
    has_rope = family not in ("gpt2", "opt")

    found = table.find(name)

    assert table.ignores(name) == (has_rope and name.endswith("inv_freq"))
    assert (found is not None and found[0].optional) == (name == "lm_head.weight")
