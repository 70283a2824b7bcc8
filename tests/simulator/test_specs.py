"""What one writes on a command line: read as it is meant, or refused with what is wrong."""

from pathlib import Path

import pytest

from jpaged import ConfigError
from jpaged.scheduling.terms import Terms
from jpaged.simulator import Constant, Roofline
from jpaged.simulator.model_shape import LLAMA_8B
from jpaged.simulator.roofline import GPUS
from jpaged.simulator.spaces import Choice, Range
from jpaged.simulator.specs import cost_model_of, options_of, space_of, workload_of
from jpaged.simulator.workload import (
    Tenant,
    Uniform,
    Zipf,
    from_trace,
    mix,
    poisson,
    shared_prefix_tree,
)
from jpaged.simulator.workload.request import PLAIN

TRACES = Path(__file__).parent / "traces"


def test_a_workload_is_a_function_with_its_options():
    make = workload_of("poisson:rate=4,num_requests=5,prompt_len=[3,4],output_len=7")
    assert list(make(3)) == poisson(4, 5, [3, 4], 7, seed=3)


def test_lengths_are_drawn_from_laws_that_are_written_as_in_python():
    laws = "prompt_len=Zipf(9,exponent=2),output_len=Uniform(3,9)"
    make = workload_of(f"poisson:rate=4,num_requests=5,{laws}")
    assert list(make(3)) == poisson(4, 5, Zipf(9, 2), Uniform(3, 9), seed=3)

    tree = "branching=[1,2],num_tokens=[9,Uniform(3,9)]"
    made = workload_of(f"shared_prefix_tree:rate=4,num_requests=5,{tree}")(3)
    assert list(made) == shared_prefix_tree(4, 5, [1, 2], [9, Uniform(3, 9)], seed=3)


def test_a_workload_says_whose_it_is_and_what_was_promised():
    told = "client=7,ttft=0.5,tpot=0.1,deadline=9,priority=2,foretold=True"
    for text in ("sessions:rate=4,num_sessions=2", f"{TRACES}/burstgpt.csv:limit=2"):
        for request in workload_of(f"{text},{told}")(0):
            for turn in request.turns:
                terms = turn.terms
                assert (terms.client, terms.ttft, terms.tpot, terms.deadline) == ("7", 0.5, 0.1, 9)
                assert (turn.priority, terms.predicted_tokens) == (2, turn.num_output)


def test_workloads_together_are_mixed():
    text = "poisson:rate=4,num_requests=5,client=a{}tenant:client=b,rate=9,begins=1,ends=2"
    asked = Tenant("b", 9, begins=1, ends=2).workload(3, PLAIN)
    expected = mix(poisson(4, 5, seed=3, terms=Terms(client="a")), asked)

    assert list(workload_of(text.format(" + "))(3)) == expected
    assert list(workload_of(text.format("+"))(3)) == expected
    assert {each.terms.client for each in expected} == {"a", "b"}


def test_sessions_go_as_far_as_the_engine_or_as_is_said():
    def longest(text: str) -> int:
        made = workload_of(f"sessions:rate=4,num_sessions=40{text}", max_len=5000)(0)
        return max(sum(turn.num_final for turn in first.turns) for first in made)

    assert 2048 < longest("") <= 5000 and longest(",max_len=2048") <= 2048


def test_a_trace_is_a_workload_that_is_the_same_for_every_seed():
    path = TRACES / "burstgpt.csv"
    make = workload_of(f"{path}:limit=4,speedup=2.0")

    assert make(0) == make(1) == from_trace(path, limit=4, speedup=2.0)
    assert list(workload_of(str(path))(0)) == from_trace(path)


def test_a_trace_is_as_long_as_the_engine_allows_or_as_is_said(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:00:00,900,200\n")

    with pytest.raises(
        ConfigError, match=r"t.csv:2: 1100 tokens .* the most is 1000 \(max_len, or"
    ):
        workload_of(str(path), max_len=1000)
    [request] = workload_of(f"{path}:too_long=cut", max_len=1000)(0)
    assert request.num_final == 1000
    [request] = workload_of(f"{path}:max_len=1100", max_len=1000)(0)
    assert request.num_final == 1100


def test_a_cost_model_is_a_class_with_its_options():
    assert cost_model_of("constant:step=0.02,token=1e-4") == Constant(0.02, 1e-4)
    roofline = cost_model_of("roofline:model=llama-8b,gpu=L40S,num_gpus=2,page_size=32")
    assert roofline == Roofline(LLAMA_8B, GPUS["L40S"], num_gpus=2, page_size=32)


def test_options_are_numbers_where_they_are_numbers():
    assert options_of(["max_num_seqs=4", "preemption_mode=swap", "num_host_pages=None"]) == {
        "max_num_seqs": 4,
        "preemption_mode": "swap",
        "num_host_pages": None,
    }


def test_a_space_is_ranges_and_choices():
    assert space_of(["chunk=64:1024:log", "aging=0.0:30", "n=1,2,4", "on=True,False"]) == {
        "chunk": Range(64, 1024, is_log=True),
        "aging": Range(0.0, 30),
        "n": Choice((1, 2, 4)),
        "on": Choice((True, False)),
    }


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "no workload ''; there are poisson, .*, or a trace file"),
        ("poison:rate=1", "no workload 'poison'; there are poisson"),
        ("nowhere.csv", "no workload 'nowhere.csv', nor such a file in /.*; there are poisson"),
        ("traces/a:limit=3", "no workload 'traces/a', nor such a file"),
        ("/", "no workload '/', which is a folder"),
        ("poisson", "lacks rate, num_requests; it takes rate, num_requests, prompt_len"),
        ("poisson:rate", "'poisson:rate': 'rate' is no option; write name=value"),
        ("poisson:=3", "'=3' is no option"),
        ("poisson:rate=4,speed=3", "poisson has no option 'speed'; it takes rate"),
        ("poisson:rate=4,rate=5", "rate is said twice, 4 and 5; drop one"),
        ("poisson:rate=4,num_requests=2,seed=1", "no option 'seed'"),
        ("poisson:rate=4,num_requests=2,tree=1", "no option 'tree'"),
        ("poisson:rate=4,num_requests=2,terms=1", "no option 'terms'"),
        ("poisson:rate=4,num_requests=2,ttft=-1", "2,ttft=-1': bad terms: ttft must be above 0"),
        ("poisson:rate=4,num_requests=2 + sesions:rate=1", "no workload 'sesions'"),
        ("tenant:client=a,rate=4", "tenant lacks ends; it takes rate, ends, begins"),
        (
            "poisson:rate=4,num_requests=2,prompt_len=Unifrom(3,9)",
            "there is no Unifrom; .* Uniform",
        ),
        ("poisson:rate=4,num_requests=2,prompt_len=Uniform(3)", "missing 1 required .* 'most'"),
        ("poisson:rate=4,num_requests=2,prompt_len=Uniform(9,3)", "least=9 is above most=3"),
        (f"{TRACES}/burstgpt.csv:speed=2", "has no option 'speed'; it takes kind, limit, speedup"),
        (f"{TRACES}/burstgpt.csv:speedup=fast", "speedup='fast'"),
        (f"{TRACES}/burstgpt.csv:kind=azure", "burstgpt.csv:2: .* azure lacks TIMESTAMP"),
    ],
)
def test_a_workload_that_is_none_is_refused(text, says):
    with pytest.raises(ConfigError, match=says):
        workload_of(text)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "no cost model ''; there are roofline, constant, or a table.json"),
        ("costs", "no cost model 'costs'"),
        ("nowhere.json", "there is no nowhere.json"),
        ("roofline", "roofline lacks model; it takes model, gpu, num_gpus, compute"),
        ("roofline:model=llama-8b,gpu=Z80", "no datasheet of 'Z80'; there are A100"),
        ("roofline:model=llama-8b,memory=3", "roofline has no option 'memory'; it takes model"),
        ("roofline:model=llama-9b", "'llama-9b' is no model's config.json .* llama-8b"),
        ("roofline:model=3", "'3' is no model's config.json"),
        ("roofline:model=llama-8b,num_gpus=two", "num_gpus is a whole number .* not 'two'"),
        ("roofline:model=llama-8b,num_gpus=1.5", "num_gpus is a whole number .* not 1.5"),
        ("roofline:model=llama-8b,compute=2", "compute is a share of a peak.* not 2"),
        ("roofline:model=llama-8b,step=-1", "step is seconds, 0 or more, not -1"),
        ("constant:step=slow", "'constant:step=slow': costs are seconds.*step='slow'"),
        ("constant:stp=1", "constant has no option 'stp'; it takes step, token"),
    ],
)
def test_a_cost_model_that_is_none_is_refused(text, says):
    with pytest.raises(ConfigError, match=says):
        cost_model_of(text)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("max_num_seqs", "'max_num_seqs' is no option; write name=value"),
        ("=3", "'=3' is no option"),
        ("pages=3", "an engine has no option 'pages'; it takes max_model_len, page_size"),
        ("router=round_robin", "no option 'router'"),
        ("policy=fcfs", "no option 'policy'"),
        ("cost_model=3", "no option 'cost_model'"),
        ("num_seeds=3", "no option 'num_seeds'"),
    ],
)
def test_an_option_that_is_none_is_refused(text, says):
    with pytest.raises(ConfigError, match=says):
        options_of([text])


@pytest.mark.parametrize(
    ("texts", "says"),
    [
        (["chunk"], "'chunk' is no parameter's range; write name=low:high"),
        (["=1:2"], "'=1:2' is no parameter's range"),
        (["chunk="], "'chunk=' is no parameter's range"),
        (["chunk=9:3"], "'chunk=9:3': a range goes up; 9 is not below 3"),
        (["chunk=1:9:exp"], "'chunk=1:9:exp': a range is low:high or low:high:log"),
        (["chunk=1:9:log:log"], "a range is low:high or low:high:log"),
        (["chunk=0:9:log"], "begins above 0, not at 0"),
        (["chunk=few:many"], "bounds of a range are numbers, not 'few', 'many'"),
        (["chunk=1:"], "bounds of a range are numbers, not 1, ''"),
        (["chunk=5"], "a choice is between two or more different values, not 5"),
        (["chunk=1:2", "chunk=3:4"], "chunk has two ranges, of which 'chunk=3:4' is the second"),
    ],
)
def test_a_space_that_is_none_is_refused(texts, says):
    with pytest.raises(ConfigError, match=says):
        space_of(texts)
