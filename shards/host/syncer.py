"""Rounds: what awaits the disk is brought there together, in a worker thread, while the next round fills.

A round commits the definitions of every vhost that changed and syncs every file that was written. A failed sync cannot
be repeated (the kernel has dropped the pages), so the shard ends with what awaited it unconfirmed, and recovers from
disk. A definitions commit that fails for want of space left nothing behind and is tried again.
"""

import sqlite3
from collections.abc import Callable, Sequence
from typing import Final

import structlog
import trio

from shards.model.turn import Turn
from shards.model.vhosts import VHosts
from shards.store.definitions import Change, Definitions
from shards.store.files import Files

_Changes = Sequence[tuple[Definitions, list[Change]]]
_RETRIES_MAX: Final = 600


class SyncFailed(Exception):
    """The disk did not take what was written: nothing of this round may be confirmed."""


class Syncer:
    """Runs rounds as long as somebody awaits them."""

    def __init__(self, turn: Turn, vhosts: VHosts, files: Files, *, retry_seconds: float) -> None:
        self._turn = turn
        self._vhosts = vhosts
        self._files = files
        self._retry_seconds = retry_seconds
        self._wanted = trio.Event()
        self._thread = trio.CapacityLimiter(1)
        self._one_round = trio.Lock()  # rounds end in the order they began
        self._log = structlog.get_logger("shard.syncer")

    def want(self) -> None:
        """Begin a round soon; called after a turn that left something to bring to disk."""
        self._wanted.set()

    async def run(self, nudge: Callable[[], None]) -> None:
        """Round after round until cancelled. Raises SyncFailed."""
        while True:
            await self._wanted.wait()
            self._wanted = trio.Event()
            await self.round()
            nudge()

    async def round(self) -> None:
        """One round: everything written and changed until now is on disk when this returns."""
        async with self._one_round:
            number = self._turn.begin_round()
            changes = self._vhosts.take_changes()
            batch = self._files.take_unsynced()
            await self._commit(changes)
            if self._turn.syncs:
                try:
                    await trio.to_thread.run_sync(batch.run, limiter=self._thread)
                except OSError as fault:
                    raise SyncFailed(f"fdatasync failed: {fault.strerror}") from fault
            self._turn.complete_round(number)

    async def _commit(self, changes: _Changes) -> None:
        left = list(changes)
        for _ in range(_RETRIES_MAX):
            try:
                await trio.to_thread.run_sync(_commit_all, left, limiter=self._thread)
                return
            except (sqlite3.OperationalError, OSError) as fault:
                self._log.warning("definitions not written, trying again", reason=str(fault))
                await trio.sleep(self._retry_seconds)
        raise SyncFailed("definitions could not be committed")


def _commit_all(left: list[tuple[Definitions, list[Change]]]) -> None:
    while left:
        definitions, changes = left[0]
        definitions.commit(changes)
        left.pop(0)
