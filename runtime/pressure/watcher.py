"""Watches the sources, asks the ladder and requests passes, for as long as the supervisor lives.

Sources are polled in a thread: trio waits for readability, and a pressure file is always readable. The thread is woken
by an eventfd, so cancelling never leaves one behind that polls descriptors somebody else has got meanwhile.
"""

import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Final

import structlog
import trio

from ipc.limits import PASS_SECONDS_MAX, READINGS_PAUSE_SECONDS, SOURCE_REOPEN_SECONDS
from ipc.messages.commands import Level
from ipc.settings import Settings
from runtime.decisions.ladder import Pass, Reading
from runtime.pressure.chain import Opened, open_best
from runtime.pressure.footprint import broker_bytes, memory_shortage
from runtime.pressure.gauge import Gauge
from runtime.pressure.sources import Source, SourceGone, wait_for_any

_log: Final[structlog.stdlib.BoundLogger] = structlog.get_logger("pressure")

Request = Callable[[Level, str], Awaitable[object]]
Observe = Callable[[Reading], None]
Watch = Callable[[Observe], Awaitable[None]]
"""Reads memory its own way and calls `observe` when it is short, until cancelled."""


async def watch(
    settings_source: Callable[[], Settings],
    request: Request,
    gauge: Gauge,
    *others: Watch,
    environment: Mapping[str, str] = os.environ,
) -> None:
    """Request passes until cancelled; `request(level, trigger)` returns when the pass is over.

    `compaction.pressure_source` is read once; the other settings may change at any time.
    """
    watcher = _Watcher(settings_source, request, gauge)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(watcher.climb)
        nursery.start_soon(watcher.measure)
        nursery.start_soon(watcher.listen, environment)
        for other in others:
            nursery.start_soon(other, watcher.observe)


class _Watcher:
    def __init__(self, settings_source: Callable[[], Settings], request: Request, gauge: Gauge) -> None:
        self._settings_source = settings_source
        self._request = request
        self._gauge = gauge
        self._ladder = gauge.ladder
        self._news = trio.Event()
        self._is_polling = False
        self._threads = trio.CapacityLimiter(2)

    def observe(self, reading: Reading) -> None:
        self._ladder.observe(reading, trio.current_time())
        self._news.set()

    async def climb(self) -> None:
        """Run one pass after the other, as the ladder wants them."""
        while True:
            compaction = self._settings_source().compaction
            step = self._ladder.take(trio.current_time(), compaction)
            if step is not None:
                await self._run(step)
                continue
            self._news = trio.Event()
            with trio.move_on_at(self._ladder.wakes_at(compaction)):
                await self._news.wait()

    async def _run(self, step: Pass) -> None:
        try:
            with trio.move_on_after(PASS_SECONDS_MAX) as patience:
                await self._request(step.level, step.trigger)
            if patience.cancelled_caught:
                _log.warning("compaction pass takes too long, no longer waited for", level=step.level.name)
        finally:
            self._ladder.finished(trio.current_time())

    async def measure(self) -> None:
        """The watermark, and what the machine and our cgroups have left while nothing better is there."""
        while True:
            compaction = self._settings_source().compaction
            await trio.sleep(max(compaction.poll_seconds, 0.1))
            if self._is_polling:
                level = await trio.to_thread.run_sync(memory_shortage, limiter=self._threads)
                if level is not None:
                    self.observe(Reading("poll", level, level))
            if compaction.watermark_bytes:
                ours = await trio.to_thread.run_sync(broker_bytes, limiter=self._threads)
                if ours > compaction.watermark_bytes:
                    self.observe(Reading("watermark", ceiling=Level.RELEASE))

    async def listen(self, environment: Mapping[str, str]) -> None:
        """Follow the best source there is; when it goes away, find the next best."""
        wanted = self._settings_source().compaction.pressure_source
        while True:
            opened = await trio.to_thread.run_sync(open_best, wanted, environment, limiter=self._threads)
            _log.info("watching memory pressure", source=opened.name, passed_over=opened.reasons)
            self._gauge.source = opened.name
            self._is_polling = opened.name == "poll"
            if not opened.sources:
                await trio.sleep_forever()
            try:
                await self._follow(opened)
            except SourceGone as gone:
                _log.warning("memory pressure source is gone", reason=str(gone))
            finally:
                opened.close()
            await trio.sleep(SOURCE_REOPEN_SECONDS)

    async def _follow(self, opened: Opened) -> None:
        wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        gone: SourceGone | None = None
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_wake_when_cancelled, wake)
                wait = partial(wait_for_any, opened.sources, wake)
                while gone is None:
                    ready = await trio.to_thread.run_sync(wait, limiter=self._threads)
                    gone = self._observe_ready(ready)
                    await trio.sleep(READINGS_PAUSE_SECONDS)
                nursery.cancel_scope.cancel()
        finally:
            os.close(wake)
        raise gone

    def _observe_ready(self, ready: Sequence[tuple[Source, int]]) -> SourceGone | None:
        for source, events in ready:
            try:
                floor = source.read(events)
            except SourceGone as gone:
                return gone
            if floor is not None:
                self.observe(Reading(source.name, floor))
        return None


async def _wake_when_cancelled(wake: int) -> None:
    try:
        await trio.sleep_forever()
    finally:
        os.eventfd_write(wake, 1)
