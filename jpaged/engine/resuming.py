"""Taking a snapshot of an engine, and going on from one: a plain function of its state.

host      queues, sequences, tables, texts, policy: frozen to bytes, all together
device    the pages that anybody holds, the prefix cache knows, or the host keeps: copied
clock     goes on from the instant of the snapshot, so that nobody seems to have waited
"""

from collections.abc import Sequence as Pages
from dataclasses import asdict, dataclass, replace
from typing import Any

from jpaged.config import EngineConfig
from jpaged.engine.freezing import freeze, thaw
from jpaged.engine.live_requests import LiveRequests
from jpaged.engine.snapshot import Mark, Snapshot
from jpaged.engine.tokenizer import Tokenizer
from jpaged.errors import SnapshotMismatch
from jpaged.runner.executor import DeviceExecutor
from jpaged.scheduling.cost import Costs
from jpaged.scheduling.policy import Policy
from jpaged.scheduling.request import Sequence
from jpaged.scheduling.scheduler import Scheduler


@dataclass
class HostState:
    """All that the host knows of what is in flight: plain data, but for a policy of the user's own
    and the tokenizer."""

    live: LiveRequests  # and with them the scheduler
    num_requests: int
    num_steps: int


def take(
    host: HostState, executor: DeviceExecutor, mark: Mark, config: EngineConfig, now: float
) -> Snapshot:
    """The snapshot of an engine with no step under way."""
    scheduler = host.live.scheduler
    policy = scheduler.policy
    is_ours = type(policy).__module__.startswith("jpaged.")
    state = freeze(host)
    pages = scheduler.kept_pages()
    parcels = [executor.host.parcel(sequence) for sequence in _swapped(scheduler)]
    return Snapshot(
        mark=mark,
        config=plain_config(config),
        taken_at=now,
        state=state,
        portable_state=state if is_ours else freeze(host, left_out=policy),
        policy=None if is_ours else type(policy).__qualname__,
        pages=tuple(pages),
        kv_pages=executor.read_pages(_numbers(scheduler, pages)),
        parcels=tuple(executor.in_plain_order(kept) for kept in parcels),
    )


def put(
    snapshot: Snapshot,
    executor: DeviceExecutor,
    tokenizer: Tokenizer | None,
    policy: Policy | None,
    costs: Costs | None,
) -> HostState:
    """Fills an executor's cache with a snapshot's pages.  Returns the host's side of it."""
    frozen, is_trusted = snapshot.state, True
    if frozen is None:
        frozen, is_trusted = snapshot.portable_state, False
        if snapshot.policy and policy is None:
            raise SnapshotMismatch(
                f"the snapshot was taken under the policy {snapshot.policy}, whose code is not in "
                "it; pass policy=…, that one or another"
            )
    host = thaw(frozen, tokenizer, policy, is_trusted)
    assert isinstance(host, HostState)
    if policy is not None:
        host.live.scheduler.policy = policy
    host.live.scheduler.costs = costs
    executor.clear()
    executor.write_pages(_numbers(host.live.scheduler, snapshot.pages), snapshot.kv_pages)
    for sequence, parcel in zip(_swapped(host.live.scheduler), snapshot.parcels, strict=True):
        executor.host.put(sequence, executor.in_own_order(parcel))
    return host


def plain_config(config: EngineConfig) -> dict[str, Any]:
    """The options as JSON has them, without policy and cost models: `asdict` would copy them."""
    pretend = config.pretend if isinstance(config.pretend, str) else None
    plain = asdict(replace(config, policy="fcfs", cost_model=None, pretend=pretend))
    return plain | {"policy": None}


def _numbers(scheduler: Scheduler, pages: Pages[int]) -> list[list[int]]:
    """Of these pages, and of their places for each narrower window."""
    pool = scheduler.pool
    return [list(pages), *([places.of[page] for page in pages] for places in pool.windows)]


def _swapped(scheduler: Scheduler) -> list[Sequence]:
    return [sequence for sequence in scheduler.waiting if sequence.num_swapped]
