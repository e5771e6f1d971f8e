"""Has the supervisor give back by itself what a peak has left, such as a crowd of guests or of permissions."""

from collections.abc import Awaitable, Callable, Collection

import trio

from ipc.allocator import allocated_bytes
from ipc.passed_peak import PassedPeak, look_seconds
from ipc.rests import Rests
from ipc.settings import CompactionSettings


class IdleTrim:
    """Looks at how much is allocated a few times in each interval, and lets a pass begin when a peak has passed."""

    def __init__(
        self, settings: Callable[[], CompactionSettings], trim: Callable[[Collection[str]], Awaitable[None]]
    ) -> None:
        """`trim` is told which kinds of collections are to be passed by."""
        self._settings = settings
        self._trim = trim
        self._peak = PassedPeak()
        self._rests = Rests()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            settings = self._settings()
            seconds = settings.idle_trim_seconds
            await trio.sleep(look_seconds(seconds))
            now = trio.current_time()
            if seconds and self._peak.has_passed(await _allocated(), now, seconds):
                await self._trim(self._rests.resting(settings, round(now * 1000)))
                self._peak.forget(await _allocated(), trio.current_time())


async def _allocated() -> int:
    return await trio.to_thread.run_sync(allocated_bytes)
