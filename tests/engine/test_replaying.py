"""A recorded run, done again: step by step, to the same tokens, and from any step on otherwise."""

import json
import random
import time
from pathlib import Path
from typing import Any

import pytest
from engines import an_engine, greedily, random_prompts

from jpaged import BeamSearchParams, LLMEngine, Replay, ReplayDiverged, RequestRejected
from jpaged import SamplingParams as Params
from jpaged.policies import Fcfs, Policy, ShortestFirst
from jpaged.simulator import Constant

SIZES = {"num_pages": 24, "max_model_len": 72, "num_host_pages": 30, "warmup": "minimal"}
QUIET: Any = {"use_tqdm_on_load": False}


class Drawing(Policy):
    """Draws lots for everything there is to decide."""

    def propose(self, view):
        everyone = [*view.running, *view.waiting]
        view.random.shuffle(everyone)
        yield from ((each, view.random.choice((1, 3, 50))) for each in everyone)

    def victim(self, view):
        return view.random.choice(view.running)

    def wants_swap(self, view, victim):
        return view.random.random() < 0.5


def serve(engine: LLMEngine, steps: random.Random, searches: bool) -> dict[str, Any]:
    """Requests that come and go as they like, for as long as it takes."""
    prompts = random_prompts(900, 12, shortest=5, longest=30)
    said: dict[str, Any] = {}
    for index, prompt in enumerate(prompts):
        kinds = (greedily(20), Params(n=2, seed=index, max_tokens=15), Params(max_tokens=12))
        kind = kinds[index % 3]
        engine.add_request(f"{index}", prompt, kind, priority=index % 2)
        if searches and index == 3:
            engine.add_beam_search("beams", prompt, BeamSearchParams(3, 10, ignore_eos=True))
            engine.add_request("steered", prompt, greedily(10, logprobs=3), steered=True)
        if searches and index == 5:
            engine.fork("5", "branch", seed=8)
        if index == 7:
            engine.abort_request(["6"])
            engine.set_policy("shortest")
        if index == 9:
            engine.reset_prefix_cache()
            engine.snapshot()
        for _ in range(steps.randint(0, 4)):
            said |= step(engine)
    while engine.has_unfinished_requests():
        said |= step(engine)
    return said


def step(engine: LLMEngine) -> dict[str, Any]:
    said = {}
    for output in engine.step():
        sample = output.outputs[0]
        if output.request_id == "steered" and not output.finished and sample.candidates:
            engine.extend("steered", next(iter(sample.candidates)))
        said[output.request_id] = told(output)
    return said


def told(output: Any) -> list[tuple]:
    return [(s.index, tuple(s.token_ids), s.text, s.finish_reason) for s in output.outputs]


def record(
    folder: Path, path: Path, policy: Any = "fcfs", searches: bool = True, **options: Any
) -> dict[str, Any]:
    engine = an_engine(folder, policy=policy, **{**SIZES, **options})
    engine.add_request("before", [5, 6, 7], greedily(4))  # it may have served before
    while engine.has_unfinished_requests():
        engine.step()
    with engine.record(path):
        said = serve(engine, random.Random(3), searches)
    engine.close()
    return said


@pytest.mark.parametrize("ahead", [False, True], ids=["in step", "one step ahead"])
@pytest.mark.parametrize("policy", [Fcfs, Drawing])
def test_a_run_comes_out_as_it_did(tiny_llama, tmp_path, policy, ahead):
    path = tmp_path / "run.jsonl"
    said = record(tiny_llama, path, policy(), async_scheduling=ahead)

    with Replay(path, policy=None if policy is Fcfs else policy(), **QUIET) as replay:
        again = {name: told(output) for name, output in replay.run().items()}
        records = replay.engine.records
        assert replay.engine.scheduler.pool.num_held == 0

    assert again == said
    assert sum(each.num_preemptions for each in [replay.engine.stats().counts]) > 0
    assert len(records) == replay.num_steps > 40


@pytest.fixture(scope="module")
def recording(tiny_llama, tmp_path_factory) -> tuple[Path, dict[str, Any]]:
    path = tmp_path_factory.mktemp("recording") / "run.jsonl"
    return path, record(tiny_llama, path, searches=False)


@pytest.mark.parametrize("until", [3, 17])
def test_from_any_step_it_may_go_its_own_way(recording, until):
    path, said = recording
    with Replay(path, **QUIET) as replay:
        replay.run(until=until)
        before = set(replay.outputs)
        in_flight = {s.request.id for s in replay.engine.scheduler.queues} | before
        with replay.branch(ShortestFirst()) as other:
            assert type(other.scheduler.policy) is ShortestFirst
            again: dict[str, Any] = {}
            while other.has_unfinished_requests():
                again |= step(other)
        # whoever decides, the tokens are the same, and who comes later never came
        assert {name: said[name] for name in again if name != "6"} == {
            name: tokens for name, tokens in again.items() if name != "6"
        }
        assert again and again.keys() <= in_flight
        with pytest.raises(ReplayDiverged, match="begin anew"):
            replay.run()


def test_branches_go_on_from_the_recorded_instant(recording, tmp_path):
    """Of a machine whose clock shows a day more; and all of them, however long the first ran."""
    lines = [json.loads(line) for line in recording[0].read_text().splitlines()]
    for line in lines:
        if "request" in line:
            line["request"]["arrival"] += 86_400
        line |= {"times": [time + 86_400 for time in line["times"]]} if "times" in line else {}
    path = tmp_path / "before.jsonl"
    path.write_text("\n".join(map(json.dumps, lines)))

    with Replay(path, **QUIET) as replay:
        replay.run(until=10)
        for policy in (Fcfs(), ShortestFirst()):
            begun = time.monotonic()
            with replay.branch(policy) as other:
                instant = replay.engine.records[-1].end  # a step that was under way has ended
                while other.has_unfinished_requests():
                    other.step()
                start, ended = other.records[0].start, list(other.ended)
            assert 0 <= start - instant < time.monotonic() - begun
            assert ended and all(0 < each.latency < 3600 for each in ended if each.latency)


def test_the_rest_may_be_simulated_under_another_policy(recording):
    path, said = recording
    results = []
    for policy in (Fcfs(), ShortestFirst()):
        with Replay(path, **QUIET) as replay:
            replay.run(until=10)
            in_flight = {s.request.id for s in replay.engine.scheduler.queues}
            results.append(replay.simulate(policy, Constant(0.01)))
    for result in results:
        num_output = {(r.request_id, r.index): r.num_output for r in result.ended}
        assert {name for name, _ in num_output} >= in_flight
        expected = {
            (name, index): len(tokens)
            for name, samples in said.items()
            for index, tokens, *_ in samples
        }
        assert all(count == expected[each] for each, count in num_output.items() if each[0] != "6")
        assert result.records and not result.refused
    # another order of steps, the same work
    assert results[0].records != results[1].records


def test_a_run_that_was_cut_short_is_replayed_up_to_there(recording, tmp_path):
    path, _ = recording
    lines = path.read_text().splitlines()
    cut = tmp_path / "cut.jsonl"
    cut.write_text("\n".join([*lines[:30], lines[30][:20]]))
    with pytest.raises(ReplayDiverged, match=r"cut.jsonl:31 is no line of a recording"):
        Replay(cut, **QUIET)
    cut.write_text("\n".join(lines[:30]))
    with Replay(cut, **QUIET) as replay:
        replay.run()
        assert replay.num_steps == sum('"step"' in line for line in lines[:30])


def test_what_comes_out_otherwise_is_named(recording, tmp_path):
    path, _ = recording
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    line, item = next(
        (line, item) for line in lines[20:] for item in line.get("items", []) if item[3] is not None
    )
    item[3] += 1
    other = tmp_path / "other.jsonl"
    other.write_text("\n".join(map(json.dumps, lines)))
    with Replay(other, **QUIET) as replay:
        with pytest.raises(ReplayDiverged, match=f"step {line['step']} .*recorded \\['{item[0]}'"):
            replay.run()


def test_a_policy_of_the_users_own_must_be_given_again(tiny_llama, tmp_path):
    path = tmp_path / "run.jsonl"
    engine = an_engine(tiny_llama, policy=Drawing(), **{**SIZES, "warmup": "none"})
    with engine.record(path):
        engine.add_request("a", [5, 6, 7], greedily(3))
        with pytest.raises(RequestRejected, match="in flight"), engine.record(tmp_path / "b"):
            pass
        while engine.has_unfinished_requests():
            engine.step()
    engine.close()
    with pytest.raises(ReplayDiverged, match="under the policy Drawing"):
        Replay(path, **QUIET)
    with Replay(path, policy=Drawing(), **QUIET) as replay:
        assert len(replay.run()["a"].outputs[0].token_ids) == 3


def test_what_is_no_recording_is_refused(recording, tmp_path):
    path = tmp_path / "none.jsonl"
    path.write_text('{"format": 99}\n')
    with pytest.raises(ReplayDiverged, match=r"none.jsonl:1 .*format 99"):
        Replay(path)
    path.write_text("")
    with pytest.raises(ReplayDiverged, match="empty"):
        Replay(path)
