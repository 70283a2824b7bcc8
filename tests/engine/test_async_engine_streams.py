"""One output waits for a reader at most, and holds all that he has not read."""

import asyncio
import random

import pytest

from jpaged.engine.outputs import CompletionOutput, Logprob, RequestOutput
from jpaged.engine.streams import Streams, merged
from jpaged.errors import EngineDied, RequestFailed, RequestRejected
from jpaged.sampling_params import RequestOutputKind, SamplingParams
from jpaged.scheduling.request import Request

DELTA, CUMULATIVE = RequestOutputKind.DELTA, RequestOutputKind.CUMULATIVE


def a_request(name: str = "a", kind: RequestOutputKind = DELTA) -> Request:
    return Request(name, (1, 2), SamplingParams(output_kind=kind))


def said(name: str, tokens: list[int], is_last: bool = False, index: int = 0) -> RequestOutput:
    sample = CompletionOutput(
        index,
        "".join(f"{token} " for token in tokens),
        tokens,
        logprobs=[{token: Logprob(-1.0)} for token in tokens],
        finish_reason="length" if is_last else None,
    )
    return RequestOutput(name, None, [1, 2], [sample], is_last)


def deliver(streams: Streams, *outputs: RequestOutput, failed=(), refused=(), aborted=()) -> None:
    streams.deliver(outputs, dict(failed), dict(refused), aborted)


def read_what_is_there(stream) -> list[int]:
    async def read() -> RequestOutput:
        return await asyncio.wait_for(anext(stream), 1)

    return asyncio.run(read()).outputs[0].token_ids


@pytest.mark.parametrize("seed", range(20))
def test_whoever_reads_when_he_likes_reads_everything_once(seed):
    chance, streams = random.Random(seed), Streams(lambda ids: None)
    stream = streams.open(a_request(), None)
    deltas = [said("a", [chance.randrange(100) for _ in range(chance.randrange(1, 3))])]
    deltas += [said("a", [chance.randrange(100)]) for _ in range(30)]
    deltas.append(said("a", [7], is_last=True))

    async def read() -> list[RequestOutput]:
        found = []
        reading = asyncio.create_task(read_slowly(found))
        for delta in deltas:
            deliver(streams, delta)
            await asyncio.sleep(0)
        await reading
        return found

    async def read_slowly(found: list[RequestOutput]) -> None:
        async for output in stream:
            found.append(output)
            for _ in range(chance.randrange(6)):
                await asyncio.sleep(0)

    found = asyncio.run(read())
    samples = [output.outputs[0] for output in found]
    everything = [delta.outputs[0] for delta in deltas]
    for name in ("token_ids", "logprobs"):
        assert sum([getattr(s, name) for s in samples], []) == sum(
            [getattr(s, name) for s in everything], []
        )
    assert "".join(s.text for s in samples) == "".join(s.text for s in everything)
    assert samples[-1].finish_reason == "length" and len(found) < len(deltas)


def test_merging_keeps_samples_apart():
    both = merged(said("a", [1]), said("a", [2], index=1))
    both = merged(both, said("a", [3, 4]))
    assert [(s.index, s.token_ids) for s in both.outputs] == [(0, [1, 3, 4]), (1, [2])]


def test_an_output_that_holds_everything_replaces_the_one_before():
    streams = Streams(lambda ids: None)
    stream = streams.open(a_request(kind=CUMULATIVE), None)
    deliver(streams, said("a", [1]))
    deliver(streams, said("a", [1, 2]))
    assert read_what_is_there(stream) == [1, 2]


def test_what_was_said_before_a_failure_is_read_first():
    streams = Streams(lambda ids: None)
    stream = streams.open(a_request(), None)
    deliver(streams, said("a", [1]))
    deliver(streams, failed={"a": "broken"}.items())
    assert read_what_is_there(stream) == [1]
    with pytest.raises(RequestFailed, match="broken") as failed:
        read_what_is_there(stream)
    assert failed.value.reasons == {"a": "broken"}


def test_refusals_and_deaths_are_told_apart():
    streams = Streams(lambda ids: None)
    refused, dead = streams.open(a_request("r"), None), streams.open(a_request("d"), None)
    deliver(streams, refused={"r": "too large"}.items())
    streams.fail_all(lambda: EngineDied("gone"))
    with pytest.raises(RequestRejected, match="too large"):
        read_what_is_there(refused)
    with pytest.raises(EngineDied, match="gone"):
        read_what_is_there(dead)
    assert not len(streams)


def test_closing_twice_aborts_once():
    aborted = []
    streams = Streams(aborted.append)
    stream = streams.open(a_request(), None)

    async def close() -> None:
        await stream.aclose()
        await stream.aclose()

    asyncio.run(close())
    assert aborted == [["a"]]


def test_a_finished_stream_aborts_nothing():
    aborted = []
    streams = Streams(aborted.append)
    stream = streams.open(a_request(), None)
    deliver(streams, said("a", [1], is_last=True))
    del stream
    assert aborted == [] and "a" not in streams


def test_an_id_that_comes_again_hears_nothing_of_the_one_before():
    aborted = []
    streams = Streams(aborted.append)
    streams.open(a_request(), None)  # forgotten at once
    again = streams.open(a_request(), None)
    deliver(streams, said("a", [1]))  # of the first, said before it was aborted
    deliver(streams, said("a", [2]), aborted=["a"])
    assert aborted == [["a"]] and read_what_is_there(again) == [2]
