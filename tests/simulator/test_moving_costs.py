"""What the roofline takes for pages that are swapped and copied, against arithmetic by hand."""

from dataclasses import replace

import pytest

from jpaged import ConfigError, SamplingParams
from jpaged.scheduling.cost import StepShape
from jpaged.simulator import GPUS, Roofline, simulate
from jpaged.simulator.workload import TimedRequest

TOKEN_8B = 131072  # bytes of keys and values: 32 layers x 2 x 8 heads x 128 x 2
PAGE_8B = 16 * TOKEN_8B  # 2 MiB
OPTIONS = {
    "max_model_len": 256,
    "max_num_seqs": 8,
    "num_pages": 24,
    "num_host_pages": 64,
    "preemption_mode": "swap",
}


def seconds_more(roofline: Roofline, **moved: int) -> float:
    still = StepShape(8, 8, 8000, 8000)
    return roofline.seconds(replace(still, **moved)) - roofline.seconds(still)


@pytest.mark.parametrize(("gpu", "host"), [("H200", 55e9), ("H100", 55e9), ("A100-80GB", 25e9)])
def test_swapped_pages_go_over_the_link_to_the_host(gpu, host):
    more = seconds_more(Roofline.of("llama-8b", gpu), num_moved=100, num_swapped=100)
    assert more == pytest.approx(100 * PAGE_8B / host)  # 3.8 ms, and 8.4 over PCIe 4


def test_copied_pages_are_read_and_written_in_the_gpus_memory():
    more = seconds_more(Roofline.of("llama-8b", "H200"), num_moved=100)
    assert more == pytest.approx(2 * 100 * PAGE_8B / (4.8e12 * 0.8))  # 0.11 ms


def test_what_is_copied_and_what_is_swapped_adds_up():
    roofline = Roofline.of("llama-8b", "H200")
    both = seconds_more(roofline, num_moved=7, num_swapped=3)
    apart = seconds_more(roofline, num_moved=3, num_swapped=3), seconds_more(roofline, num_moved=4)
    assert both == pytest.approx(sum(apart))


def test_each_of_several_gpus_moves_its_part():
    one, four = (Roofline.of("llama-8b", "H200", num_gpus=n) for n in (1, 4))
    moved = {"num_moved": 9, "num_swapped": 5}
    assert seconds_more(four, **moved) == pytest.approx(seconds_more(one, **moved) / 4)


def test_larger_pages_take_longer():
    small, large = (Roofline.of("llama-8b", page_size=size) for size in (16, 48))
    moved = {"num_moved": 9, "num_swapped": 5}
    assert seconds_more(large, **moved) == pytest.approx(3 * seconds_more(small, **moved))


def test_a_run_that_swaps_is_longer_by_what_its_pages_take():
    """All arrive at once, so both runs make the same steps."""
    workload = [TimedRequest(f"{i}", 0.0, (i,) * 40, 90) for i in range(12)]
    fast = replace(GPUS["H200"], host=55e9)
    slow = replace(fast, host=1e9)
    runs = [
        simulate("fcfs", workload, replace(Roofline.of("llama-8b"), gpu=gpu), **OPTIONS)
        for gpu in (fast, slow)
    ]

    swapped = [sum(r.pages_swapped_out + r.pages_swapped_in for r in run.records) for run in runs]
    assert swapped[0] == swapped[1] > 20
    longer = runs[1].records[-1].end - runs[0].records[-1].end
    assert longer == pytest.approx(swapped[0] * PAGE_8B * (1 / 1e9 - 1 / 55e9))


def test_samples_that_copy_pages_take_longer_too():
    """Three samples share a prompt that ends within a page: all but one copy it."""
    workload = [TimedRequest("a", 0.0, tuple(range(40)), 20, SamplingParams(n=3))]
    shapes: list[StepShape] = []

    class Spy(Roofline):
        def seconds(self, shape: StepShape) -> float:
            shapes.append(shape)
            return super().seconds(shape)

    spy = Spy.of("llama-8b")
    simulate("fcfs", workload, spy, max_model_len=256)

    assert sum(shape.num_moved for shape in shapes) == 2
    assert sum(shape.num_swapped for shape in shapes) == 0


def test_pages_are_of_the_size_that_the_roofline_counts_with():
    workload = [TimedRequest("a", 0.0, (1, 2, 3), 5)]
    roofline = Roofline.of("llama-8b", page_size=32)

    assert simulate("fcfs", workload, roofline).about["page_size"] == 32
    with pytest.raises(ConfigError, match="page_size is 8, the roofline moves pages of 32 tokens"):
        simulate("fcfs", workload, roofline, page_size=8)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"page_size": 0}, "page_size is a whole number of at least 1, not 0"),
        ({"pagesize": 8}, "a roofline has no option pagesize; there are num_gpus, compute"),
        ({"num_gpus": "two"}, "num_gpus is a whole number of at least 1, not 'two'"),
        ({"step": float("nan")}, "step is seconds, 0 or more, not nan"),
    ],
)
def test_options_that_cannot_be_are_refused(options, says):
    with pytest.raises(ConfigError, match=says):
        Roofline.of("llama-8b", **options)
