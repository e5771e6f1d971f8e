"""Checkpoints: files that a journal covers are synced by a thread of their own; then its oldest files are used again.

A thread beside the syncer's, because confirms must not wait for thousands of files that nobody is waiting for. A sync
that fails is as final here as there: the journal still has everything, and the shard begins again with it.

What the register is to know of, the same thread writes; it is gathered before, in slices between turns, because a
thread that works on objects would hold the event loop up for longer.
"""

from collections.abc import Iterator
from typing import NamedTuple

from ipc.limits import CHECKPOINT_SLICE_SECONDS_MAX
from shards.host.bell import Bell
from shards.host.slicing import take_slice
from shards.host.worker import Worker, sync
from shards.model.turn import Turn
from shards.store.journal import Checkpoint, Journal


class _Begun(NamedTuple):
    journal: Journal
    checkpoint: Checkpoint


class _Preparation(NamedTuple):
    journal: Journal
    steps: Iterator[None]


class Checkpointer:
    """One checkpoint after the other, for all journals of a shard."""

    def __init__(self, turn: Turn, bell: Bell) -> None:
        self._turn = turn
        self._bell = bell
        self._worker: Worker[_Begun] = Worker("checkpointer", _carry_out, bell)
        self._preparation: _Preparation | None = None

    def start(self) -> None:
        """Before the first turn."""
        self._worker.start()

    def proceed(self) -> None:
        """Take note of checkpoints that have ended, and begin those that are wanted. Raises SyncFailed."""
        for begun in self._worker.ended():
            self._turn.checkpointed(begun.journal)
        while self._turn.checkpoints:
            journal = next(iter(self._turn.checkpoints))
            if not self._prepare(journal):
                self._bell.ring()  # to go on with it in the next turn
                return
            del self._turn.checkpoints[journal]
            self._worker.begin(_Begun(journal, journal.begin_checkpoint()))

    def _prepare(self, journal: Journal) -> bool:
        """A slice of what is to be done before a checkpoint of this journal; whether it was the last."""
        preparation = self._preparation
        if preparation is None or preparation.journal is not journal:  # the other one was closed meanwhile
            preparation = self._preparation = _Preparation(journal, journal.prepare_checkpoint())
        if not take_slice(preparation.steps, CHECKPOINT_SLICE_SECONDS_MAX):
            return False
        self._preparation = None
        return True


def _carry_out(begun: _Begun) -> None:
    sync(begun.checkpoint)
