"""Sends calls when they are due."""

import asyncio
import contextlib
import time
from collections.abc import Callable, Sequence

from jpaged.bench.calls import Answer, Call
from jpaged.bench.server import Server


async def load(
    server: Server,
    calls: Sequence[Call],
    max_concurrency: int | None = None,
    on_answer: Callable[[Answer], object] = lambda answer: None,
) -> tuple[float, list[Answer]]:
    """The seconds it took, and an answer for each turn of each call.

    max_concurrency: how many may be under way; others wait here, and their time begins when they
    are sent.
    """
    seats = asyncio.Semaphore(max_concurrency) if max_concurrency else contextlib.nullcontext()
    answers: list[Answer] = []
    begin = time.perf_counter()

    async def talk(call: Call | None, due: float) -> None:
        """All turns of a session; one that failed ends it."""
        before: list[int] = []
        while call is not None:
            await _until(due)
            prompt = call.prompt if isinstance(call.prompt, str) else [*before, *call.prompt]
            async with seats:
                answer = await server.generate(prompt, call.num_output, due)
            answers.append(answer)
            on_answer(answer)
            if answer.error:
                return
            call = call.then
            if call is not None:
                assert isinstance(prompt, list)
                before, due = [*prompt, *answer.token_ids], answer.end + call.arrival

    async with asyncio.TaskGroup() as tasks:
        for call in calls:
            due = begin + call.arrival
            await _until(due)
            tasks.create_task(talk(call, due))
    return time.perf_counter() - begin, answers


async def _until(due: float) -> None:
    left = due - time.perf_counter()
    if left > 0:
        await asyncio.sleep(left)
