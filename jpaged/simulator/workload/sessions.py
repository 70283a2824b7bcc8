"""Conversations and programs: each turn waits for the one before it, a closed loop.

    arrival ──► turn 0 ──ends──► pause ──► turn 1 ──ends──► pause ──► turn 2
                prompt                     turn 0, what was said, prompt

A slow server is thus asked less.  That is why when later turns arrive is nowhere written down:
arrivals that were recorded under one policy say nothing of those under another.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import count
from random import Random
from typing import Unpack

from jpaged.errors import ConfigError
from jpaged.scheduling.terms import NO_TERMS
from jpaged.simulator.lengths import CONTEXT, EXPONENTIAL_LIKE, SHAREGPT, Lengths
from jpaged.simulator.workload.arrivals import Prefixes, first, poisson_gap
from jpaged.simulator.workload.laws import (
    Counts,
    Geometric,
    Law,
    Pauses,
    as_law,
    check_counts,
    drawn,
)
from jpaged.simulator.workload.prefixes import PrefixTree
from jpaged.simulator.workload.request import Asked, TimedRequest, source_of
from jpaged.simulator.workload.tokens import Passage

# ours, of no data set: whoever reports a figure should say how it moves with them
TURNS, THINKING = Geometric(4.0), Pauses(20.0)
CALLS, TOOLS = Geometric(8.0), Pauses(2.0, 1.5)
RESULTS = Lengths(200, 1.0, 1024)  # tokens that a tool answers with
STEPS = Lengths(80, EXPONENTIAL_LIKE, 512)  # tokens that call it


def sessions(
    rate: float,
    num_sessions: int,
    num_turns: Counts = TURNS,
    prompt_len: Counts = SHAREGPT.prompts,
    output_len: Counts = SHAREGPT.outputs,
    think: float | Pauses = THINKING,
    seed: int = 0,
    tree: Prefixes | None = None,
    max_len: int = CONTEXT,
    **asked: Unpack[Asked],
) -> list[TimedRequest]:
    """Conversations of several turns; `rate` of them begin in a second, by Poisson.

    prompt_len: what a user says in a turn, what was said before not counted.  think: seconds from
    the end of an answer to the next turn.  tree: they begin with prefixes of it.  max_len: whoever
    comes so far that the next turn would not fit says no more.  `Terms.session` is set.  Raises
    `ConfigError`, also where a first turn does not fit.
    """
    asks = as_law("prompt_len", prompt_len)
    laws = Laws(
        as_law("num_turns", num_turns),
        asks,
        asks,
        as_law("output_len", output_len),
        _pauses("think", think),
        tree,
        max_len,
    )
    return first(_dialogues("sessions", rate, laws, seed, asked), num_sessions=num_sessions)


def agents(
    rate: float,
    num_programs: int,
    num_calls: Counts = CALLS,
    task_len: Counts = SHAREGPT.prompts,
    result_len: Counts = RESULTS,
    output_len: Counts = STEPS,
    tool: float | Pauses = TOOLS,
    num_shared: int = 1024,
    seed: int = 0,
    max_len: int = 8192,
    **asked: Unpack[Asked],
) -> list[TimedRequest]:
    """Programs that call the model several times, with a tool between calls.

    num_shared: tokens that all begin with, the description of the tools; 0 for none.  task_len:
    what comes behind it in the first call.  result_len: what a tool adds for the next call.
    tool: seconds that it takes.  The rest as in `sessions`.

    What schedulers do with such programs: Abhyankar et al., "InferCept: Efficient Intercept
    Support for Augmented Large Language Model Inference", ICML 2024; Luo et al., "Autellix: An
    Efficient Serving Engine for LLM Agents as General Programs", 2025.
    """
    laws = Laws(
        as_law("num_calls", num_calls),
        as_law("task_len", task_len),
        as_law("result_len", result_len),
        as_law("output_len", output_len),
        _pauses("tool", tool),
        PrefixTree((1,), (num_shared,), seed=seed) if num_shared else None,
        max_len,
    )
    return first(_dialogues("agents", rate, laws, seed, asked), num_programs=num_programs)


@dataclass(frozen=True)
class Laws:
    """What turns are drawn from; opening is the first one's own prompt, asking the later ones'."""

    turns: Law
    opening: Law
    asking: Law
    saying: Law
    pauses: Pauses
    prefixes: Prefixes | None
    max_len: int


@dataclass(frozen=True)
class Turn:
    """One of a dialogue, `pause` seconds after the one before it."""

    pause: float
    prompt: Passage
    num_output: int


def _dialogues(
    kind: str, rate: float, laws: Laws, seed: int, asked: Asked
) -> Iterator[TimedRequest]:
    check_counts(max_len=laws.max_len)
    gap, source, now = poisson_gap(rate), f"{source_of(seed, asked)}/{kind}", 0.0
    gaps = Random(f"{source}/arrivals")
    for number in count():
        now += gap(gaps)
        # each has chance of its own: where one ends early, the next one is no other
        turns = _turns(f"{source}/{number}", laws)
        yield chain(str(number), now, turns, asked)


def _turns(source: str, laws: Laws) -> list[Turn]:
    """Those that fit.  Each of their properties has its own chance."""
    asks, says, waits = (Random(f"{source}/{what}") for what in ("prompts", "outputs", "pauses"))
    before = None
    if laws.prefixes is not None:
        before = laws.prefixes.draw(Random(f"{source}/prefixes"))
    turns, num_said = [], 0
    for number in range(drawn("turns", laws.turns, Random(f"{source}/turns"))):
        law = laws.asking if number else laws.opening
        prompt = Passage(source, number, drawn("prompt", law, asks), None if number else before)
        turn = Turn(laws.pauses.draw(waits), prompt, drawn("output_len", laws.saying, says))
        num_said += len(prompt) + turn.num_output
        if num_said > laws.max_len:
            break
        turns.append(turn)
    if not turns:
        raise ConfigError(
            f"a first turn has {num_said} tokens, max_len is {laws.max_len}: raise it (from a "
            "shell it is the engine's, --option max_model_len=…) or shorten prompts and outputs"
        )
    return turns


def chain(name: str, arrival: float, turns: Sequence[Turn], asked: Asked) -> TimedRequest:
    """The first of turns that follow each other, and belong to one session."""
    terms = asked.get("terms", NO_TERMS)
    session = f"{terms.client}/{name}" if terms.client else name
    asked = {**asked, "terms": replace(terms, session=session)}
    then = None
    for number in reversed(range(len(turns))):
        turn = turns[number]
        at = turn.pause if number else arrival
        label = f"{name}.{number}"
        then = TimedRequest(label, at, turn.prompt, turn.num_output, then=then, **asked)
    assert then is not None, "a chain of no turns"
    return then


def _pauses(name: str, given: float | Pauses) -> Pauses:
    if isinstance(given, Pauses):
        return given
    if isinstance(given, bool) or not isinstance(given, int | float):
        raise ConfigError(f"{name} is seconds or Pauses(mean, log_spread), not {given!r}")
    return Pauses(given, log_spread=0.0)
