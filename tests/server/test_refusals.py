"""deploy/REFUSALS.md tells the truth: its tables are what real servers say."""

import pytest
import refusals
from bad_checkpoints import REFUSED, SERVED

SECONDS = 1.0


@pytest.mark.slow
@pytest.mark.parametrize("optimize", ["", "1"], ids=["as it is", "without assertions"])
def test_every_malformed_request_is_refused_as_written_and_harms_no_stream(optimize: str):
    rows, others = refusals.requests_with_streams(optimize)

    assert refusals.section("requests") == refusals.requests_table(rows)
    assert {row.what for row in rows if not 400 <= row.status < 500} == set()
    assert {row.what for row in rows if row.seconds > SECONDS} == set()
    for other in others:
        assert other.num_whole > 0
        assert other.longest_pause < SECONDS


@pytest.mark.slow
@pytest.mark.parametrize("what", [*REFUSED, *SERVED])
def test_every_bad_checkpoint_ends_as_written(what: str):
    row = refusals.checkpoint(what)

    assert row.status == 1 if what in REFUSED else row.status in (200, 400)
    assert "\n" not in row.said
    written = refusals.section("checkpoints").splitlines()
    assert refusals.checkpoints_table([row]).splitlines()[-1] in written
