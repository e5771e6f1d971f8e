"""Rounds: what awaits the disk is brought there together, by a thread of its own, while the next round fills.

```
pump:    … finish the turn ─ begin ──► send, turn, turn … ──► collect ─ confirm ─ begin …
thread:                        └─ commit definitions, fdatasync ─ bell ┘
```
A round commits the definitions of every vhost that changed, and syncs their journals and what else was written for it.
A failed sync cannot be repeated (the kernel has dropped the pages), so the shard ends with what awaited it unconfirmed,
and recovers from disk. A definitions commit that fails for want of space left nothing behind and is tried again.
"""

import sqlite3
import time
from collections.abc import Sequence
from typing import Final, NamedTuple

import structlog
import trio

from shards.host.bell import Bell
from shards.host.worker import SyncFailed, Worker, sync
from shards.model.turn import Turn
from shards.model.vhosts import VHosts
from shards.store.definitions import Change, Definitions
from shards.store.files import Files, SyncBatch

_RETRIES_MAX: Final = 600


class _Round(NamedTuple):
    number: int
    changes: Sequence[tuple[Definitions, list[Change]]]
    batch: SyncBatch


class Syncer:
    """Runs one round at a time, so that rounds end in the order they began."""

    def __init__(self, turn: Turn, vhosts: VHosts, files: Files, bell: Bell, *, retry_seconds: float) -> None:
        self._turn = turn
        self._vhosts = vhosts
        self._files = files
        self._retry_seconds = retry_seconds
        self._worker: Worker[_Round] = Worker("syncer", self._carry_out, bell)
        self._is_running = False
        self._changes: Sequence[tuple[Definitions, list[Change]]] = ()  # of the round that runs
        self._became_quiet = trio.Event()
        self._log = structlog.get_logger("shard.syncer")

    def start(self) -> None:
        """Before the first turn."""
        self._worker.start()

    def proceed(self) -> None:
        """Take note of a round that has ended, and begin the next if somebody awaits it. Raises SyncFailed."""
        for ended in self._worker.ended():
            self._is_running = False
            self._changes = ()
            self._turn.complete_round(ended.number)
        if self._is_running:
            return
        if self._turn.round_wanted:
            self._begin()
        if not self._is_running:
            self._became_quiet.set()

    def committing(self, definitions: Definitions) -> Sequence[Change]:
        """Changes that the round under way brings to disk: they may be there already, or not yet."""
        return [change for some, changes in self._changes if some is definitions for change in changes]

    async def quiet(self) -> None:
        """Returns when nothing awaits the disk; the pump must be running."""
        while self._is_running or self._turn.round_wanted:
            self._became_quiet = trio.Event()
            await self._became_quiet.wait()

    def _begin(self) -> None:
        number = self._turn.begin_round()
        batch = self._files.take_unsynced()
        changes = self._vhosts.take_changes()
        if not batch and not changes:
            # All that was to be brought to disk has been delivered and settled before it was even written.
            self._turn.complete_round(number)
            return
        self._is_running = True
        self._changes = changes
        self._worker.begin(_Round(number, changes, batch))

    # in the thread ----------------------------------------------------------------------------------------------------

    def _carry_out(self, begun: _Round) -> None:
        if begun.changes:
            self._commit(list(begun.changes))
        if begun.batch:
            sync(begun.batch)

    def _commit(self, left: list[tuple[Definitions, list[Change]]]) -> None:
        for _ in range(_RETRIES_MAX):
            try:
                while left:
                    definitions, changes = left[0]
                    definitions.commit(changes)
                    left.pop(0)
                return
            except (sqlite3.OperationalError, OSError) as fault:
                self._log.warning("definitions not written, trying again", reason=str(fault))
                time.sleep(self._retry_seconds)
        raise SyncFailed("definitions could not be committed")
