"""Contests between engines: the same work for all, and what is made of their times."""

import argparse
from pathlib import Path

import pytest
from against_orca import longest, num_pages, rows_of
from contest import Served, by_turns, draw, serve, summary
from kernel_switch import both_ways, by_page_size

from jpaged import LLMEngine
from jpaged.policies import Orca
from jpaged.policies.buddy import Buddy
from jpaged.simulator.lengths import ALPACA, SHAREGPT


def of_rates(*rates: float) -> list[Served]:
    return [Served(rate, 4.0, 1) for rate in rates]


def test_every_round_has_the_same_lengths_and_other_tokens():
    one, other = (draw(ALPACA, 20, 2048, seed, shared=8) for seed in "ab")

    assert [(len(ask.prompt), ask.num_output) for ask in one] == [
        (len(ask.prompt), ask.num_output) for ask in other
    ]
    assert len({ask.prompt[:8] for ask in one}) == 1
    assert not {ask.prompt for ask in one} & {ask.prompt for ask in other}


def test_contestants_take_turns_and_the_first_round_does_not_count():
    told = []

    def contestant(name: str):
        def run(number: int) -> Served:
            told.append(f"{name}{number}")
            return Served(number, 1.0, 0)

        return run

    found = by_turns("", {"a": contestant("a"), "b": contestant("b")}, rounds=2)

    assert told == ["a-1", "b-1", "b0", "a0", "a1", "b1"]
    assert [served.rate for served in found["a"]] == [0, 1]


def test_a_ratio_is_the_median_of_each_rounds_ratio():
    # the machine was slow in the second round and very slow in the third
    found = {"ours": of_rates(8.0, 3.0, 1.5), "orca": of_rates(4.0, 2.0, 0.5)}

    assert summary(found, "orca")["ours"]["ratio"] == 2.0
    assert summary(found, "orca")["orca"] == {
        "rate": 2.0,
        "ratio": 1.0,
        "num_sequences": 4.0,
        "num_preempted": 1,
    }


def test_a_table_shows_ratios_beside_the_papers():
    found = {"basic": summary({"ours": of_rates(6.0), "orca": of_rates(4.0)}, "orca")}

    head, rows = rows_of(found, {"basic": "1.3"})

    assert head[:3] == ["times Orca's (oracle)", "paper", "ours"]
    assert rows == [["basic", "1.3", "**1.50**", "4 : 4"]]


@pytest.mark.parametrize("rows", [10, 20])
def test_orca_finds_pieces_for_six_beams_of_the_longest_request(rows):
    args = argparse.Namespace(rows=rows)
    found = {}
    for length in (longest(args), 2 * longest(args)):
        buddy = Buddy(16 * num_pages(args))
        found[length] = [buddy.give(length) for _ in range(6)]

    assert None not in found[longest(args)]
    assert None in found[2 * longest(args)]


def test_shorter_texts_keep_their_law():
    law = SHAREGPT.shortened(4, most=128)

    assert law.outputs.mean == SHAREGPT.outputs.mean / 4
    assert law.outputs.log_spread == SHAREGPT.outputs.log_spread
    assert law.prompts.most == law.outputs.most == 128


@pytest.mark.parametrize("kind", [{}, {"num_samples": 2}, {"beam_width": 2}])
def test_an_engine_under_orca_holds_fewer_at_a_time(kind):
    engine = LLMEngine(
        "demo", skip_tokenizer_init=True, use_tqdm_on_load=False, warmup="none", num_pages=16
    )
    asks = draw(ALPACA.shortened(4, 64), 24, engine.model.vocab, "a", **kind)
    served = {}
    for policy in (engine.scheduler.policy, Orca(beam_width=kind.get("beam_width", 1))):
        engine.scheduler.policy = policy
        served[type(policy).__name__] = serve(engine, asks)
    engine.close()

    assert served["Orca"].num_sequences < served["Fcfs"].num_sequences
    assert served["Orca"].num_preempted == 0
    assert all(each.rate > 0 for each in served.values())


def test_page_sizes_that_the_kernels_do_not_serve_are_left_to_xla(tmp_path: Path):
    script = tmp_path / "script.py"
    script.write_text(
        "import json, os, sys\n"
        "sizes = sys.argv[sys.argv.index('--sizes') + 1].split(',')\n"
        "switch = os.environ['JPAGED_CPU_KERNELS']\n"
        "print(json.dumps({'row': {size: {'is': switch} for size in sizes}}))\n"
    )
    args = argparse.Namespace(model="demo", quick=True, rounds=1, sequences=2, rows=10)

    head, rows = by_page_size("", both_ways(str(script), args), lambda each: each["is"])

    assert head == ["", "1", "4", "16", "64"]
    assert rows == [
        ["row, XLA", "off", "off", "off", "off"],
        ["row, C++", "", "", "on", "on"],
    ]
