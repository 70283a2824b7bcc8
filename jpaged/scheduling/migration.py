"""A sequence goes on elsewhere, from where it stands.

    source    running ──► pages given up; the cache here still knows the full ones
                 │ copied
    target       └──────► running, on pages of its own and what the cache there has of its prefix

Sequences change hands in one moment, between two steps of either side.  How long the copying takes,
and who has kept the sequence still meanwhile, is for those to account who ask for it.

Sun et al., "Llumnix: Dynamic Scheduling for Large Language Model Serving", OSDI 2024; Zhong et al.,
"DistServe", OSDI 2024, for prompts that are computed in one place and go on in another.
"""

from jpaged.errors import ConfigError
from jpaged.scheduling.request import Sequence, Status
from jpaged.scheduling.scheduler import Scheduler
from jpaged.scheduling.sharing import Found

Copies = tuple[tuple[int, int], ...]  # from which page of the source, to which of the target


def may_leave(sequence: Sequence, source: Scheduler) -> bool:
    """Whether a sequence can go: all it was to compute is there, and no relative shares it."""
    is_alone = len(sequence.family) == 1
    return is_alone and not sequence.is_finished and not source.is_under_way(sequence)


def has_room(target: Scheduler, sequence: Sequence) -> bool:
    """Whether a sequence could run there at once, at nobody's cost: neither of those who run nor
    of those who wait for the same pages."""
    queues, pool = target.queues, target.pool
    if queues.waiting or not queues.num_free_seats:
        return False
    to_come = sum([queues.pages_to_come(each) for each in queues.running])
    return pool.pages_for(len(sequence.tokens)) <= pool.num_free - to_come


def move(sequence: Sequence, source: Scheduler, target: Scheduler) -> Copies | None:
    """Lets it go on there: a running one at once, one that waits behind those who wait there.

    Returns the pages to copy, behind the steps that were submitted on either side; None if it
    cannot go now, see `may_leave` and `has_room`, and nothing was changed.  Raises `ConfigError`
    where pages are of another kind, and `RequestRejected` where it can never fit.
    """
    _check_alike(source, target)
    target.check_fits(sequence.request)
    is_running = sequence.status is Status.RUNNING
    if not may_leave(sequence, source) or (is_running and not has_room(target, sequence)):
        return None
    there, passed, pages = sequence.num_written, sequence.num_passed, list(sequence.pages)
    source.ledger.add(sequence)
    target.ledger.add(sequence, -1)
    source.release(sequence)
    target.adopt(sequence)
    if not there:
        return ()
    first = _settle(sequence, target, there, passed)
    count = source.pool.pages_for(there)
    return tuple(zip(pages[first:count], sequence.pages[first:count], strict=True))


def _settle(sequence: Sequence, target: Scheduler, there: int, passed: int) -> int:
    """Gives it pages for its first `there` tokens.  Returns from which page on they are new: as if
    it had been swapped out, and came back from the host."""
    queues, size = target.queues, target.pool.page_size
    cached = [] if passed else queues.sharing.next_pages(sequence)[: there // size]
    num_cached = len(cached) * size
    sequence.num_swapped, sequence.num_swapped_passed = there, passed
    queues.admit(sequence, Found(cached, num_cached, num_cached))
    queues.bring_back(sequence)
    sequence.num_swapped = sequence.num_swapped_passed = 0
    queues.remember_full_pages(sequence, there)
    return max(passed, len(cached))


def _check_alike(source: Scheduler, target: Scheduler) -> None:
    size, other = [(each.pool.page_size, each.queues.window) for each in (source, target)]
    if size != other:
        raise ConfigError(
            f"pages of {size[0]} tokens and window {size[1]} do not go on where pages have "
            f"{other[0]} and the window is {other[1]}; move between equals"
        )
    if source.pool.windows or target.pool.windows:
        raise ConfigError("sequences of models with windows of several widths do not move yet")
