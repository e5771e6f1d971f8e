"""Draws up accounts of the shard's memory beside the pump, in slices of half a millisecond, one account at a time.

Whoever asks for the same while one is drawn up gets that one; whoever asks within a second after it too. So however
many watch a broker, and however closely, a walk a second is all it costs.
"""

import time

import trio
from msgspec import Struct

from ipc.limits import ACCOUNT_KEPT_SECONDS, ACCOUNT_NAMED_MAX, ACCOUNT_SLICE_SECONDS_MAX
from ipc.memory_reading import read_memory
from ipc.messages.reports import MemoryReading
from ipc.slices import Clock, Slices
from shards.compaction.accounting import Account
from shards.compaction.compactable import Compactable
from shards.host.slicing import take_slice


class Drawn(Struct, frozen=True):
    """A complete account, and what it took."""

    account: Account
    reading: MemoryReading
    at: float  # when it was complete, by the accountant's clock
    seconds: float
    seconds_cpu: float
    slice_seconds_longest: float  # of CPU as well: what other processes took meanwhile is not ours to tell


class Accountant:
    """The accounts of one shard."""

    def __init__(
        self, root: Compactable, *, clock: Clock = time.perf_counter, cpu_clock: Clock = time.thread_time
    ) -> None:
        self._root = root
        self._clock = clock
        self._cpu_clock = cpu_clock
        self._drawing = trio.Lock()
        self._kept: tuple[str | None, Drawn] | None = None

    async def account(self, vhost: str | None = None) -> tuple[Drawn, float]:
        """What memory is used for, by all or by one vhost, and how many seconds ago that was found."""
        async with self._drawing:
            if self._kept is not None and self._kept[0] == vhost:
                drawn = self._kept[1]
                age_seconds = self._clock() - drawn.at
                if age_seconds <= ACCOUNT_KEPT_SECONDS:
                    return drawn, age_seconds
            drawn = await self._draw(vhost)
            self._kept = (vhost, drawn)
            return drawn, 0.0

    def forget(self) -> None:
        """The account that is kept has served; it is memory, too."""
        if self._kept is not None and self._clock() - self._kept[1].at >= ACCOUNT_KEPT_SECONDS:
            self._kept = None

    async def _draw(self, vhost: str | None) -> Drawn:
        account = Account(top=ACCOUNT_NAMED_MAX, vhost=vhost)
        steps = account.take(self._root)
        began = self._clock()
        slices = Slices(self._clock, self._cpu_clock)
        is_complete = False
        while not is_complete:
            with slices:
                is_complete = take_slice(steps, ACCOUNT_SLICE_SECONDS_MAX, self._clock)
            await trio.lowlevel.checkpoint()
        reading = await trio.to_thread.run_sync(read_memory)
        now = self._clock()
        return Drawn(account, reading, now, now - began, slices.cpu_seconds, slices.cpu_seconds_longest)
