"""Cost models against arithmetic done by hand, and against the models they are about."""

import json
import math
from dataclasses import replace
from random import Random
from statistics import fmean, stdev
from typing import Any

import jax
import pytest
from tiny_configs import CASES

from jpaged.errors import ConfigError
from jpaged.models.hf_config import HFConfig
from jpaged.models.loading import read_model
from jpaged.scheduling.buckets import Bucket
from jpaged.scheduling.cost import StepShape
from jpaged.simulator import Constant, FromTable, Roofline, simulate
from jpaged.simulator.model_shape import LLAMA_8B, LLAMA_70B, OPT_13B, ModelShape
from jpaged.simulator.table import Row
from jpaged.simulator.workload import TimedRequest

# Llama-3.1-8B by hand: a layer's q and o are 4096 x 4096, k and v 4096 x 1024, the three of its MLP
# 4096 x 14336; 32 layers, and 128256 x 4096 to score the vocabulary
LAYERS_8B = 32 * (2 * 4096 * 4096 + 2 * 4096 * 1024 + 3 * 4096 * 14336)
HEAD_8B = 128256 * 4096
FLOPS, BYTES = 989e12 * 0.6, 4.8e12 * 0.8  # of an H200, as far as they are reached
DECODE, MIXED = Bucket(8, 8, 32), Bucket(64, 8, 32)


def a_table(**changes) -> FromTable:
    rows = {DECODE: Row(2e-3, 1e-4), MIXED: Row(4e-3, 5e-5)}
    fields: dict[str, Any] = {
        "read": 1e-6,
        "pair": 2e-7,
        "sequence": 3e-5,
        "moved": 1e-3,
        "of_model": "tiny",
    }
    return FromTable(rows=rows, **{**fields, **changes})


def test_llama_8b_has_its_published_size():
    embedding, norms = HEAD_8B, (2 * 32 + 1) * 4096

    assert LLAMA_8B.layer_weights == LAYERS_8B
    assert LLAMA_8B.layer_weights + LLAMA_8B.head_weights + embedding + norms == 8_030_261_248
    assert LLAMA_8B.token_bytes == 131072  # 128 KiB: 32 layers x 2 x 8 heads x 128 x 2 bytes


@pytest.mark.parametrize("shape, billions", [(LLAMA_70B, 70.55), (OPT_13B, 12.85)])
def test_other_models_have_their_published_sizes(shape, billions):
    # the input embedding is OPT's head, and Llama-70B has one beside it
    untied = shape.head_weights if shape.gated else 0
    assert (shape.layer_weights + shape.head_weights + untied) / 1e9 == pytest.approx(
        billions, rel=2e-3
    )


@pytest.mark.parametrize("num_sequences", [1, 64])
def test_a_decode_step_reads_weights_and_cache(num_sequences):
    num_read = 1000 * num_sequences
    seconds = Roofline.of("llama-8b", "H200").seconds(
        StepShape(num_sequences, num_sequences, num_read, num_read)
    )

    read = 2 * (LAYERS_8B + HEAD_8B) + 131072 * num_read
    assert seconds == pytest.approx(0.5e-3 + read / BYTES)  # 4.4 ms alone, 6.6 ms at 64


def test_a_prompt_computes():
    pairs = 2048 * 2049 // 2
    seconds = Roofline.of("llama-8b", "H200").seconds(StepShape(2048, 1, 2048, pairs))

    products = 2 * (2048 * LAYERS_8B + HEAD_8B)
    attention = 4 * pairs * 32 * 32 * 128  # two products, a multiplication and an addition each
    assert seconds == pytest.approx(0.5e-3 + (products + attention) / FLOPS)
    assert 0.049 < seconds < 0.052


def test_padding_is_computed_but_not_read():
    roofline = Roofline.of("llama-8b", "H200")
    few, full = StepShape(1100, 1, 1100, 0), StepShape(2048, 1, 1100, 0)
    padded = replace(few, bucket=Bucket(2048, 1, 512))

    assert roofline.seconds(padded) == roofline.seconds(full) > 1.5 * roofline.seconds(few)


def test_two_gpus_halve_the_work_and_talk():
    one, two = (Roofline.of("llama-8b", "H200", num_gpus=n, step=0.0) for n in (1, 2))
    shape = StepShape(8, 8, 8000, 8000)

    # each GPU sends and gets half of 8 x 4096 numbers of 2 bytes, twice a collective, 2 a layer
    talk = 2 * 32 * (10e-6 + 2 * 0.5 * 8 * 4096 * 2 / 450e9)
    assert two.seconds(shape) == pytest.approx(one.seconds(shape) / 2 + talk)


def test_pages_fit_beside_the_weights():
    pages = Roofline.of("llama-8b", "H100").num_pages(page_size=16)

    room = 0.9 * 80e9 - 2 * (LAYERS_8B + HEAD_8B)
    assert pages == int(room / (131072 * 16))
    with pytest.raises(ConfigError, match="do not fit on 1 GPUs of 80 GB; raise num_gpus"):
        Roofline.of("llama-70b", "H100").num_pages()


def test_a_gpu_or_model_that_is_unknown_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="no datasheet of 'H300'.*H200"):
        Roofline.of("llama-8b", "H300")
    with pytest.raises(ConfigError, match="is no model's config.json"):
        Roofline.of(str(tmp_path / "nowhere"))
    with pytest.raises(ConfigError, match="no hidden_size or n_embd"):
        ModelShape.from_config({"num_attention_heads": 4})
    with pytest.raises(ConfigError, match="num_local_experts=8.*mixture of experts"):
        ModelShape.from_config({"num_local_experts": 8})


@pytest.mark.parametrize(
    "wrong, told",
    [({"compute": 0.0}, "compute"), ({"reading": 1.2}, "reading"), ({"num_gpus": 0}, "num_gpus")],
)
def test_shares_that_cannot_be_are_refused(wrong, told):
    with pytest.raises(ConfigError, match=told):
        Roofline.of("llama-8b", "H200", **wrong)


@pytest.mark.parametrize("name", CASES)
def test_a_shape_counts_the_matrices_that_the_model_has(name):
    config = CASES[name].to_dict()
    model = read_model(HFConfig(config))

    shape = ModelShape.from_config(config)

    matrices = [leaf for leaf in jax.tree.leaves(model.params["blocks"]) if len(leaf.shape) == 2]
    assert shape.layer_weights == sum(leaf.size for leaf in matrices)
    spec = model.kv_spec[0]
    assert (shape.num_layers, shape.kv_heads) == (len(model.kv_spec), spec.kv_heads)
    assert (shape.head_dim, shape.vocab) == (spec.head_dim, model.vocab)


def test_constants_add_up():
    assert Constant(step=0.01, token=0.001).seconds(StepShape(7, 2)) == pytest.approx(0.017)
    with pytest.raises(ConfigError, match="none below 0.*step=-1"):
        Constant(step=-1)
    with pytest.raises(ConfigError, match="not all 0"):
        Constant(step=0)


def test_a_table_adds_up_by_hand():
    shape = StepShape(40, 3, num_read=500, num_pairs=900, num_moved=2, bucket=MIXED)

    # 4 ms + 40 x 50 us + 500 x 1 us + 900 x 0.2 us + 3 x 30 us + 2 x 1 ms
    assert a_table().seconds(shape) == pytest.approx(4e-3 + 2e-3 + 5e-4 + 1.8e-4 + 9e-5 + 2e-3)


def test_the_host_is_slower_where_there_are_prompts():
    host = {"host_seconds": 1e-4, "host_prompt": 2e-4, "host_token": 1e-6, "host_sequence": 1e-5}
    table = a_table(**host)

    assert table.host(StepShape(3, 3)) == pytest.approx(1e-4 + 3e-6 + 3e-5)
    assert table.host(StepShape(9, 3, num_prompts=2)) == pytest.approx(5e-4 + 9e-6 + 3e-5)


def test_what_came_shortly_before_makes_a_step_slower():
    costs = {"rest": 4e-4, "prompts": 1e-6, "host_rest": 8e-4, "host_prompts": 2e-6}
    table, calm = a_table(**costs), StepShape(8, 8, bucket=DECODE)
    shape = replace(calm, after_rest=0.5, after_prompts=30.0)

    assert table.seconds(shape) - table.seconds(calm) == pytest.approx(2e-4 + 3e-5)
    assert table.host(shape) - table.host(calm) == pytest.approx(4e-4 + 6e-5)


def test_an_answer_and_a_request_take_the_host_by_hand():
    table = a_table(
        enter_seconds=1e-4,
        enter_prompt=2e-4,
        enter_sequence=1e-5,
        enter_end=5e-5,
        admit_seconds=3e-4,
        admit_token=1e-6,
    )

    assert table.entering(StepShape(9, 3, num_prompts=2), 1) == pytest.approx(5.8e-4)
    assert table.admitting(200) == pytest.approx(5e-4)


def test_who_arrives_waits_for_the_host_to_admit_it_and_to_enter_what_was_answered():
    engine = {"max_model_len": 512, "max_num_seqs": 8, "max_num_batched_tokens": 64}
    costs = {"read": 0.0, "pair": 0.0, "sequence": 0.0, "enter_sequence": 5.0, "admit_seconds": 1.0}
    rows = {DECODE: Row(0.25, 0.0), MIXED: Row(0.5, 0.0)}
    table = replace(a_table(engine=engine | {"async_scheduling": False}, **costs), rows=rows)
    workload = [TimedRequest("a", 0.0, (1, 2), 2), TimedRequest("b", 2.0, (3, 4), 1)]

    first, second = simulate("fcfs", workload, table, async_scheduling=False).ended

    # a: admitted until 1, its prompt until 1.5, entered until 6.5; b, who came at 2, is admitted
    # until 7.5, and runs beside a's second token
    assert (second.scheduled, second.first_token) == (pytest.approx(7.5), pytest.approx(8.0))
    assert first.last_token == pytest.approx(8.0)


def test_single_steps_scatter_around_the_mean_as_they_were_seen_to():
    table = a_table(host_seconds=1e-3)
    rows = {b: replace(row, spread=0.3, host_spread=0.1) for b, row in table.rows.items()}
    scattered, rng = replace(table, rows=rows), Random(0)
    shape = StepShape(40, 3, bucket=MIXED)

    drawn = [scattered.drawn(shape, rng) for _ in range(20_000)]

    for values, mean, spread in zip(
        zip(*drawn, strict=True),
        (table.seconds(shape), table.host(shape)),
        (0.3, 0.1),
        strict=True,
    ):
        assert fmean(values) == pytest.approx(mean, rel=0.01)
        assert stdev(math.log(each) for each in values) == pytest.approx(spread, rel=0.03)
    assert table.drawn(shape, rng) == (table.seconds(shape), table.host(shape))


def test_a_simulated_step_ends_no_sooner_than_the_next_is_packed():
    workload = [TimedRequest("a", 0.0, (1, 2), 50)]
    engine = {"max_model_len": 512, "max_num_seqs": 8, "max_num_batched_tokens": 64}

    def seconds_a_token(host: float) -> float:
        table = a_table(engine=engine, read=0.0, pair=0.0, sequence=0.0, host_seconds=host)
        [record] = simulate("fcfs", workload, table).ended
        assert record.tpot is not None
        return record.tpot

    # the device takes 2.1 ms a step
    assert seconds_a_token(host=1e-3) == pytest.approx(2.1e-3, rel=0.05)
    assert seconds_a_token(host=5e-3) == pytest.approx(5e-3, rel=0.05)


def test_a_table_is_read_as_it_was_saved(tmp_path):
    table = a_table(engine={"page_size": 16, "async_scheduling": True}, shape={"width": 32})
    table.save(tmp_path / "costs.json")

    assert FromTable.load(tmp_path / "costs.json") == table
    assert table.buckets.decode == (DECODE,)
    assert table.buckets.mixed == (MIXED,)


@pytest.mark.parametrize(
    "text, told",
    [
        ("{", "is no cost table"),
        ("[]", "is no cost table"),
        ('{"format": 5}', "is no cost table"),
        ('{"format": 5, "rows": [[8, 8, 32, {"bose": 1}]]}', "is no cost table"),
        ('{"format": 4, "rows": []}', "format 4, not 5; calibrate again"),
    ],
)
def test_what_is_no_table_is_refused(tmp_path, text, told):
    (tmp_path / "costs.json").write_text(text)

    with pytest.raises(ConfigError, match=told):
        FromTable.load(tmp_path / "costs.json")
    with pytest.raises(ConfigError, match="nowhere"):
        FromTable.load(tmp_path / "nowhere")


def test_a_bucket_that_was_not_measured_is_refused():
    with pytest.raises(ConfigError, match="no bucket T16·B16·N32"):
        a_table().seconds(StepShape(9, 9, bucket=Bucket(16, 16, 32)))
    with pytest.raises(ConfigError, match="no bucket None"):
        a_table().seconds(StepShape(9, 9))


def test_a_table_of_another_engine_or_model_is_refused_with_what_differs():
    table = a_table(engine={"page_size": 16, "num_pages": 64}, shape={"width": 32, "vocab": 9})

    table.check({"page_size": 16, "num_pages": 1024}, {"width": 32, "vocab": 9})  # room is no cost
    with pytest.raises(ConfigError, match="page_size is 8, measured was 16.*width is 64") as told:
        table.check({"page_size": 8}, {"width": 64, "vocab": 9})
    assert "vocab" not in str(told.value)


def test_a_simulation_has_the_options_that_were_measured():
    engine = {
        "max_model_len": 512,
        "page_size": 16,
        "max_num_seqs": 8,
        "max_num_batched_tokens": 64,
    }
    table = a_table(engine=engine)
    workload = [TimedRequest(str(i), 0.0, (1,) * 9, 5) for i in range(20)]

    result = simulate("fcfs", workload, table)

    assert max(record.num_sequences for record in result.records) == 8
    assert {record.bucket for record in result.records} == {DECODE, MIXED}
    with pytest.raises(ConfigError, match="max_num_seqs is 16, measured was 8"):
        simulate("fcfs", workload, table, max_num_seqs=16)


def test_a_saved_table_is_plain_json(tmp_path):
    a_table().save(tmp_path / "costs.json")

    table = json.loads((tmp_path / "costs.json").read_text())

    assert table["rows"][0][:3] == [8, 8, 32]
    assert table["rows"][0][3]["base"] == 2e-3
