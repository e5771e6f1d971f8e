"""Copies vhosts into a backup beside the pump: the cut is made between two turns, the rest by a thread."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

import structlog
import trio

from ipc.limits import BACKUP_SLICE_SECONDS_MAX
from ipc.messages.reports import BackedUp
from ipc.slices import Slices
from shards.host.slicing import take_slice
from shards.model.cut import Cut

if TYPE_CHECKING:
    from shards.host.shard import Shard

STOPPED: Final = "it was stopped"
NOT_OPEN: Final = "it is not open"


class Backups:
    """One vhost after the other, so that nothing is kept for a copy for longer than that copy takes."""

    def __init__(self, shard: "Shard") -> None:
        self._shard = shard
        self._copying = trio.Lock()
        self._stopping = trio.CancelScope()
        self._log = structlog.get_logger("shard.backups")

    async def back_up(self, number: int, name: str, target: Path) -> BackedUp:
        """The answer to question `number`; the copy is on disk, or there is a reason why not."""
        async with self._copying:
            with trio.CancelScope() as self._stopping:
                return await self._back_up(number, name, target)
        return self._failed(number, STOPPED)

    def stop(self) -> None:
        """Whatever is being copied: nobody wants it any more."""
        self._stopping.cancel()

    async def _back_up(self, number: int, name: str, target: Path) -> BackedUp:
        shard = self._shard
        began = time.perf_counter()
        cut = shard.vhosts.begin_cut(name, target)
        if cut is None:
            return self._failed(number, NOT_OPEN)
        try:
            longest = await self._prepare(cut)
            cut_at, cut_began = time.time(), time.perf_counter()
            if not shard.vhosts.make_cut(cut, shard.syncer.committing):
                return self._failed(number, NOT_OPEN)
            cut_seconds = max(longest, time.perf_counter() - cut_began)
            copied = await trio.to_thread.run_sync(cut.copy, trio.from_thread.check_cancelled)
        except OSError as fault:
            return self._failed(number, str(fault))
        finally:
            cut.end()
        seconds = time.perf_counter() - began
        self._log.info(
            "vhost backed up",
            vhost=name,
            files=copied.files,
            bytes=copied.bytes,
            files_linked=copied.files_linked,
            cut_seconds=round(cut_seconds, 6),
            seconds=round(seconds, 3),
        )
        return BackedUp(
            number,
            shard.number,
            is_last=True,
            failure="",
            cut_at=cut_at,
            cut_seconds=cut_seconds,
            files_linked=copied.files_linked,
        )

    async def _prepare(self, cut: Cut) -> float:
        """In slices; how long the longest of them took."""
        steps = cut.prepare()
        slices = Slices(time.perf_counter, time.thread_time)
        is_complete = False
        while not is_complete:
            with slices:
                is_complete = take_slice(steps, BACKUP_SLICE_SECONDS_MAX)
            await trio.lowlevel.checkpoint()
        return slices.seconds_longest

    def _failed(self, number: int, reason: str) -> BackedUp:
        return BackedUp(
            number, self._shard.number, is_last=True, failure=reason, cut_at=0.0, cut_seconds=0.0, files_linked=0
        )
