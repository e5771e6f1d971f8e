"""Has a shard give back by itself what a peak has left, in the time its clients leave it."""

from collections.abc import Awaitable, Callable

import trio

from ipc.allocator import allocated_bytes
from ipc.limits import IDLE_PATIENCE_SECONDS
from ipc.messages.reports import Reclaimed
from ipc.passed_peak import PassedPeak, look_seconds
from ipc.reactor import Reactor
from ipc.settings import CompactionSettings
from shards.host.compactor import Compactor


class IdleTrim:
    """Looks at how much is allocated a few times in each interval, and lets a pass begin when a peak has passed."""

    def __init__(
        self,
        compactor: Compactor,
        reactor: Reactor,
        settings: Callable[[], CompactionSettings],
        clock: Callable[[], int],
        report: Callable[[Reclaimed], Awaitable[None]],
    ) -> None:
        self._compactor = compactor
        self._reactor = reactor
        self._settings = settings
        self._clock = clock
        self._report = report
        self._peak = PassedPeak()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            seconds = self._settings().idle_trim_seconds
            await trio.sleep(look_seconds(seconds))
            if seconds and self._peak.has_passed(await _allocated(), trio.current_time(), seconds):
                await self._trim()

    async def _trim(self) -> None:
        reclaimed = await self._compactor.run_idle_pass(self._settings(), self._quiet, now=self._clock())
        self._peak.forget(await _allocated(), trio.current_time())
        if reclaimed is not None:
            await self._report(reclaimed)

    async def _quiet(self) -> None:
        """Returns when the pump waits for clients; on a shard that is always busy, once in a long while."""
        await trio.lowlevel.checkpoint()
        with trio.move_on_after(IDLE_PATIENCE_SECONDS):
            await self._reactor.asleep()


async def _allocated() -> int:
    return await trio.to_thread.run_sync(allocated_bytes)
