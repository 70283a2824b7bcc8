"""A tiny engine is measured, and its simulation held against it: structure, not accuracy."""

import json
from collections import Counter
from dataclasses import replace

import pytest
from engines import an_engine

from jpaged.calibration.calibrate import calibrate
from jpaged.calibration.loads import SHARES, Loads
from jpaged.calibration.meter import metered
from jpaged.calibration.open_loop import serve
from jpaged.calibration.turns import validate_in_turns
from jpaged.calibration.validate import requests, saturation_rate, validate
from jpaged.cli import main
from jpaged.errors import ConfigError
from jpaged.simulator.simulate import simulate
from jpaged.simulator.table import FromTable

FLAGS = ["--page-size", "4", "--num-pages", "128", "--max-num-seqs", "4"]
FLAGS += ["--max-num-batched-tokens", "32"]


@pytest.fixture(scope="module")
def engine(tiny_llama):
    with an_engine(tiny_llama, skip_tokenizer_init=True) as engine:
        yield engine


@pytest.fixture(scope="module")
def table(engine) -> FromTable:
    return calibrate(engine, seconds=0.5)


def test_designed_rounds_visit_every_compiled_shape(engine):
    with metered(engine) as meter:
        Loads(engine, seed=0).designed(seconds=0.0)

    seen = Counter(step.shape.bucket for step in meter.steps)
    assert seen.keys() == set(engine.sizes.buckets.all)
    assert min(seen.values()) >= 3
    assert any(step.shape.num_moved for step in meter.steps)
    assert not engine.has_unfinished_requests()


def test_the_loads_of_several_short_runs_are_those_of_a_long_one(engine):
    loads = Loads(engine, seed=2)

    shares = [loads.next_share() for _ in range(2 * len(SHARES))]

    assert sorted(shares[: len(SHARES)]) == sorted(shares[len(SHARES) :]) == list(SHARES)
    assert shares[: len(SHARES)] != list(SHARES)


def test_the_meter_sees_what_the_records_say(engine):
    loads = Loads(engine, seed=1)
    loads.mixed(seconds=0.1)  # the first time it finds out what the engine can do
    with metered(engine) as meter:
        records = loads.mixed(seconds=0.3).records

    told = [(r.num_tokens, r.num_sequences, r.bucket) for r in records]
    shapes = [step.shape for step in meter.steps]
    assert [(s.num_tokens, s.num_sequences, s.bucket) for s in shapes] == told
    span = records[-1].end - records[0].start
    assert 0 < sum(step.least for step in meter.steps) < span
    # of each step the host works while the one before it runs, but for the very first
    entering = sum(step.entering or 0.0 for step in meter.steps)
    admitting = sum(each.seconds for each in meter.admitted)
    assert 0 < sum(step.host for step in meter.steps) + entering + admitting < 1.05 * span
    assert entering > 0 and admitting > 0
    assert sum(step.num_ended for step in meter.steps) == len(meter.admitted)


def test_the_engine_is_left_as_it_was(engine):
    executor, on_step = engine.loop.executor, engine.loop.on_step
    with metered(engine):
        assert engine.loop.executor is not executor

    assert engine.loop.executor is executor and engine.loop.on_step is on_step
    assert "schedule" not in vars(engine.scheduler) and "add_request" not in vars(engine)


def test_a_table_covers_every_shape_and_says_of_what_it_is(engine, table):
    assert table.rows.keys() == set(engine.sizes.buckets.all)
    assert all(row.base + row.token > 0 for row in table.rows.values())
    assert table.engine["max_num_seqs"] == 4 and table.engine["async_scheduling"] is True
    assert table.shape["width"] == 32 and table.shape["num_bytes"] == 4
    assert 0 < table.error < table.error_p90
    assert "cpu" in table.machine


def test_requests_come_when_their_time_has_come_and_say_what_was_foreseen(engine):
    workload = requests(engine, rate=100.0, count=12, seed=3)
    engine.reset_prefix_cache()

    result = serve(engine, workload)

    told = {each.request_id: each for each in result.ended}
    for request in workload:
        record = told[request.name]
        assert record.arrival == pytest.approx(request.arrival, abs=1e-6)
        assert record.scheduled is not None and record.scheduled >= request.arrival
        assert (record.num_prompt, record.num_output) == (len(request.prompt), request.num_output)
    assert sum(record.num_tokens for record in result.records) == sum(
        request.num_final - 1 for request in workload
    )


def test_the_simulation_runs_the_same_tokens(engine, table):
    workload = requests(engine, rate=100.0, count=12, seed=3)

    result = simulate("fcfs", workload, table)

    assert sum(record.num_tokens for record in result.records) == sum(
        request.num_final - 1 for request in workload
    )


def test_the_same_seed_asks_for_the_same_at_every_rate(engine):
    slow, fast = (requests(engine, rate, 5, seed=1) for rate in (1.0, 10.0))

    assert [each.prompt for each in slow] == [each.prompt for each in fast]
    for one, other in zip(slow, fast, strict=True):
        assert one.arrival == pytest.approx(10 * other.arrival)


def test_a_rate_beyond_the_saturating_one_makes_the_queue_grow(engine, table):
    rate = saturation_rate(engine, table, "fcfs", seed=1)

    def longest_queue(load: float) -> int:
        result = simulate("fcfs", requests(engine, load * rate, 400, seed=2), table)
        return max(record.num_waiting for record in result.records)

    assert longest_queue(0.5) < 20 < 60 < longest_queue(1.5)


def test_a_table_of_another_engine_is_refused(engine, table):
    other = replace(table, engine={**table.engine, "page_size": 8}, shape={"width": 64})

    with pytest.raises(ConfigError, match="page_size is 4, measured was 8.*width is 32"):
        validate(engine, other)


@pytest.mark.parametrize(
    "wrong, told",
    [
        ({"repeats": 0}, "repeats=0"),
        ({"turn": 0.0, "seconds": -1.0}, "seconds=-1, turn=0"),
        ({"loads": (0.5, 0.0)}, "loads=0"),
        ({"loads": ()}, "at least one load"),
    ],
)
def test_amounts_that_nobody_can_serve_are_refused(engine, wrong, told):
    with pytest.raises(ConfigError, match=told):
        validate_in_turns(engine, **wrong)


def test_the_command_line_calibrates_and_validates(tiny_llama, tmp_path, capsys):
    costs, told = tmp_path / "costs.json", tmp_path / "validation.json"
    options = [str(tiny_llama), *FLAGS, "--seconds", "0.3"]

    assert main(["calibrate", *options, "--out", str(costs)]) == 0
    said = capsys.readouterr().out
    assert "T4·B4·N32" in said and "bias" in said
    runs = ["--loads", "0.5", "--repeats", "2"]
    assert main(["validate", *options, *runs, "--costs", str(costs), "--out", str(told)]) == 0
    said = capsys.readouterr().out
    [found] = json.loads(told.read_text())["loads"]

    assert said.startswith("load 50%") and "ttft_p99" in said
    assert found["load"] == 0.5 and len(found["measured"]) == 2
    assert found["errors"].keys() == found["noise"].keys() == found["simulated"].keys()


def test_the_command_line_validates_with_costs_that_it_measures_in_turns(
    tiny_llama, tmp_path, capsys
):
    costs, told = tmp_path / "costs.json", tmp_path / "validation.json"
    options = [str(tiny_llama), *FLAGS, "--seconds", "0.4", "--turn", "0.2"]
    options += ["--loads", "0.5", "0.8"]

    assert main(["validate", *options, "--costs-out", str(costs), "--out", str(told)]) == 0

    half, most = json.loads(told.read_text())["loads"]
    assert capsys.readouterr().out.count("\nlatency_p99") == 2
    assert [half["load"], most["load"]] == [0.5, 0.8] and most["rate"] > half["rate"]
    assert len(half["measured"]) == 2  # repetitions, of two turns each
    assert FromTable.load(costs).rows
    assert main(["validate", *options, "--costs-out", str(costs), "--costs", str(costs)]) != 0
    assert "leave out one of them" in capsys.readouterr().err
