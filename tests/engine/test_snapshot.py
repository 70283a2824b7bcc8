"""A running engine as a value: saved, restored elsewhere, continued twice."""

import json
import pickle
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from engines import an_engine, first, greedily, last, num_held_pages, random_prompts

from jpaged import (
    BeamSearchParams,
    ConfigError,
    LLMEngine,
    RequestRejected,
    SamplingParams,
    Snapshot,
    SnapshotMismatch,
)
from jpaged.engine.freezing import freeze, thaw
from jpaged.engine.snapshot import FORMAT
from jpaged.policies import Fcfs, ShortestFirst

SIZES = {"num_pages": 20, "max_model_len": 72, "num_host_pages": 60, "warmup": "none"}


def add_mixture(engine: LLMEngine) -> None:
    """Everything an engine can have in flight; more than fits."""
    prompts = random_prompts(700, 6, shortest=9, longest=30)
    engine.add_request("greedy", prompts[0], greedily(30, logprobs=2))
    engine.add_request("seeded", prompts[1], SamplingParams(n=3, seed=5, max_tokens=25))
    engine.add_request("unseeded", prompts[2], SamplingParams(max_tokens=20, ignore_eos=True))
    engine.add_beam_search("beams", prompts[3], BeamSearchParams(3, 20, ignore_eos=True))
    engine.add_request("text", "Once upon a time", SamplingParams(max_tokens=30, stop=["zzz"]))
    engine.add_request("prompt", prompts[4], greedily(8, prompt_logprobs=1))
    engine.add_request("late", prompts[5], greedily(12))


def told(outputs: dict[str, Any]) -> dict[str, Any]:
    return {
        name: [(s.index, s.token_ids, s.text, s.finish_reason) for s in output.outputs]
        for name, output in outputs.items()
    }


def finish(engine: LLMEngine) -> dict[str, Any]:
    found = told(last(engine))
    assert num_held_pages(engine) == 0 == engine.scheduler.queues.host.num_used
    return found


def run_steps(engine: LLMEngine, count: int) -> dict[str, Any]:
    """What ended meanwhile."""
    seen = {}
    for _ in range(count):
        seen |= {each.request_id: each for each in engine.step() if each.finished}
    return told(seen)


@pytest.fixture(scope="module")
def undisturbed(tiny_llama) -> dict[str, Any]:
    engine = an_engine(tiny_llama, **SIZES)
    add_mixture(engine)
    expected = finish(engine)
    assert engine.stats().counts.num_pages_swapped_in > 0, "nobody was swapped: make it tighter"
    engine.close()
    return expected


def a_running_engine(folder: Path, num_steps: int, **options: Any) -> tuple[LLMEngine, dict]:
    engine = an_engine(folder, **{**SIZES, **options})
    add_mixture(engine)
    return engine, run_steps(engine, num_steps)


@pytest.mark.parametrize("num_steps", [0, 1, 7, 25, 60])
def test_a_snapshot_disturbs_nothing_and_a_branch_says_the_same(tiny_llama, undisturbed, num_steps):
    engine, done = a_running_engine(tiny_llama, num_steps)

    snapshot = engine.snapshot()
    twin = engine.branch(snapshot)

    mine, theirs = finish(engine), finish(twin)
    assert done | mine == undisturbed
    assert theirs == mine
    twin.close()
    engine.restore(snapshot)  # and once more, in the engine itself
    assert finish(engine) == mine
    engine.close()


def test_a_moment_with_somebody_swapped_out_is_restored(tiny_llama, undisturbed):
    engine, done = a_running_engine(tiny_llama, 0)
    while not engine.scheduler.queues.host.num_used:
        done |= run_steps(engine, 1)

    snapshot = engine.snapshot()

    assert snapshot.parcels
    with engine.branch(snapshot) as twin:
        assert done | finish(twin) == undisturbed
    engine.close()


def test_two_policies_go_on_from_the_same_instant(tiny_llama, undisturbed):
    engine, done = a_running_engine(tiny_llama, 12)
    snapshot = engine.snapshot()
    order = {}
    for policy in (Fcfs(), ShortestFirst(aging=0.0)):
        with engine.branch(snapshot, policy) as twin:
            assert twin.scheduler.policy is policy
            outputs = last(twin)
            assert done | told(outputs) == undisturbed
            order[type(policy)] = list(outputs)
            assert twin.records[0].index == engine.loop.num_steps
    assert order[Fcfs] != order[ShortestFirst], "both policies did the same"
    engine.close()


RESTORE = """
import json, sys
from jpaged import LLMEngine
engine = LLMEngine.resume(sys.argv[1], use_tqdm_on_load=False, **json.loads(sys.argv[2]))
done = {}
while engine.has_unfinished_requests():
    done |= {each.request_id: each for each in engine.step() if each.finished}
print(json.dumps({name: [[s.index, s.token_ids, s.text, s.finish_reason] for s in each.outputs]
                  for name, each in done.items()}))
engine.close()
"""


@pytest.mark.parametrize("page_size", [4, 16])
def test_another_process_finishes_with_identical_tokens(
    tiny_llama, undisturbed, tmp_path, page_size
):
    """With pages of 16 the C++ kernels keep tiles, and the other process goes without them."""
    sizes = {"page_size": page_size, "num_pages": 20 * 4 // page_size}
    engine, done = a_running_engine(tiny_llama, 15, **sizes)
    engine.snapshot().save(tmp_path / "moment")
    rest = finish(engine)
    assert done | rest == undisturbed
    engine.close()

    command = [sys.executable, "-c", RESTORE, str(tmp_path / "moment"), "{}"]
    kernels = {"JPAGED_CPU_KERNELS": "off"} if page_size == 16 else {}
    found = subprocess.run(
        command, capture_output=True, text=True, env={**__import__("os").environ, **kernels}
    )

    assert found.returncode == 0, found.stderr
    theirs = json.loads(found.stdout.splitlines()[-1])
    assert {name: [tuple(s) for s in samples] for name, samples in theirs.items()} == rest


def test_time_stands_still_between_a_snapshot_and_its_branch(tiny_llama):
    engine, _ = a_running_engine(tiny_llama, 3)
    snapshot = engine.snapshot()
    with engine.branch(snapshot) as twin:
        assert 0 <= twin.clock() - snapshot.taken_at < 5
        waited = [twin.clock() - sequence.arrival for sequence in twin.scheduler.running]
        assert all(0 <= seconds < 60 for seconds in waited)
    engine.close()


class Own(Fcfs):
    """A user's policy, with a state."""

    def __init__(self) -> None:
        self.num_asked = 0

    def propose(self, view):
        self.num_asked += 1
        return super().propose(view)


def test_a_users_policy_goes_along_in_memory_and_stays_behind_on_disk(tiny_llama, tmp_path):
    engine, _ = a_running_engine(tiny_llama, 5, policy=Own())
    snapshot = engine.snapshot()
    with engine.branch(snapshot) as twin:
        assert isinstance(twin.scheduler.policy, Own)
        assert twin.scheduler.policy is not engine.scheduler.policy
        assert vars(twin.scheduler.policy) == vars(engine.scheduler.policy) != {"num_asked": 0}
    snapshot.save(tmp_path)
    loaded = Snapshot.load(tmp_path)
    with pytest.raises(SnapshotMismatch, match=r"under the policy Own, .* pass policy="):
        engine.branch(loaded)
    with engine.branch(loaded, Own()) as twin:
        assert finish(twin) == finish(engine)
    engine.close()


def test_a_policy_that_cannot_be_written_down_is_named(tiny_llama):
    policy = Own()
    policy.hook = lambda: 1  # pyright: ignore[reportAttributeAccessIssue]
    engine, _ = a_running_engine(tiny_llama, 2, policy=policy)
    with pytest.raises(SnapshotMismatch, match="cannot be written down.*no open files"):
        engine.snapshot()
    assert len(finish(engine)) > 3  # and nobody was harmed
    engine.close()


def test_a_snapshot_of_another_engine_is_refused(tiny_llama, tmp_path):
    engine, _ = a_running_engine(tiny_llama, 2)
    snapshot = engine.snapshot()
    other = an_engine(tiny_llama, num_pages=21, max_model_len=72, warmup="none")
    with pytest.raises(SnapshotMismatch, match="num_pages is 20 there and 21 here; build one like"):
        other.restore(snapshot)
    other.close()
    with pytest.raises(SnapshotMismatch, match="requests are in flight here; abort them"):
        engine.restore(snapshot)
    demo = LLMEngine("demo", warmup="none", use_tqdm_on_load=False, num_pages=40, max_num_seqs=4)
    with pytest.raises(SnapshotMismatch, match="model is .* there and .* here"):
        demo.restore(snapshot)
    demo.close()
    engine.close()


def test_what_is_no_snapshot_is_refused(tiny_llama, tmp_path):
    with pytest.raises(SnapshotMismatch, match="holds no snapshot"):
        Snapshot.load(tmp_path)
    engine, _ = a_running_engine(tiny_llama, 2)
    engine.snapshot().save(tmp_path)
    engine.close()
    named = json.loads((tmp_path / "snapshot.json").read_text())
    named["mark"]["format"] = 99
    (tmp_path / "snapshot.json").write_text(json.dumps(named))
    with pytest.raises(SnapshotMismatch, match=f"format 99, this jpaged reads {FORMAT}"):
        Snapshot.load(tmp_path)


class Bomb:
    def __reduce__(self):
        return (print, ("gone off",))


@pytest.mark.parametrize(
    "bytes_of",
    [
        lambda: freeze(Bomb()),
        lambda: b"cjpaged.calibration.calibrate\nos\n.",  # what a module of ours has imported
        lambda: b"cjpaged.engine.build\nbuild_model\n.",  # a function of ours
        lambda: b"cjpaged.engine.build\nno_more\n.",  # what another version had
        lambda: pickle.dumps(Path("x")),
    ],
)
def test_a_file_cannot_bring_code_along(bytes_of, capsys):
    with pytest.raises(SnapshotMismatch, match="the snapshot names"):
        thaw(bytes_of(), None, None, is_trusted=False)
    assert "gone off" not in capsys.readouterr().out


def test_text_goes_on_in_the_midst_of_a_word(tiny_llama):
    engine = an_engine(tiny_llama, warmup="none")
    engine.add_request("a", "Once upon", greedily(12))
    run_steps(engine, 5)
    with engine.branch() as twin:
        mine, theirs = first(last(engine)["a"]), first(last(twin)["a"])
    assert mine.text == theirs.text and mine.token_ids == theirs.token_ids
    engine.close()


def test_a_policy_may_be_named_wherever_one_goes_on(tiny_llama, tmp_path):
    engine = an_engine(tiny_llama, **SIZES)
    engine.add_request("a", [5, 6, 7], greedily(4))
    snapshot = engine.snapshot()
    snapshot.save(tmp_path)
    with engine.branch(policy="shortest") as twin:
        assert type(twin.scheduler.policy) is ShortestFirst
    with LLMEngine.resume(tmp_path, policy="shortest", use_tqdm_on_load=False) as other:
        assert type(other.scheduler.policy) is ShortestFirst
    for wrong in (5, ShortestFirst, "nonsense"):
        with pytest.raises(ConfigError):
            engine.branch(policy=wrong)  # pyright: ignore[reportArgumentType]
        with pytest.raises(ConfigError):
            LLMEngine.resume(snapshot, policy=wrong)  # pyright: ignore[reportArgumentType]
    for nothing in (None, 5, str(tmp_path)):
        with pytest.raises(SnapshotMismatch, match="a snapshot is what"):
            engine.restore(nothing)  # pyright: ignore[reportArgumentType]
    engine.close()
    with pytest.raises(RequestRejected, match="closed"):
        engine.snapshot()


def test_fewer_candidates_than_requests_in_flight_may_want_are_another_engine(tiny_llama):
    engine = an_engine(tiny_llama, **SIZES)
    engine.add_beam_search("beams", [5, 6, 7], BeamSearchParams(4, 8))
    snapshot = engine.snapshot()
    engine.close()
    with pytest.raises(SnapshotMismatch, match="max_logprobs is 20 there and 2 here"):
        LLMEngine.resume(snapshot, max_logprobs=2, use_tqdm_on_load=False)


@pytest.mark.parametrize("what", ["state", "pages"])
def test_a_damaged_snapshot_is_refused(tiny_llama, tmp_path, what):
    engine = an_engine(tiny_llama, **SIZES)
    engine.add_request("a", [5, 6, 7], greedily(4))
    engine.snapshot().save(tmp_path)
    engine.close()
    if what == "state":
        (tmp_path / "state").write_bytes((tmp_path / "state").read_bytes() + b"x")
    else:
        shutil.rmtree(tmp_path / "pages")
    with pytest.raises(SnapshotMismatch, match=what):
        Snapshot.load(tmp_path)
