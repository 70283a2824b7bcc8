"""What is compiled when: before the first request, in the background, or when it is needed."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from engines import an_engine, greedily, last, num_held_pages, random_prompts, run, stats, tokens_of

from jpaged import ConfigError, LLMEngine, SamplingParams
from jpaged.config import EngineConfig
from jpaged.runner.program import StepProgram
from jpaged.scheduling.buckets import Bucket

EVENT = "/jax/core/compile/backend_compile_duration"
COMPILER = "jpaged-compiler"
TIGHT = {"num_pages": 36}  # 144 tokens for four sequences of up to 128: they will be preempted
ROWS = {2, 4}  # of the steps of such an engine
PROMPTS = random_prompts(300, 12)
SEEDED = [SamplingParams(seed=i, max_tokens=10, ignore_eos=True) for i in range(12)]
SCORED = greedily(6, logprobs=2, prompt_logprobs=1)


def build(folder: Path, **options: Any) -> LLMEngine:
    return an_engine(folder, **{**TIGHT, "jit_monitor": "error", **options})


def add_all(engine: LLMEngine) -> None:
    for number, (prompt, params) in enumerate(zip(PROMPTS, SEEDED, strict=True)):
        engine.add_request(str(number), prompt, params)


def said(engine: LLMEngine) -> list[list[int]]:
    """By everybody together, and by one alone who asks for more."""
    add_all(engine)
    outputs = last(engine)
    engine.add_request("scored", PROMPTS[0], SCORED)
    outputs |= last(engine)
    return tokens_of(outputs[name] for name in (*map(str, range(12)), "scored"))


def buckets_used(engine: LLMEngine) -> set[Bucket]:
    return {record.bucket for record in engine.records if record.bucket is not None}


def compilers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == COMPILER]


class Gate:
    """Holds the background compiler up at its `stop_at`-th step until it is opened."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, stop_at: int = 1):
        self.opened, self.reached = threading.Event(), threading.Event()
        self.stop_at = stop_at
        self.lowered: list[Bucket] = []  # in the background
        lower = StepProgram.lower

        def guarded(program: StepProgram, bucket: Bucket) -> jax.stages.Lowered:
            if threading.current_thread().name == COMPILER:
                self.lowered.append(bucket)
                self.wait()
            return lower(program, bucket)

        monkeypatch.setattr(StepProgram, "lower", guarded)

    def wait(self) -> None:
        if len(self.lowered) == self.stop_at:
            self.reached.set()
            assert self.opened.wait(timeout=60)


@pytest.fixture(autouse=True)
def no_compiler_is_left_behind() -> Iterator[None]:
    for thread in compilers():  # other tests' engines may still be at it
        thread.join()
    yield
    assert compilers() == []


@pytest.fixture
def gate(monkeypatch, no_compiler_is_left_behind) -> Iterator[Gate]:
    gate = Gate(monkeypatch)
    yield gate
    gate.opened.set()


@pytest.fixture
def compilations() -> Iterator[list[str]]:
    """What JAX itself says about compilations, on any thread."""
    seen: list[str] = []

    def note(event: str, duration_secs: float, **kwargs: str | int) -> None:
        if event == EVENT:
            seen.append(threading.current_thread().name)

    jax.monitoring.register_event_duration_secs_listener(note)
    yield seen
    jax.monitoring.unregister_event_duration_listener(note)


@pytest.fixture(scope="module")
def full(tiny_llama) -> Iterator[LLMEngine]:
    engine = build(tiny_llama, warmup="full")
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def expected(full) -> list[list[int]]:
    return said(full)


def test_full_compiles_everything_before_the_first_request(full, expected):
    compiled, buckets = full.executor.compiled, full.executor.buckets
    assert len(buckets.all) == 4
    assert set(compiled.steps) == set(buckets.all)
    assert set(compiled.resamples) == ROWS == {b.num_sequences for b in buckets.all}
    assert compiled.score is not None and compiled.is_complete
    # what is said below takes smaller steps than the largest
    assert buckets_used(full) == set(buckets.all)


def test_none_compiles_nothing_before_and_then_what_is_needed(tiny_llama, expected):
    engine = build(tiny_llama, warmup="none")
    compiled = engine.executor.compiled
    assert (compiled.steps, compiled.resamples, compiled.score) == ({}, {}, None)

    engine.add_request("a", [5, 6, 7], greedily(4))
    assert len(last(engine)) == 1

    assert set(compiled.steps) == buckets_used(engine)
    assert (len(compiled.steps), compiled.resamples, compiled.score) == (2, {}, None)
    assert said(engine) == expected
    assert set(compiled.steps) == buckets_used(engine)
    assert compiled.resamples and compiled.score is not None
    assert not compiled.is_complete and engine.num_late_compilations == 0
    engine.close()


def test_minimal_compiles_the_largest_step_of_each_kind_before(tiny_llama, gate):
    engine = build(tiny_llama, warmup="minimal")
    compiled, buckets = engine.executor.compiled, engine.executor.buckets
    assert gate.reached.wait(timeout=60)

    assert set(compiled.steps) == {buckets.decode[-1], buckets.mixed[-1]}
    assert (compiled.resamples, compiled.score, compiled.is_complete) == ({}, None, False)

    gate.opened.set()
    compiled.wait()
    assert set(compiled.steps) == set(buckets.all)
    assert set(compiled.resamples) == ROWS
    assert compiled.score is not None and compiled.is_complete
    engine.close()


def test_larger_steps_serve_until_the_right_ones_are_there(tiny_llama, gate, expected):
    engine = build(tiny_llama, warmup="minimal")
    largest = {engine.executor.buckets.decode[-1], engine.executor.buckets.mixed[-1]}
    assert gate.reached.wait(timeout=60)

    assert said(engine) == expected

    assert buckets_used(engine) == largest
    gate.opened.set()
    engine.executor.compiled.wait()
    engine.records.clear()
    assert said(engine) == expected
    assert buckets_used(engine) > largest
    assert engine.num_late_compilations == 0
    engine.close()


def test_steps_are_compiled_while_requests_are_served(tiny_llama, gate, expected):
    """Each is let through between two steps of the engine."""
    engine = build(tiny_llama, warmup="minimal")
    compiled, buckets = engine.executor.compiled, engine.executor.buckets
    assert gate.reached.wait(timeout=60)
    add_all(engine)
    for _ in range(4):
        engine.step()
    assert len(compiled.steps) == 2

    gate.opened.set()
    outputs = last(engine)
    while len(compiled.steps) < len(buckets.all):
        engine.add_request("more", PROMPTS[3], SEEDED[3])
        outputs["3"] = last(engine)["more"]
        assert tokens_of([outputs["3"]]) == [expected[3]]

    assert tokens_of(outputs[str(number)] for number in range(12) if number != 3) == (
        expected[:3] + expected[4:12]
    )
    engine.close()
    assert engine.num_late_compilations == 0


def test_what_is_asked_for_meanwhile_is_not_called_late(tiny_llama, gate, compilations):
    engine = build(tiny_llama, warmup="minimal")
    assert gate.reached.wait(timeout=60)
    compilations.clear()

    engine.add_request("scored", PROMPTS[0], SCORED)
    assert len(last(engine)) == 1

    # a scorer, and choosing again for the rows of the two largest steps
    assert compilations == ["MainThread"] * 2
    assert engine.num_late_compilations == 0
    gate.opened.set()
    engine.close()


def odd_params(rng: np.random.Generator) -> SamplingParams:
    def sometimes(value: Any, otherwise: Any) -> Any:
        return value if rng.random() < 0.3 else otherwise

    return SamplingParams(
        n=sometimes(2, 1),
        temperature=sometimes(0.0, 1.0),
        top_k=sometimes(5, 0),
        seed=int(rng.integers(2**40)),
        presence_penalty=sometimes(0.5, 0.0),
        stop=sometimes(["the", "  "], None),
        max_tokens=int(rng.integers(1, 20)),
        logprobs=sometimes(int(rng.integers(0, 21)), None),
        prompt_logprobs=sometimes(int(rng.integers(0, 21)), None),
        logit_bias=sometimes({9: 2.0}, None),
        bad_words=sometimes(["fox"], None),
    )


def test_a_storm_compiles_nothing_once_the_background_is_done(tiny_llama, compilations):
    engine = build(tiny_llama, warmup="minimal")
    engine.executor.compiled.wait()
    compilations.clear()
    rng = np.random.default_rng(1)

    num_preempted = 0
    for number, prompt in enumerate(random_prompts(301, 40, shortest=1, longest=110)):
        engine.add_request(str(number), prompt, odd_params(rng))
        engine.step()
        if number % 9 == 8:
            engine.abort_request(str(number - rng.integers(8)))
    for outputs in run(engine).values():
        num_preempted += stats(outputs[-1]).num_preemptions

    assert compilations == []
    assert engine.num_late_compilations == 0 and num_held_pages(engine) == 0
    assert num_preempted > 0, "the storm was too mild"
    engine.close()


@pytest.mark.parametrize("stop_at", [1, 2])
def test_closing_stops_the_background_compiler_after_its_present_step(
    tiny_llama, monkeypatch, stop_at
):
    gate = Gate(monkeypatch, stop_at)
    engine = build(tiny_llama, warmup="minimal")
    assert gate.reached.wait(timeout=60)
    (compiler,) = compilers()
    add_all(engine)
    engine.step()
    opening = threading.Timer(0.1, gate.opened.set)
    opening.start()

    engine.close()

    assert gate.opened.is_set() and not compiler.is_alive()
    assert len(gate.lowered) == stop_at
    assert not engine.executor.compiled.is_complete
    assert not engine.executor.compiled.steps
    engine.close()
    opening.join()


@pytest.mark.parametrize("warmup", ["none", "minimal", "full"])
def test_closing_at_once_leaves_no_thread(tiny_llama, warmup):
    before = set(threading.enumerate())
    engine = build(tiny_llama, warmup=warmup)
    engine.close()
    new = {thread.name for thread in set(threading.enumerate()) - before}
    assert new <= {"tqdm_monitor"}


def test_a_step_that_cannot_be_compiled_is_replaced_by_larger_ones(
    tiny_llama, monkeypatch, caplog, expected
):
    lower = StepProgram.lower

    def broken(program: StepProgram, bucket: Bucket) -> jax.stages.Lowered:
        if threading.current_thread().name == COMPILER:
            raise jax.errors.JaxRuntimeError(f"no memory for {bucket}")
        return lower(program, bucket)

    monkeypatch.setattr(StepProgram, "lower", broken)
    engine = build(tiny_llama, warmup="minimal")
    compiled, buckets = engine.executor.compiled, engine.executor.buckets
    compiled.wait()

    assert said(engine) == expected

    assert set(compiled.steps) == {buckets.decode[-1], buckets.mixed[-1]}
    (warning,) = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert "could not be compiled, larger ones serve: no memory for T2·B2" in warning
    assert engine.num_late_compilations == 0
    engine.close()


@pytest.mark.parametrize("value", ["some", "FULL", "", None, True, 2, []])
def test_a_warmup_that_does_not_exist_is_refused(value):
    message = f"warmup must be one of none, minimal, full, not {value!r}"
    with pytest.raises(ConfigError) as refused:
        EngineConfig("any", warmup=value)
    assert str(refused.value) == message


def test_minimal_is_the_default():
    assert EngineConfig("any").warmup == "minimal"


# The end of a process

SCRIPT = """
import json, sys, threading
import jax
from jpaged import LLM, SamplingParams

def note(event, duration_secs, **kwargs):
    if event == {event!r}:
        print("compiled", flush=True)

llm = LLM(
    sys.argv[1], skip_tokenizer_init=True, page_size=4, num_pages=256, max_num_seqs=64,
    max_num_batched_tokens=512, use_tqdm_on_load=False,
)
prompt = {{"prompt_token_ids": [5, 6, 7]}}
out = llm.generate(prompt, SamplingParams(temperature=0, max_tokens=3), use_tqdm=False)
jax.monitoring.register_event_duration_secs_listener(note)
alive = [t.name for t in threading.enumerate()]
print(json.dumps([out[0].outputs[0].token_ids, alive]), flush=True)
{ending}
"""


@pytest.mark.parametrize("ending, code", [("", 0), ("sys.exit(3)", 3), ("raise KeyError('oh')", 1)])
def test_a_process_ends_although_its_compiler_is_at_work(tiny_llama, full, ending, code):
    full.add_request("a", [5, 6, 7], SamplingParams(temperature=0, max_tokens=3))
    environment = {
        **os.environ,
        "JAX_COMPILATION_CACHE_DIR": "",  # or all would be there at once
        "XLA_FLAGS": "--xla_llvm_disable_expensive_passes=true",
    }

    process = subprocess.run(
        [sys.executable, "-c", SCRIPT.format(event=EVENT, ending=ending), str(tiny_llama)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )

    lines = process.stdout.splitlines()
    tokens, alive = json.loads(lines[0])
    assert process.returncode == code, process.stderr
    assert [tokens] == tokens_of(last(full).values())
    assert COMPILER in alive, "it was done already: nothing was tried"
    assert len(lines[1:]) <= 2, "it went on after the end"
    assert ("KeyError: 'oh'" in process.stderr) == (code == 1)
    assert process.stderr == "" or code == 1
