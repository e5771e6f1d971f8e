"""The watcher between a real source and a request: every report is answered, and nothing is left behind."""

import os
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import structlog.testing
import trio

from ipc.messages.commands import Level
from ipc.settings import CompactionSettings, Settings
from runtime.pressure import watcher
from runtime.pressure.gauge import Gauge
from runtime.pressure.watcher import watch

QUICK = CompactionSettings(cool_down_seconds=0.2, escalate_seconds=10.0, poll_seconds=0.1)


class Passes:
    """Notes what is requested; each request takes `seconds`."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.requested: list[tuple[Level, str]] = []
        self._seconds = seconds
        self._news = trio.Event()

    async def request(self, level: Level, trigger: str) -> None:
        self.requested.append((level, trigger))
        self._news.set()
        self._news = trio.Event()
        await trio.sleep(self._seconds)

    async def reach(self, count: int) -> None:
        while len(self.requested) < count:
            await self._news.wait()


@asynccontextmanager
async def watching(
    passes: Passes, compaction: CompactionSettings, environment: dict[str, str]
) -> AsyncIterator[list[Any]]:
    settings = Settings(compaction=compaction)
    with structlog.testing.capture_logs() as logs:
        async with trio.open_nursery() as nursery:

            async def run() -> None:
                await watch(lambda: settings, passes.request, Gauge(), environment=environment)

            nursery.start_soon(run)
            with trio.fail_after(10):
                while not logs:
                    await trio.sleep(0.01)
                yield logs
            nursery.cancel_scope.cancel()


@pytest.fixture
def fifo(tmp_path: Path) -> Path:
    path = tmp_path / "pressure"
    os.mkfifo(path)
    return path


async def test_a_report_becomes_a_pass_and_lasting_pressure_climbs(fifo: Path) -> None:
    passes = Passes()
    async with watching(passes, QUICK, {"MEMORY_PRESSURE_WATCH": str(fifo)}) as logs:
        for number in range(1, 4):
            fifo.write_bytes(b"!")
            await passes.reach(number)
            await trio.sleep(0.01)

    assert logs[0]["source"] == "systemd"
    assert passes.requested == [(Level.TRIM, "systemd"), (Level.RELEASE, "systemd"), (Level.CRITICAL, "systemd")]


async def test_a_flood_of_reports_is_a_handful_of_passes(fifo: Path) -> None:
    passes = Passes()
    async with watching(passes, QUICK, {"MEMORY_PRESSURE_WATCH": str(fifo)}):
        deadline = trio.current_time() + 0.7
        while trio.current_time() < deadline:
            fifo.write_bytes(b"!" * 100)
            await trio.sleep(0.001)

    assert 2 <= len(passes.requested) <= 5


async def test_cancelling_leaves_no_thread_and_no_descriptor(fifo: Path) -> None:
    async with watching(Passes(), QUICK, {"MEMORY_PRESSURE_WATCH": str(fifo)}):
        pass  # trio's cached threads exist from here on
    descriptors = len(os.listdir("/proc/self/fd"))
    threads = threading.active_count()

    for _ in range(5):
        async with watching(Passes(), QUICK, {"MEMORY_PRESSURE_WATCH": str(fifo)}):
            await trio.sleep(0.02)

    assert len(os.listdir("/proc/self/fd")) == descriptors
    assert threading.active_count() <= threads + 1


async def test_a_source_that_goes_away_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watcher, "SOURCE_REOPEN_SECONDS", 0.01)
    listener = trio.socket.socket(trio.socket.AF_UNIX)
    await listener.bind(str(tmp_path / "socket"))
    listener.listen(2)
    passes = Passes()
    async with watching(passes, QUICK, {"MEMORY_PRESSURE_WATCH": str(tmp_path / "socket")}) as logs:
        first, _ = await listener.accept()
        first.close()
        second, _ = await listener.accept()
        await second.send(b"!")
        await passes.reach(1)
        second.close()
    listener.close()

    assert [log["event"] for log in logs[:3]] == [
        "watching memory pressure",
        "memory pressure source is gone",
        "watching memory pressure",
    ]


async def test_the_watermark_is_watched_beside_any_source() -> None:
    passes = Passes()
    compaction = CompactionSettings(cool_down_seconds=0.0, poll_seconds=0.1, watermark_bytes=1, pressure_source="none")
    async with watching(passes, compaction, {}):
        await passes.reach(3)

    assert passes.requested[:3] == [
        (Level.TRIM, "watermark"),
        (Level.RELEASE, "watermark"),
        (Level.RELEASE, "watermark"),
    ]


async def test_a_pass_that_hangs_does_not_hold_the_next_one_back(fifo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watcher, "PASS_SECONDS_MAX", 0.05)
    passes = Passes(seconds=3600)
    async with watching(passes, QUICK, {"MEMORY_PRESSURE_WATCH": str(fifo)}):
        fifo.write_bytes(b"!")
        await passes.reach(1)
        await trio.sleep(0.1)
        fifo.write_bytes(b"!")
        await passes.reach(2)
