"""Where the cache's memory goes: an event log in, tables out.

    records = list(replay(workload, scheduler, seconds))   # or `on_step=records.append`
    pages(records)                   # held, saved by sharing, idle, free, at every step
    slots(map(slots_of, records))    # what the slots hold, in the words of the PagedAttention paper
    slots_in_pieces(record, …)       # the same of a cache that is given away in contiguous pieces
    mean_shares(slots(…))            # averages over time

Kwon et al., "Efficient Memory Management for Large Language Model Serving with PagedAttention",
SOSP 2023, section 3.1, tells three kinds of waste apart: *reserved* slots, which a request will
fill later; *internal* fragmentation, given to a request that will never fill it; and *external*
fragmentation, lost between what is given.
"""

from collections.abc import Iterable
from dataclasses import asdict, dataclass

import pandas as pd

from jpaged.scheduling.events import StepRecord

STATES = ["tokens", "reserved", "internal", "external", "free"]
PAGES = ["pages_held", "pages_idle", "pages_free"]


@dataclass(frozen=True)
class Slots:
    """What all slots of a cache hold during one step; the five states add up to the cache.

    tokens: slots that hold a token some sequence reads.  free: those that could be given away.
    """

    start: float  # seconds
    end: float
    num_waiting: int
    tokens: int
    reserved: int
    internal: int
    external: int
    free: int


def slots_of(record: StepRecord) -> Slots:
    """What a paged cache's slots hold.

    Pages are given as they are needed, so nothing is reserved; each fits everywhere, so nothing
    is lost in between.  Idle pages count as free: they are there for whoever comes.
    """
    page_size = record.slots_held // record.pages_held
    return Slots(
        start=record.start,
        end=record.end,
        num_waiting=record.num_waiting,
        tokens=record.slots_used,
        reserved=0,
        internal=record.slots_held - record.slots_used,
        external=0,
        free=page_size * (record.pages_idle + record.pages_free),
    )


def slots_in_pieces(record: StepRecord, num_final: int, num_asked: int, num_given: int) -> Slots:
    """What the slots of contiguous pieces hold, such as the policy `Orca` sets aside.

    num_final: slots that those who run will have filled at their ends.  num_asked, num_given: in
    their pieces, before and after rounding up.  What the allocator rounds up is external, as in the
    paper, where the oracle has no internal fragmentation.  So is what is free while somebody waits,
    who could not use it.
    """
    page_size = record.slots_held // record.pages_held
    num_slots = page_size * (record.pages_held + record.pages_idle + record.pages_free)
    free, is_lost = num_slots - num_given, record.num_waiting > 0
    return Slots(
        start=record.start,
        end=record.end,
        num_waiting=record.num_waiting,
        tokens=record.slots_used,
        reserved=num_final - record.slots_used,
        internal=num_asked - num_final,
        external=num_given - num_asked + is_lost * free,
        free=(not is_lost) * free,
    )


def slots(steps: Iterable[Slots]) -> pd.DataFrame:
    """A row a step: its times, who waits, and the five states in slots."""
    return pd.DataFrame([asdict(step) for step in steps])


def pages(records: Iterable[StepRecord]) -> pd.DataFrame:
    """A row a step: its times, who waits, and pages that are held, idle and free.

    `pages_saved` would be needed in addition if each page had one holder.
    """
    columns = ["start", "end", "num_waiting", *PAGES, "pages_unshared"]
    table = pd.DataFrame(
        [[getattr(record, name) for name in columns] for record in records], columns=columns
    )
    return table.assign(pages_saved=table.pages_unshared - table.pages_held)


def while_waiting(table: pd.DataFrame) -> pd.DataFrame:
    """The steps between the first and the last at which somebody waits: memory is what limits
    them.  It leaves out how a run fills up and runs dry.  Raises `ValueError` if nobody waits."""
    waiting = table.index[table.num_waiting > 0]
    if waiting.empty:
        raise ValueError("nobody ever waits in this log, so memory limits nothing; raise the rate")
    return table.loc[waiting[0] : waiting[-1]]


def mean_shares(table: pd.DataFrame) -> dict[str, float]:
    """The share of all slots in each state, averaged over time; they add up to 1."""
    means = _over_time(table, STATES)
    return {state: mean / sum(means.values()) for state, mean in means.items()}


def saved_by_sharing(table: pd.DataFrame) -> float:
    """The share of pages that sharing saves, from 0 to 1, of a table made by `pages`.

    As in the paper's section 6.3: pages saved over the pages that would be held without sharing,
    both averaged over time.
    """
    means = _over_time(table, ["pages_saved", "pages_unshared"])
    return means["pages_saved"] / means["pages_unshared"]


def _over_time(table: pd.DataFrame, columns: list[str]) -> dict[str, float]:
    seconds = (table.end - table.start).to_numpy()
    return {name: float(table[name].to_numpy() @ seconds / seconds.sum()) for name in columns}
