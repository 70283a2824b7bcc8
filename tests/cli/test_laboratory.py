"""`jpaged compare`, `search` and `replay`, run as a user runs them."""

import json
import re
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

from jpaged import ConfigError, LLMEngine, SamplingParams
from jpaged.cli import main
from jpaged.cli.options import engine_options
from jpaged.cli.parser import build_parser
from jpaged.policies import NAMES as POLICIES
from jpaged.scheduling.buckets import Bucket
from jpaged.simulator.measures import MEASURES
from jpaged.simulator.routers import NAMES as ROUTERS
from jpaged.simulator.specs import ASKED, WORKLOADS, cost_model_of, workload_of
from jpaged.simulator.table import FromTable, Row

WORKLOAD = "poisson:rate=20,num_requests=30,prompt_len=[20,700],output_len=20"
COMPARE = ["compare", "--policies", "fcfs,sarathi", "--workloads", WORKLOAD, "--seeds", "2"]
COST = ["--cost-model", "constant:step=0.02,token=1e-4"]
SEARCH = ["search", "--policy", "sarathi", "--space", "chunk=16:256:log", "--workloads", WORKLOAD]
FEW = ["--trials", "4", "--seeds", "2", "--held-out-seeds", "2"]
AZURE = "TIMESTAMP,ContextTokens,GeneratedTokens\n"
MINE = """
from jpaged.policies import Fcfs
from jpaged.simulator import Router

class Narrow(Fcfs):
    def __init__(self, width: int = 1, more: int = 0):
        self.width = width + more

    def propose(self, view):
        return list(super().propose(view))[: self.width]

class First(Router):
    def route(self, replicas, request):
        return 0
"""
BURST = "Timestamp,Request tokens,Response tokens\n"
AT = "2023-11-16 18:00:00"
HASHED = {"timestamp": 2, "input_length": 600, "output_length": 5, "hash_ids": [0, 1]}


class Page(HTMLParser):
    """The pictures' labels and whatever the page would load."""

    def __init__(self, text: str):
        super().__init__()
        self.labels: list[str] = []
        self.loads: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        named = dict(attrs)
        self.labels += [str(named["aria-label"])] if tag == "svg" and "aria-label" in named else []
        self.loads += [str(value) for name, value in attrs if name in ("src", "href")]


def test_policies_are_compared_in_a_table_and_on_a_page(capsys, tmp_path):
    path = tmp_path / "page.html"

    assert main([*COMPARE, *COST, "--measures", "ttft_p50,tpot_p99", "--out", str(path)]) == 0

    table = capsys.readouterr().out
    assert f"| {WORKLOAD} | fcfs |" in table and f"| {WORKLOAD} | sarathi |" in table
    page = Page(path.read_text())
    assert page.labels == [f"{name} under {WORKLOAD}" for name in ("ttft_p50", "tpot_p99")]
    assert not [each for each in page.loads if each[0] != "#" and each != "data:,"]
    assert path.read_text().count("<circle") == 4


def test_parameters_are_searched_for_and_shown_on_a_page(capsys, tmp_path):
    path = tmp_path / "page.html"
    words = ["--measure", "ttft_mean", "--constraint", "tpot_p99<9", "num_refused<1"]

    assert main([*SEARCH, *COST, *FEW, *words, "--out", str(path)]) == 0

    said = capsys.readouterr().out
    chunk = re.search(r"sarathi: chunk=(\d+), by default 512\n4 trials\n", said)
    assert chunk and 16 <= int(chunk[1]) <= 512
    assert f"| {WORKLOAD} | default |" in said and f"| {WORKLOAD} | best |" in said
    page = Page(path.read_text())
    assert {"ttft_mean of each trial", "ttft_mean over chunk"} <= set(page.labels)
    assert not [each for each in page.loads if each[0] != "#" and each != "data:,"]


def test_several_clients_are_served_by_ones_own_policy_and_router(capsys, tmp_path):
    """All that can be said in a shell, said together."""
    path = tmp_path / "mine.py"
    path.write_text(MINE)
    workload = f"{WORKLOAD},client=a,ttft=0.2 + {WORKLOAD},client=b"
    words = ["compare", "--policies", f"fcfs,{path}:Narrow:width=2,more=1", "sarathi:chunk=64"]
    words += ["--routers", f"round_robin,{path}:First", "--option", "num_replicas=2"]
    measures = "ttft_max@a,goodput@a,ttft_max"

    code = main([*words, *COST, "--workloads", workload, "--seeds", "1", "--measures", measures])

    said = capsys.readouterr()
    assert code == 0, said.err
    rows = [line.split(" | ")[1] for line in said.out.splitlines()[2:]]
    rivals = ("fcfs", f"{path}:Narrow:width=2,more=1", "sarathi:chunk=64")
    assert rows == [f"{a} @ {b}" for b in ("round_robin", f"{path}:First") for a in rivals]
    assert "nan" not in said.out


def test_parameters_of_ones_own_policy_are_searched_for(capsys, tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(MINE)
    words = ["search", "--policy", f"{path}:Narrow:more=1", "--space", "width=1:3", *FEW, *COST]
    words += ["--workloads", WORKLOAD, "--router", "least_loaded", "--option", "num_replicas=2"]

    assert main(words) == 0
    said = capsys.readouterr().out
    assert f"{path}:Narrow:more=1: width=3, by default 1\n" in said
    assert "width=3 is at an end of its range (1 to 3): better ones may lie beyond it." in said


@pytest.mark.parametrize("command", ["compare", "search"])
def test_help_lists_what_there_is_with_its_defaults(capsys, command):
    with pytest.raises(SystemExit):
        main([command, "--help"])

    said = " ".join(capsys.readouterr().out.split())
    assert all(f" {name}" in said for name in (*POLICIES, *ROUTERS, *WORKLOADS, *MEASURES, *ASKED))
    assert "sarathi:chunk=512 " in said and "poisson:rate=…, num_requests=…, prompt_len=" in said
    assert "(default 5)" in said and "(default roofline:model=llama-8b,gpu=H200)" in said


def test_an_engine_takes_ones_own_policy_too(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(MINE)

    def policy_of(*flags: str):
        args = build_parser().parse_args(["generate", "demo", "hi", *flags])
        return engine_options(args).get("policy")

    found = policy_of("--policy", f"{path}:Narrow:width=3")
    assert (type(found).__name__, vars(found)["width"]) == ("Narrow", 3)
    assert policy_of("--policy", "srpt") == "srpt" and policy_of() is None
    with pytest.raises(ConfigError, match="has no 'Wide'; there is Narrow"):
        policy_of("--policy", f"{path}:Wide")
    with pytest.raises(SystemExit):
        policy_of("--policy", "fairest")


def test_a_search_of_a_trace_is_measured_on_another(capsys):
    traces = Path(__file__).parents[1] / "simulator" / "traces"
    words = ["search", "--policy", "sarathi", "--space", "chunk=64:512", "--trials", "1", *COST]
    trace = f"{traces}/azure_2023.csv:limit=5"

    assert main([*words, "--workloads", trace]) == 1
    assert "is the same for every seed" in capsys.readouterr().err
    other = f"{traces}/burstgpt.csv:limit=5"
    assert main([*words, "--workloads", trace, "--held-out", other]) == 0
    assert f"| {other} | best |" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--policies", "fcfs,nonsense"], "no policy 'nonsense'"),
        (["--policies", "nowhere.py:Mine"], "there is no file nowhere.py"),
        (["--policies", "sarathi:chunks=3"], "sarathi has no option 'chunks'; it takes chunk"),
        (["--routers", "freest"], "freest has one replica .* --option num_replicas=4"),
        (["--routers", "freset", "--option", "num_replicas=2"], "no router 'freset' .did you mean"),
        (["--measures", "ttft_max@a"], "no workload has a client a; there are none; name them"),
        (["--workloads", "poison:rate=1"], "no workload 'poison'; there are poisson"),
        (["--workloads", "poisson:rate"], "'rate' is no option; write name=value"),
        (["--workloads", "poisson:num_requests=3"], "poisson lacks rate; it takes rate, num_"),
        (
            ["--workloads", "poisson:rate=fast,num_requests=3"],
            "rate=fast.*', seed 0: .*rate='fast'",
        ),
        (["--workloads", f"{WORKLOAD},output_len=9999"], "output_len is said twice"),
        (["--workloads", WORKLOAD, WORKLOAD], "workload poisson.* is named twice; drop one"),
        (["--workloads", "poisson:rate=9,num_requests=9,output_len=5000"], "max_model_len=8192"),
        (["--policies", "fcfs,sarathi,fcfs"], "policy fcfs is named twice"),
        (["--policies", "fcfs,"], "no policy ''; there are fcfs"),
        (["--cost-model", "roofline:model=llama-8b,gpu=Z80"], "no datasheet of 'Z80'"),
        (["--cost-model", "nothing"], "no cost model 'nothing'"),
        (["--measures", "speed"], "no measure speed; there are"),
        (["--option", "pages=3"], "an engine has no option 'pages'; it takes max_model_len"),
        (["--option", "router=round_robin"], "an engine has no option 'router'"),
        (["--option", "max_num_seqs=few"], "max_num_seqs must be a whole number .* not 'few'"),
        (["--option", "num_pages=1"], "1 pages of 16 tokens do not hold one sequence of 2048"),
        (["--option", "num_replicas=two"], "num_replicas must be a whole number .* not 'two'"),
        (["--seeds", "0"], "needs a policy, a workload and a seed"),
        (["--out", "/nowhere/page.html"], "--out /nowhere/page.html: there is no folder /nowhere"),
        (["--out", "/"], "--out / is a folder; name a file in it"),
    ],
)
def test_what_cannot_be_compared_is_said_before_the_first_run(capsys, words, message):
    code = main([*COMPARE, *COST, *words])

    assert code == 1
    assert re.search(message, capsys.readouterr().err)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--policy", "sarahti"], "no policy 'sarahti' .did you mean 'sarathi'.*; there are fcfs"),
        (["--policy", "fcfs"], "fcfs has no parameter chunk; it takes none"),
        (["--space", "chunks=3:9"], r"no parameter chunks .did you mean 'chunk'.*default 512"),
        (["--space", "chunk=9:3"], "'chunk=9:3': a range goes up; 9 is not below 3"),
        (["--space", "chunk"], "'chunk' is no parameter's range; write name=low:high"),
        (["--measure", "speed"], "no measure speed; there are"),
        (["--constraint", "tpot_p99=3"], "'tpot_p99=3' is no constraint; write one like"),
        (["--trials", "0"], "'num_trials': 0"),
        (["--workloads", "poison:rate=1"], "no workload 'poison'"),
        (["--held-out", "poison:rate=1"], "no workload 'poison'"),
        (["--cost-model", "nothing"], "no cost model 'nothing'"),
        (["--option", "pages=3"], "an engine has no option 'pages'"),
        (["--out", "/nowhere/page.html"], "there is no folder /nowhere"),
    ],
)
def test_what_cannot_be_searched_is_said_before_the_first_run(capsys, words, message):
    code = main([*SEARCH, *COST, *words])

    assert code == 1
    assert re.search(message, capsys.readouterr().err)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "trace is empty: it has no rows"),
        ("time,in,out\n1,2,3\n", "trace:2: time, in, out are no columns of a known trace"),
        (AZURE + f"{AT},5\n", "trace:2: GeneratedTokens is missing"),
        (AZURE + f"{AT},0,6\n", "trace:2: ContextTokens is 0; a whole number of 1 or more"),
        (AZURE + f"{AT},5,6\n2023-11-16 17:59:59,5,6\n", "trace:3: it came before .*; sort"),
        (AZURE + f"{AT},5,6\n{AT},9000,6\n", "trace:3: 9006 tokens .* the most is 2048"),
        (BURST + "-1,5,6\n", "trace:2: Timestamp is -1; times are 0 or more"),
        (BURST + "1,0,6\n", "trace:2: Request tokens is 0"),
        (BURST + "2,5,6\n1,5,6\n", "trace:3: it came before"),
        (json.dumps(HASHED | {"timestamp": -1}), "trace:1: timestamp is -1"),
        (json.dumps(HASHED | {"output_length": 0}), "trace:1: output_length is 0"),
        (f"{json.dumps(HASHED)}\n{json.dumps(HASHED | {'timestamp': 1})}", "trace:2: it came be"),
        (json.dumps(HASHED | {"hash_ids": [1]}), "neither 512 .mooncake. nor 16 tokens .timed_tr"),
        ("{", "trace:1: no JSON"),
    ],
)
def test_a_trace_that_is_none_is_named_with_its_line(capsys, tmp_path, text, message):
    path = tmp_path / "trace"
    path.write_text(text)

    assert main(["compare", "--policies", "fcfs", "--workloads", str(path), *COST]) == 1
    assert re.search(message, capsys.readouterr().err)


def test_a_cost_table_of_another_engine_or_model_is_named_with_what_differs(capsys, tmp_path):
    rows = {Bucket(8, 8, 32): Row(2e-3, 1e-4), Bucket(64, 8, 32): Row(4e-3, 5e-5)}
    engine = {"max_model_len": 512, "max_num_seqs": 8, "max_num_batched_tokens": 64}
    path = str(tmp_path / "costs.json")
    FromTable(rows=rows, of_model="tiny", engine=engine, shape={"width": 32}).save(path)

    assert main([*COMPARE, "--cost-model", path, "--option", "max_num_seqs=16"]) == 1
    assert "of tiny does not fit: max_num_seqs is 16, measured was 8" in capsys.readouterr().err
    flags = [f"--{name.replace('_', '-')}={value}" for name, value in engine.items()]
    assert main(["validate", "demo", "--costs", path, "--warmup", "none", *flags]) == 1
    assert "the model's width is 256, measured was 32" in capsys.readouterr().err


def test_what_an_extra_would_bring_is_said(capsys, monkeypatch):
    monkeypatch.delitem(sys.modules, "jpaged.cli.search", raising=False)
    monkeypatch.delitem(sys.modules, "jpaged.simulator.search", raising=False)
    monkeypatch.setitem(sys.modules, "optuna", None)  # as if it were not there

    assert main([*SEARCH, *COST]) == 1
    assert "optuna" in (said := capsys.readouterr().err) and "jpaged[lab]" in said


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
