"""Watches memory and disk for the alarms that make publishers wait, and knows which of them are raised."""

import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final, TypeAlias

import structlog
import trio

from ipc.messages.commands import Alarms, Level
from ipc.settings import AlarmSettings, Settings
from runtime.decisions.alarms import Readings, decide, memory_border, memory_limit, pause_seconds
from runtime.decisions.ladder import Reading
from runtime.pressure.footprint import held_bytes, memory_total_bytes

_Figures: TypeAlias = dict[str, dict[str, float | None]]

_log: Final[structlog.stdlib.BoundLogger] = structlog.get_logger("alarms")

# What publishers have brought in so far may be gone soon, but CPython and the allocator give it back only when asked.
_MEMORY_IS_SHORT: Final = Reading("memory alarm", floor=Level.CRITICAL)
_SHORT_AGAIN: Final = Reading("memory alarm", floor=Level.CRITICAL, is_new=True)


class AlarmWatch:
    """`raised` is what holds now; whoever has to know waits for `changed` and looks again."""

    def __init__(
        self, settings_source: Callable[[], Settings], processes: Callable[[], Iterable[int]], data_directory: Path
    ) -> None:
        """`processes`: the pids whose memory counts."""
        self.raised = Alarms()
        self.readings: Readings | None = None  # of the last look
        self._settings_source = settings_source
        self._processes = processes
        self._data_directory = data_directory
        self._pause_seconds = 0.0
        self._changed = trio.Event()
        self._is_due = trio.Event()
        self._threads = trio.CapacityLimiter(1)

    async def changed(self) -> None:
        """Returns when other alarms are raised than now."""
        await self._changed.wait()

    def look_again(self) -> None:
        """Other settings hold: do not wait for the next look."""
        self._is_due.set()

    async def run(self, observe: Callable[[Reading], None]) -> None:
        """Look again and again, until cancelled; `observe` hears of it as long as memory is short."""
        was_short = False
        while True:
            if self.raised.memory:
                observe(_MEMORY_IS_SHORT if was_short else _SHORT_AGAIN)
            was_short = self.raised.memory
            with trio.move_on_after(self._pause_seconds):
                await self._is_due.wait()
            self._is_due = trio.Event()
            await self.look()

    async def look(self) -> None:
        """Read and decide once."""
        settings, before = self._settings_source().alarms, self.raised
        began = time.monotonic()
        readings = await trio.to_thread.run_sync(
            _read,
            tuple(self._processes()),
            self._data_directory,
            lambda total: memory_border(before, total, settings),
            limiter=self._threads,
            abandon_on_cancel=True,  # a file system that does not answer must not keep the broker from ending
        )
        self.readings = readings
        self.raised = decide(before, readings, settings)
        self._pause_seconds = pause_seconds(self.raised, readings, settings, looking_seconds=time.monotonic() - began)
        if self.raised != before:
            _log_changes(before, self.raised, _figures(readings, settings))
            self._changed.set()
            self._changed = trio.Event()


def _read(processes: Iterable[int], data_directory: Path, memory_border: Callable[[int], float]) -> Readings:
    """`memory_border` gives the border for a total; 30 µs a process, 10 ms a gigabyte beyond it: for a thread."""
    total = memory_total_bytes()
    return Readings(
        memory_bytes=held_bytes(processes, exact_from=memory_border(total)),
        memory_total_bytes=total,
        disk_free_bytes=_free_bytes(data_directory),
    )


def _free_bytes(directory: Path) -> int | None:
    try:
        disk = os.statvfs(directory)
    except OSError:
        return None
    return disk.f_bavail * disk.f_frsize


def _figures(readings: Readings, settings: AlarmSettings) -> _Figures:
    """What the log says beside each alarm, in bytes."""
    return {
        "memory": {
            "memory_bytes": readings.memory_bytes,
            "memory_bytes_max": memory_limit(readings.memory_total_bytes, settings),
            "clear_share": settings.memory_clear_share,
        },
        "disk": {
            "disk_free_bytes": readings.disk_free_bytes,
            "disk_free_bytes_min": settings.disk_free_bytes_min,
            "clear_ratio": settings.disk_clear_ratio,
        },
    }


def _log_changes(before: Alarms, after: Alarms, figures: _Figures) -> None:
    for resource, values in figures.items():
        if getattr(after, resource) and not getattr(before, resource):
            _log.warning("alarm raised, publishers wait", alarm=resource, **values)
        elif getattr(before, resource) and not getattr(after, resource):
            _log.warning("alarm cleared", alarm=resource, **values)
