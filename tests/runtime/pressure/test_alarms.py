"""The watch over real memory and a real file system, with limits that are moved instead of filling either."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from os import getpid
from pathlib import Path
from typing import Any

import structlog.testing
import trio
import trio.testing

from ipc.messages.commands import Alarms, Level
from ipc.settings import AlarmSettings, Settings
from runtime.decisions.ladder import Reading
from runtime.pressure.alarms import AlarmWatch

NO_LIMITS = AlarmSettings(memory_share_max=0.0, disk_free_bytes_min=0, look_seconds_max=3600.0)
LITTLE_MEMORY = AlarmSettings(memory_bytes_max=1, disk_free_bytes_min=0, look_seconds_min=0.01, look_seconds_max=0.01)
LITTLE_DISK = AlarmSettings(memory_share_max=0.0, disk_free_bytes_min=1 << 60, look_seconds_max=3600.0)


class Watched:
    """A watch that runs, its settings, and what the ladder is told."""

    def __init__(self, directory: Path) -> None:
        self.settings = Settings(alarms=NO_LIMITS)
        self.observed: list[Reading] = []
        self.watch = AlarmWatch(lambda: self.settings, lambda: [getpid()], directory)

    def set(self, alarms: AlarmSettings) -> None:
        self.settings = Settings(alarms=alarms)
        self.watch.look_again()

    async def reach(self, condition: Callable[[], bool]) -> None:
        with trio.fail_after(10):
            while not condition():
                await trio.sleep(0.001)


@asynccontextmanager
async def watched(directory: Path) -> AsyncIterator[tuple[Watched, list[Any]]]:
    world = Watched(directory)
    with structlog.testing.capture_logs() as logs:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(world.watch.run, world.observed.append)
            yield world, logs
            nursery.cancel_scope.cancel()


async def test_changed_limits_hold_at_once(tmp_path: Path) -> None:
    async with watched(tmp_path) as (world, _logs):
        world.set(LITTLE_DISK)
        await world.reach(lambda: world.watch.raised == Alarms(disk=True))
        world.set(LITTLE_MEMORY)
        await world.reach(lambda: world.watch.raised == Alarms(memory=True))
        world.set(NO_LIMITS)
        await world.reach(lambda: world.watch.raised == Alarms())


async def test_each_change_is_logged_once_with_its_figures(tmp_path: Path) -> None:
    async with watched(tmp_path) as (world, logs):
        world.set(LITTLE_MEMORY)
        await world.reach(lambda: len(world.observed) > 5)
        world.set(NO_LIMITS)
        await world.reach(lambda: world.watch.raised == Alarms())

    assert [(log["event"], log["alarm"]) for log in logs] == [
        ("alarm raised, publishers wait", "memory"),
        ("alarm cleared", "memory"),
    ]
    assert logs[0]["memory_bytes"] > logs[0]["memory_bytes_max"] == 1


async def test_who_waits_for_a_change_hears_of_it(tmp_path: Path) -> None:
    async with watched(tmp_path) as (world, _logs):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(world.watch.changed)
            await trio.testing.wait_all_tasks_blocked()
            world.set(LITTLE_MEMORY)
            with trio.fail_after(10):
                await world.watch.changed()
        assert world.watch.raised == Alarms(memory=True)


async def test_short_memory_asks_for_the_hardest_pass_as_long_as_it_lasts(tmp_path: Path) -> None:
    async with watched(tmp_path) as (world, _logs):
        world.set(LITTLE_MEMORY)
        await world.reach(lambda: len(world.observed) > 2)
        assert {reading.floor for reading in world.observed} == {Level.CRITICAL}
        world.set(LITTLE_DISK)
        await world.reach(lambda: world.watch.raised == Alarms(disk=True))
        count = len(world.observed)
        world.set(NO_LIMITS)
        await world.reach(lambda: world.watch.raised == Alarms())

    assert len(world.observed) == count


async def test_only_the_first_word_of_each_alarm_is_news(tmp_path: Path) -> None:
    async with watched(tmp_path) as (world, _logs):
        for _ in range(2):
            count = len(world.observed)
            world.set(LITTLE_MEMORY)
            await world.reach(lambda count=count: len(world.observed) > count + 2)  # type: ignore[misc]
            world.set(NO_LIMITS)
            await world.reach(lambda: world.watch.raised == Alarms())

    assert world.observed[0].is_new
    assert sum(reading.is_new for reading in world.observed) == 2


async def test_a_directory_that_cannot_be_asked_raises_nothing(tmp_path: Path) -> None:
    async with watched(tmp_path / "gone") as (world, logs):
        world.set(LITTLE_DISK)
        await world.watch.look()

    assert world.watch.raised == Alarms()
    assert not logs
