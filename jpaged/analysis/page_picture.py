"""The pages of a pool, step by step, as numbers that a canvas can be painted from."""

from typing import Any

from jpaged.scheduling.page_trace import PageTrace


def picture_data(trace: PageTrace, origin: float) -> dict[str, Any]:
    """changes: for one page after another the step, tokens, whether it is cached, how many hold it,
    and who; where they begin is in `at`, a place a page, and the end.  A step is its column,
    counted from the first that was traced.  Times in seconds since `origin`."""
    of_page: list[list[int]] = [[] for _ in range(trace.num_pages)]
    for column, step in enumerate(trace.steps):
        for page, (num_tokens, is_cached, holders) in step.changes.items():
            of_page[page] += [column, num_tokens, int(is_cached), len(holders), *holders]
    at, changes = [0], []
    for numbers in of_page:
        changes += numbers
        at.append(len(changes))
    return {
        "num_pages": trace.num_pages,
        "page_size": trace.page_size,
        "is_full": trace.is_full,
        "names": trace.names,
        "indices": [step.index for step in trace.steps],
        "starts": [step.start - origin for step in trace.steps],
        "ends": [step.end - origin for step in trace.steps],
        "at": at,
        "changes": changes,
    }
