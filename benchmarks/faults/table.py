"""The outcomes as a page of markdown."""

import re
from collections.abc import Iterable
from typing import Any

HEAD = """# Faults

What happens to a `jpaged serve` when something goes wrong, and to whom. `python benchmarks/faults`
does all of it to a real server and writes this page.

{cores} cores that others used meanwhile, {system}, commit {commit}. The device is
pretended (`--pretend constant:step=0.005,token=0.0002`) where nothing else is said.

A request ends in one of these ways, and never in another:

| | |
|---|---|
| whole | all its tokens, a `finish_reason`, `[DONE]`; and it says what it says undisturbed |
| refused | a status and an error in OpenAI's shape, before anything was said |
| failed | an event with the error; no `finish_reason` and no `[DONE]` |
| cut off | the connection ends without the last chunk, an error to every HTTP client |

*Others* are the requests that ran meanwhile. *Seconds* is until the last of those that were harmed
knew, or what a note says. *Pages* is the share of the cache that is held afterwards, *left* how
many processes outlive the server, *code* its exit code, after SIGTERM where the fault ends nothing.

| | fault | others | seconds | pages | left | health | code | holds |
|---|---|---|---|---|---|---|---|---|
"""


def order(numbers: Iterable[str]) -> list[str]:
    """1, 1r, 2, …, 10."""
    return sorted(numbers, key=lambda each: (int(re.sub(r"\D", "", each)), each))


def written(found: dict[str, Any]) -> str:
    machine = found["machine"]
    rows = list(found["rows"].values())
    lines = [HEAD.format(**machine), *map(line, rows)]
    notes = [f"{each['number']}: {each['note']}\n" for each in rows if each["note"]]
    text = "".join(lines) + "\n## Notes\n\n" + "\n".join(notes)
    problems = [f"- {each['number']}: {p}\n" for each in rows for p in each["problems"]]
    if problems:
        text += "\n## What does not hold\n\n" + "".join(problems)
    return text + (soaked(found["soak"]) if "soak" in found else "")


def line(row: dict[str, Any]) -> str:
    holds = "no" if row["problems"] else "yes" if row["health"] or row["others"] else "not run"
    cells = (
        row["number"],
        row["fault"],
        row["others"],
        "" if row["seconds"] is None else f"{row['seconds']:.2f}",
        "" if row["pages"] is None else f"{row['pages']:g}",
        "" if row["orphans"] is None else str(row["orphans"]),
        row["health"],
        "" if row["code"] is None else str(row["code"]),
        holds,
    )
    return "| " + " | ".join(cells) + " |\n"


def soaked(soak: dict[str, Any]) -> str:
    """The section about the long run."""
    kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(soak["kinds"].items()))
    pieces = "".join(
        f"| {number} | {' | '.join(_grown(*pair) for pair in piece['held'].values())} |\n"
        for number, piece in enumerate(soak["pieces"], 1)
    )
    names = " | ".join(name.replace("_", " ") for name in soak["pieces"][0]["held"])
    rules = "---|" * (1 + len(soak["pieces"][0]["held"]))
    problems = "; ".join(soak["problems"])
    return f"""
## Soak

`python benchmarks/faults --soak {soak["seconds"]:.0f}`: {soak["clients"]} clients ask again and
again (streams, whole answers, chats, several samples, long prompts), others go away in the middle,
and the engine is killed every {soak["between_kills"]:.0f} s, {soak["kills"]} times in all.
{sum(soak["kinds"].values())} requests ended: {kinds}; {soak["left"]} went away by themselves.
{f"Problems: {problems}." if problems else "Nothing else happened."}
A server serves for a piece; what it holds when idle, after a warm-up of {soak["warm_up"]:.0f} s and
in the end:

| piece | {names} |
|{rules}
{pieces}"""


def _grown(before: float, after: float) -> str:
    return f"{before:g} → {after:g}"
