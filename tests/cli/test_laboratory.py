"""`jpaged compare` and `jpaged replay`, run as a user runs them."""

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from jpaged import LLMEngine, SamplingParams
from jpaged.cli import main
from jpaged.simulator.specs import cost_model_of, workload_of

WORKLOAD = "poisson:rate=20,num_requests=30,prompt_len=50,output_len=20"
COMPARE = ["compare", "--policies", "fcfs,sarathi", "--workloads", WORKLOAD, "--seeds", "2"]
COST = ["--cost-model", "constant:step=0.02,token=1e-4"]


class Page(HTMLParser):
    """The pictures' labels and whatever the page would load."""

    def __init__(self, text: str):
        super().__init__()
        self.labels: list[str] = []
        self.loads: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        named = dict(attrs)
        self.labels += [str(named["aria-label"])] if tag == "svg" else []
        self.loads += [name for name, _ in attrs if name in ("src", "href")]


def test_policies_are_compared_in_a_table_and_on_a_page(capsys, tmp_path):
    path = tmp_path / "page.html"

    assert main([*COMPARE, *COST, "--measures", "ttft_p50,tpot_p99", "--out", str(path)]) == 0

    table = capsys.readouterr().out
    assert f"| {WORKLOAD} | fcfs |" in table and f"| {WORKLOAD} | sarathi |" in table
    page = Page(path.read_text())
    assert page.labels == [f"{name} under {WORKLOAD}" for name in ("ttft_p50", "tpot_p99")]
    assert page.loads == []
    assert path.read_text().count("<circle") == 4


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--policies", "fcfs,nonsense"], "no policy 'nonsense'"),
        (["--workloads", "poison:rate=1"], "no workload 'poison'; there are poisson"),
        (["--workloads", "poisson:rate"], "'rate' is no option; write name=value"),
        (["--workloads", "poisson:num_requests=3"], "missing .*'rate'; poisson takes rate, num_"),
        (["--cost-model", "roofline:model=llama-8b,gpu=Z80"], "no datasheet of 'Z80'"),
        (["--cost-model", "nothing"], "no cost model 'nothing'"),
        (["--measures", "speed"], "no measure speed; there are"),
        (["--option", "pages=3"], "pages"),
    ],
)
def test_what_cannot_be_compared_is_said_before_the_first_run(capsys, words, message):
    code = main([*COMPARE, *COST, *words])

    assert code == 1
    assert re.search(message, capsys.readouterr().err)


def test_a_trace_is_a_workload_too():
    trace = next((Path(__file__).parents[1] / "simulator" / "traces").glob("azure*"))
    assert list(workload_of(str(trace))(0)) == list(workload_of(str(trace))(1))
    assert cost_model_of("constant:step=0.5").host_seconds == 0.0


def test_a_recorded_run_is_done_again(capsys, tmp_path):
    path = tmp_path / "run.jsonl"
    options = {"max_num_seqs": 2, "max_num_batched_tokens": 16, "warmup": "none"}
    engine = LLMEngine("demo", use_tqdm_on_load=False, **options)
    with engine.record(path):
        engine.add_request("a", "Once upon a time", SamplingParams(max_tokens=6, seed=1))
        while engine.has_unfinished_requests():
            engine.step()
    engine.close()

    assert main(["replay", str(path)]) == 0
    assert "1 requests, 6 tokens: all as recorded" in capsys.readouterr().out
    assert main(["replay", str(path), "--until", "2"]) == 0
    assert "pages of 16 tokens" in capsys.readouterr().out
