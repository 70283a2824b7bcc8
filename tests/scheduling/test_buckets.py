"""The ladder of compiled shapes: every batch finds the smallest that holds it."""

import random

import pytest
from filler import a_request

from jpaged.scheduling.batch import ScheduledBatch
from jpaged.scheduling.buckets import MOST_REMEMBERED, Bucket, BucketLadder
from jpaged.scheduling.request import Sequence

LIMITS = [(2048, 128, 64), (1, 1, 1), (16, 1, 4), (17, 16, 7), (100, 100, 513), (8192, 256, 2048)]


def a_batch(counts: list[int], pages: int = 1) -> ScheduledBatch:
    """A batch that runs so many tokens each; its first sequence lists so many pages."""
    sequences = [Sequence(a_request(str(i))) for i in range(len(counts))]
    sequences[0].pages = list(range(pages))
    return ScheduledBatch(tuple(zip(sequences, counts, strict=True)))


def random_counts(rng: random.Random, max_num_tokens: int, max_num_seqs: int) -> list[int]:
    """One to `max_num_seqs` sequences that share at most `max_num_tokens` tokens."""
    num_sequences = rng.randint(1, min(max_num_seqs, max_num_tokens))
    counts = [1] * num_sequences
    for _ in range(rng.choice((0, 0, 1, 3))):
        counts[rng.randrange(num_sequences)] += rng.randint(0, max_num_tokens - sum(counts))
    return counts


def holds(bucket: Bucket, batch: ScheduledBatch) -> bool:
    tokens = sum(count for _, count in batch.items)
    pages = max(len(sequence.pages) for sequence, _ in batch.items)
    T, B, N = bucket
    return T >= tokens and B >= len(batch.items) and N >= pages


@pytest.mark.parametrize("limits", LIMITS)
def test_every_batch_within_the_limits_gets_the_smallest_bucket_that_holds_it(limits):
    max_num_tokens, max_num_seqs, most_pages = limits
    ladder = BucketLadder.build(*limits)
    rng = random.Random(0)
    for _ in range(200):
        counts = random_counts(rng, max_num_tokens, max_num_seqs)
        batch = a_batch(counts, pages=rng.randint(1, most_pages))
        allowed = ladder.decode + ladder.mixed if max(counts) == 1 else ladder.mixed

        bucket = ladder.fit(batch)

        assert bucket in allowed and holds(bucket, batch)
        # fewest tokens first, then rows, then pages
        assert not any(holds(other, batch) and other < bucket for other in allowed)


@pytest.mark.parametrize("limits", LIMITS)
def test_the_limits_themselves_have_a_bucket(limits):
    max_num_tokens, max_num_seqs, most_pages = limits
    ladder = BucketLadder.build(*limits)
    rows = min(max_num_seqs, max_num_tokens)
    full = [max_num_tokens - rows + 1] + [1] * (rows - 1)

    assert holds(ladder.fit(a_batch(full, most_pages)), a_batch(full, most_pages))
    assert holds(ladder.fit(a_batch([1] * rows, most_pages)), a_batch([1] * rows, most_pages))


@pytest.mark.parametrize("limits", LIMITS)
def test_decode_buckets_have_as_many_tokens_as_rows_and_mixed_ones_more(limits):
    ladder = BucketLadder.build(*limits)

    assert all(bucket.num_tokens == bucket.num_sequences for bucket in ladder.decode)
    assert all(bucket.num_tokens > bucket.num_sequences for bucket in ladder.mixed)
    assert {b for b in ladder.all if b.is_decode} == set(ladder.decode)


@pytest.mark.parametrize("limits", LIMITS)
def test_no_bucket_has_a_single_row(limits):
    assert min(bucket.num_sequences for bucket in BucketLadder.build(*limits).all) == 2


def test_a_decode_step_wastes_a_third_of_its_rows_at_most_and_a_seventh_on_average():
    ladder = BucketLadder.build(2048, 128, 64)
    waste = [1 - num / ladder.fit_shape(num, num, 1).num_tokens for num in range(8, 129)]

    assert max(waste) < 1 / 3
    assert sum(waste) / len(waste) < 1 / 7


def test_a_step_with_long_prompts_wastes_a_third_of_its_tokens_at_most():
    ladder = BucketLadder.build(2048, 128, 64)
    waste = [1 - num / ladder.fit_shape(num, 100, 1).num_tokens for num in range(257, 2049)]

    assert max(waste) < 1 / 3


def test_a_short_prompt_does_not_score_the_vocabulary_for_every_seat():
    ladder = BucketLadder.build(2048, 100, 64)

    assert ladder.fit_shape(100, 1, 1).num_sequences == 8
    assert ladder.fit_shape(100, 9, 1).num_sequences == 100
    assert ladder.fit_shape(1000, 1, 1).num_sequences == 100


def test_a_plan_can_be_read():
    ladder = BucketLadder.build(64, 4, 8)

    assert ladder.describe(num_now=2) == (
        "6 step shapes, 2 compiled before the first request: "
        "decode T2·B2·N8 T4·B4·N8; mixed T16·B4·N8 T64·B4·N8"
    ).replace("6 step", f"{len(ladder.all)} step")


@pytest.mark.parametrize(("limits", "most"), [((2048, 128, 64), 21), ((8192, 256, 2048), 52)])
def test_a_server_starts_with_few_compilations(limits, most):
    buckets = BucketLadder.build(*limits).all

    assert len(buckets) == len(set(buckets)) <= most


def test_long_tables_have_a_short_bucket_too():
    ladder = BucketLadder.build(64, 4, 2048)

    assert ladder.fit(a_batch([1], pages=512)).pages_per_sequence == 512
    assert ladder.fit(a_batch([1], pages=513)).pages_per_sequence == 2048


def test_a_batch_beyond_the_limits_is_an_error_that_names_both():
    ladder = BucketLadder.build(64, 4, 8)

    with pytest.raises(AssertionError, match="T65·B1·N1.*T64·B4·N8"):
        ladder.fit(a_batch([65]))


def test_a_bucket_prints_briefly():
    assert str(Bucket(16, 8, 64)) == "T16·B8·N64"


def test_of_all_the_shapes_there_are_only_the_latest_are_remembered():
    ladder = BucketLadder.build(128, 128, 512)
    for pages in range(1, 65):
        for rows in range(1, 129):
            assert ladder.fit_shape(rows, rows, pages).num_sequences >= rows

    assert 64 * 128 > MOST_REMEMBERED == BucketLadder.fit_shape.cache_info().currsize
