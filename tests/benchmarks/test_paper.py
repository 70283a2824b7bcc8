"""The PagedAttention paper's figures, from fewer requests."""

import argparse
import json
import sys

import paper
import pytest


@pytest.fixture(scope="module")
def shares():
    args = argparse.Namespace(requests=150, seed=0)
    return paper.four_allocators(paper.a_trace(paper.SHAREGPT, args))


def test_the_more_an_allocator_knows_the_more_tokens_it_holds_and_pages_hold_most(shares):
    held = [shares[name]["tokens"] for name in ("max", "pow2", "oracle", "paged")]

    assert held == sorted(held)
    assert held[-1] >= 0.96
    assert held[-1] > 2 * held[-2]


def test_shares_add_up_to_all_of_the_cache(shares):
    assert [sum(row.values()) for row in shares.values()] == pytest.approx([1.0] * 4)


def test_max_loses_what_seven_contexts_leave_of_the_cache(shares):
    left = 1 - 7 * 2048 / paper.NUM_SLOTS
    assert shares["max"]["external"] == pytest.approx(left)
    assert round(100 * left, 1) == 8.9  # what the paper found


def test_an_oracle_has_no_internal_fragmentation_and_pages_no_external(shares):
    assert shares["oracle"]["internal"] == 0
    assert shares["paged"]["reserved"] == shares["paged"]["external"] == 0


def test_more_samples_share_more_beams_more_than_samples_and_long_texts_more_than_short_ones():
    args = argparse.Namespace(requests=120, seed=0)
    samples, beams = paper.measure_sampling(args), paper.measure_beams(args)

    for found in (samples, beams):
        assert all(0 < saved[2] < saved[4] < saved[6] for saved in found.values())
        assert all(found["ShareGPT-like"][n] > found["Alpaca-like"][n] for n in paper.SAMPLES)
    for name, saved in beams.items():
        # all but one of n beams at most could live on shared pages alone
        assert all(samples[name][n] < saved[n] < 100 * (1 - 1 / n) for n in paper.SAMPLES)


def test_the_script_prints_tables_and_keeps_the_parts_of_earlier_runs(
    tmp_path, monkeypatch, capsys
):
    words = ["paper.py", "--requests", "80", "--out", str(tmp_path), "--parts"]
    for part in ("memory", "sampling", "beams"):
        monkeypatch.setattr(sys, "argv", [*words, part])
        paper.main()

    printed = capsys.readouterr().out
    written = json.loads((tmp_path / "paper.json").read_text())
    assert "| max | 20.4 / **" in printed
    assert "| ShareGPT-like | 16.2 - 30.5 | **" in printed
    assert "| Alpaca-like | 37.6 - 55.2 | **" in printed
    assert written["memory"].keys() == paper.PAPER_STATES.keys()
    assert written["sampling"].keys() == paper.PAPER_SAMPLING.keys()
    assert (tmp_path / "paper-memory.png").stat().st_size > 1000


def test_an_unknown_part_is_named(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["paper.py", "--parts", "memory,tea"])
    with pytest.raises(SystemExit):
        paper.parse_arguments()
    assert "no part tea; there are memory" in capsys.readouterr().err
