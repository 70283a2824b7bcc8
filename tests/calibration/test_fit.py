"""Costs are found again in steps that were made from them."""

from dataclasses import replace
from random import Random
from typing import Any

import pytest

from jpaged.calibration.fit import fit
from jpaged.calibration.meter import Admitted, Measured
from jpaged.scheduling.buckets import Bucket
from jpaged.scheduling.cost import StepShape
from jpaged.simulator.table import FromTable, Row

SMALL, LARGE = Bucket(8, 8, 32), Bucket(16, 16, 32)
SHORT, LONG = Bucket(64, 16, 32), Bucket(256, 16, 32)
BUCKETS = (SMALL, LARGE, SHORT, LONG)
TRUE = FromTable(
    rows={
        SMALL: Row(2e-3, 1e-4),
        LARGE: Row(3e-3, 5e-5),
        SHORT: Row(4e-3, 2e-5),
        LONG: Row(5e-3, 3e-5),
    },
    read=2e-6,
    pair=3e-7,
    sequence=4e-5,
    moved=1e-4,
    rest=3e-4,
    prompts=2e-6,
)


def a_shape(rng: Random, bucket: Bucket) -> StepShape:
    low = {SMALL: 1, LARGE: 9, SHORT: 17, LONG: 65}[bucket]
    tokens = rng.randint(low, bucket.num_tokens)
    sequences = tokens if bucket.is_decode else rng.randint(1, 16)
    read = tokens + rng.randint(0, 500 * sequences)
    pairs = read if bucket.is_decode else read + tokens * rng.randint(1, 200)
    moved = rng.choice([0, 0, 0, 3])
    prompts = 0 if bucket.is_decode else rng.randint(1, min(sequences, tokens))
    after = 1 / rng.randint(1, 20), rng.choice([0.0, 0.0, rng.uniform(0, 200)])
    return StepShape(tokens, sequences, read, pairs, moved, bucket, prompts, 0, *after)


def steps(count: int, noise=lambda rng: 1.0, buckets=BUCKETS, seed: int = 0) -> list[Measured]:
    rng = Random(seed)
    shapes = [a_shape(rng, rng.choice(buckets)) for _ in range(count)]
    return [exact(s, TRUE.seconds(s) * noise(rng)) for s in shapes]


def exact(shape: StepShape, seconds: float) -> Measured:
    return Measured(shape, seconds, seconds, 1e-4)


def found(measured: list[Measured]) -> FromTable:
    costs = fit(measured, BUCKETS)
    common: dict[str, Any] = {**costs.common}
    return FromTable(rows=costs.rows, **common)


def total_bias(table: FromTable, measured: list[Measured]) -> float:
    predicted = sum(table.seconds(each.shape) for each in measured)
    return predicted / sum(each.most for each in measured) - 1


def test_costs_are_found_again():
    table = found(steps(4000))

    # a few imagined measurements hold the buckets together, against a thousand real ones of each
    for each in steps(200, seed=1):
        assert table.seconds(each.shape) == pytest.approx(each.most, rel=0.01)
    for cost in ("moved", "rest", "prompts"):
        assert getattr(table, cost) == pytest.approx(getattr(TRUE, cost), rel=0.05)


def test_noise_does_not_make_the_sum_of_all_steps_shorter():
    # skewed, as waiting for others is; its mean is 1
    noisy = steps(4000, noise=lambda rng: 0.7 + rng.expovariate(1 / 0.3))

    assert abs(total_bias(found(noisy), noisy)) < 0.02


def test_a_pause_is_not_taken_for_a_cost():
    calm = steps(2000)
    paused = [
        exact(each.shape, each.most * (100 if i % 100 == 0 else 1)) for i, each in enumerate(calm)
    ]

    # a hundredth of the steps counts as five times what it is, not as a hundred times
    assert total_bias(found(paused), calm) < 0.05


def test_no_cost_is_negative():
    table = found(steps(60, noise=lambda rng: rng.uniform(0.2, 3.0)))

    costs = [table.read, table.pair, table.sequence, table.moved]
    assert min([*costs, *(c for row in table.rows.values() for c in (row.base, row.token))]) >= 0


def test_a_bucket_that_was_never_seen_is_like_its_kind():
    table = found(steps(2000, buckets=(SMALL, LARGE, SHORT)))

    rng = Random(3)
    for _ in range(20):
        shape = a_shape(rng, LONG)
        assert table.seconds(shape) == pytest.approx(TRUE.seconds(shape), rel=0.5)


def test_the_hosts_part_is_found_apart():
    rows = {SMALL: 0.0, LARGE: 1e-4, SHORT: 3e-4, LONG: 2e-4}
    common: dict[str, Any] = {
        "host_seconds": 2e-4,
        "host_prompt": 5e-5,
        "host_token": 1e-6,
        "host_sequence": 4e-6,
        "host_rest": 5e-4,
        "host_prompts": 7e-7,
    }
    true = FromTable({b: Row(1.0, 0.0, host) for b, host in rows.items()}, **common)
    measured = [replace(each, host=true.host(each.shape)) for each in steps(4000)]

    found = fit(measured, BUCKETS)

    host: dict[str, Any] = {**found.host}
    table = FromTable(found.rows, **host)
    for each in steps(100, seed=1):
        assert table.host(each.shape) == pytest.approx(true.host(each.shape), rel=0.01)


def test_what_is_entered_and_admitted_is_found_again():
    entering = {
        "enter_seconds": 5e-5,
        "enter_prompt": 4e-5,
        "enter_sequence": 7e-6,
        "enter_end": 3e-5,
    }
    admitting = {"admit_seconds": 1e-4, "admit_token": 2e-7}
    costs: dict[str, Any] = entering | admitting
    true, rng = FromTable({}, **costs), Random(7)
    measured = []
    for each in steps(2000):
        num_ended = rng.randint(0, each.shape.num_sequences)
        taken = true.entering(each.shape, num_ended)
        measured.append(replace(each, entering=taken, num_ended=num_ended))
    idle = [replace(each, entering=None) for each in steps(50)]
    lengths = [rng.randint(1, 500) for _ in range(200)]
    admitted = [Admitted(each, true.admitting(each)) for each in lengths]

    host = fit(measured + idle, BUCKETS, admitted).host

    assert {name: host[name] for name in costs} == pytest.approx(costs, rel=1e-6)


def test_steps_that_were_done_before_anybody_asked_are_not_taken_for_slower_ones():
    """A host that asks after about as long as the device takes finds most steps done."""
    rng, spread = Random(5), 0.4
    bounded = []
    for each in steps(8000, noise=lambda rng: rng.lognormvariate(-(spread**2) / 2, spread)):
        asked = TRUE.seconds(each.shape) * rng.uniform(0.8, 1.3)
        is_awaited = asked < each.most
        bounded.append(each if is_awaited else replace(each, least=0.0, most=asked))
    truth = steps(8000)

    table = found(bounded)

    assert abs(total_bias(table, truth)) < 0.03
    assert table.rows[SMALL].spread == pytest.approx(spread, rel=0.1)
    awaited = [each for each in bounded if each.is_exact]
    assert total_bias(found(awaited), truth) > 0.3  # what would be believed without bounds


def test_a_bucket_is_as_scattered_as_its_steps_were():
    noisy = steps(4000, noise=lambda rng: rng.lognormvariate(-0.02, 0.2))

    assert found(noisy).rows[LONG].spread == pytest.approx(0.2, rel=0.1)


def test_nothing_measured_is_refused():
    with pytest.raises(ValueError, match="run for longer"):
        fit([], BUCKETS)
