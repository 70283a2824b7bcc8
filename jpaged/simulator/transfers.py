"""Sequences on their way between replicas.

stopped    ■ keeps still, on its pages ─────────────────► goes on there, when there is room
live       ─ runs ──────────────────────────────── ■ ──► goes on there, or stays
                     pages are copied                last step
"""

from collections.abc import Sequence as Many
from dataclasses import dataclass

from jpaged.scheduling.migration import has_room, move
from jpaged.scheduling.request import Sequence, Status
from jpaged.simulator.replica import Replica
from jpaged.simulator.routing import Move


@dataclass(eq=False)
class Transfer:
    """A move from one replica to another.  is_copied: only the change of hands is left."""

    sequence: Sequence
    source: int
    target: int
    is_live: bool
    is_copied: bool = False


class Transfers:
    """Who is on their way.  `num_moved` counts those who arrived."""

    def __init__(self, replicas: Many[Replica]):
        self.replicas = replicas
        self.num_moved = 0
        self._of: dict[Sequence, Transfer] = {}

    def begin(self, wish: Move, source: int) -> Transfer | None:
        """Sets out, unless the sequence is on its way, or cannot go.  Raises `ValueError` for a
        move that makes no sense."""
        sequence, target, seconds, is_live = wish
        if not 0 <= target < len(self.replicas) or target == source or not seconds >= 0:
            raise ValueError(
                f"the router wants {sequence} to go from replica {source} to {target} in {seconds} "
                f"seconds; there are {len(self.replicas)}, and it must be another one"
            )
        if sequence in self._of or sequence.status is not Status.RUNNING:
            return None
        if len(sequence.family) > 1:
            return None
        transfer = self._of[sequence] = Transfer(sequence, source, target, is_live)
        self.replicas[target].num_coming += 1
        if not is_live:
            self.replicas[source].scheduler.pause(sequence)
        return transfer

    def finish_copying(self, transfer: Transfer) -> bool:
        """The time has passed.  Returns whether the sequence has changed hands."""
        transfer.is_copied = True
        if not transfer.sequence.is_finished:
            self.replicas[transfer.source].scheduler.pause(transfer.sequence)
        return self._change_hands(transfer)

    def retry(self, replica: int) -> list[Transfer]:
        """After a step of it: those who have changed hands now, from there or to there."""
        waiting = [
            each
            for each in self._of.values()
            if each.is_copied and replica in (each.source, each.target)
        ]
        return [each for each in waiting if self._change_hands(each)]

    def give_up(self) -> list[int]:
        """Nobody goes anywhere: returns where they stay."""
        given_up = list(self._of.values())
        for transfer in given_up:
            self._end(transfer)
        return [transfer.source for transfer in given_up]

    def _change_hands(self, transfer: Transfer) -> bool:
        sequence = transfer.sequence
        source, target = [
            self.replicas[each].scheduler for each in (transfer.source, transfer.target)
        ]
        if sequence.is_finished:
            self._end(transfer)
            return False
        if move(sequence, source, target) is not None:
            self.num_moved += 1
            self._end(transfer)
            return True
        if transfer.is_live and not has_room(target, sequence):
            self._end(transfer)
        return False

    def _end(self, transfer: Transfer) -> None:
        del self._of[transfer.sequence]
        self.replicas[transfer.target].num_coming -= 1
        self.replicas[transfer.source].scheduler.resume(transfer.sequence)
