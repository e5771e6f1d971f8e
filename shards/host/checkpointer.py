"""Checkpoints: files that a journal covers are synced by a thread of their own; then its oldest files are used again.

A thread beside the syncer's, because confirms must not wait for thousands of files that nobody is waiting for. A sync
that fails is as final here as there: the journal still has everything, and the shard begins again with it.
"""

from typing import NamedTuple

from shards.host.bell import Bell
from shards.host.worker import Worker, sync
from shards.model.turn import Turn
from shards.store.files import SyncBatch
from shards.store.journal import Journal


class _Checkpoint(NamedTuple):
    journal: Journal
    batch: SyncBatch


class Checkpointer:
    """One checkpoint after the other, for all journals of a shard."""

    def __init__(self, turn: Turn, bell: Bell) -> None:
        self._turn = turn
        self._worker: Worker[_Checkpoint] = Worker("checkpointer", _carry_out, bell)

    def proceed(self) -> None:
        """Take note of checkpoints that have ended, and begin those that are wanted. Raises SyncFailed."""
        for checkpoint in self._worker.ended():
            self._turn.checkpointed(checkpoint.journal)
        while self._turn.checkpoints:
            journal, _ = self._turn.checkpoints.popitem()
            self._worker.begin(_Checkpoint(journal, journal.begin_checkpoint()))


def _carry_out(checkpoint: _Checkpoint) -> None:
    sync(checkpoint.batch)
