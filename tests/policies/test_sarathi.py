"""Chunked prompts beside decodes.  Headline: no spikes in the time between tokens, which prompts
make that run whole before them, at about the same throughput (Agrawal et al., OSDI 2024, figure 1
and section 5: up to 2.6 times the load within the same bound on the 99th percentile)."""

from itertools import pairwise

from jpaged.policies import Fcfs, PrefillFirst, Sarathi
from jpaged.scheduling.cost import StepShape
from jpaged.simulator import Result, Roofline, simulate
from jpaged.simulator.lengths import Conversations, Lengths
from jpaged.simulator.workload import generate

# long prompts that keep coming while others talk
LAW = Conversations("documents", Lengths(800, 0.8, 1500), Lengths(150, 0.7, 500))
COST = Roofline.of("llama-8b", "A100-80GB")


def served(policy, rate: float) -> Result:
    return simulate(policy, generate(LAW, 120, rate, seed=0), COST, max_num_seqs=64, num_pages=8000)


def gaps(result: Result) -> list[float]:
    """Seconds between tokens of one sequence, of all of them, the shortest first."""
    times = (each.token_times for each in result.ended)
    return sorted(after - before for each in times for before, after in pairwise(each))


def test_the_spikes_in_time_between_tokens_are_gone():
    whole, chunked = gaps(served(PrefillFirst(), 6.0)), gaps(served(Sarathi(256), 6.0))
    at = int(0.99 * len(whole))

    # 2048 tokens of prompts take 0.12 s on this device, 256 take 0.02 s
    assert whole[at] > 4 * chunked[at]
    assert whole[-1] > 6 * chunked[-1]
    # a typical gap is a decode step in both
    assert whole[len(whole) // 2] < 1.2 * chunked[len(chunked) // 2]


def test_no_gap_is_longer_than_a_step_of_one_chunk():
    longest = COST.seconds(shape_of(512)) + COST.host_seconds

    assert gaps(served(Sarathi(512), 6.0))[-1] < 1.1 * longest
    assert gaps(served(Fcfs(), 6.0))[-1] > 2 * longest


def test_throughput_stays_about_the_same():
    whole, chunked = (
        served(policy, 1000.0).summary()["tokens_per_second"]
        for policy in (PrefillFirst(), Sarathi(512))
    )

    assert chunked > 0.9 * whole


def shape_of(num_tokens: int) -> StepShape:
    """A step of so many tokens of prompts beside 64 sequences of the longest."""
    return StepShape(num_tokens, 64, num_read=64 * 2000, num_pairs=num_tokens * 2000)
