"""A shard gives back by itself what a peak has left, in the time its clients leave it, and does nothing otherwise."""

from collections.abc import AsyncIterator, Iterator

import pytest
import trio

from ipc.limits import MIB
from ipc.messages.commands import Level
from ipc.messages.reports import Reclaimed
from ipc.reactor import READABLE, Reactor
from ipc.settings import CompactionSettings
from shards.compaction.compactable import Compactable, ShrinkPolicy, Step
from shards.host.bell import Bell
from shards.host.compactor import Compactor
from shards.host.idle_trim import IdleTrim

IDLE_SECONDS = 0.3
SPIKE = 300_000


class Owner(Compactable):
    COLLECTIONS = ("held",)

    def __init__(self) -> None:
        self.held: dict[int, bytes] = {}
        self.looks = 0

    def spike(self) -> None:
        self.held = {number: bytes(100) for number in range(SPIKE)}

    def drain(self) -> None:
        while len(self.held) > 10:
            self.held.popitem()

    def shrink(self, level: Level, policy: ShrinkPolicy) -> Iterator[Step]:
        self.looks += 1
        yield from super().shrink(level, policy)


class World:
    """An owner of memory and a pump that does nothing but sleep, or nothing but turn."""

    def __init__(self) -> None:
        self.owner = Owner()
        self.reactor = Reactor()
        self.bell = Bell()
        self.reactor.add(self.bell.descriptor, READABLE)
        self.settings = CompactionSettings(idle_trim_seconds=IDLE_SECONDS)
        self.compactor = Compactor(self.owner, shard=0)
        self.reports: list[Reclaimed] = []
        self.reported = trio.Event()
        self.is_busy = False

    async def pump(self) -> None:
        while True:
            await self.reactor.wait(has_work=self.is_busy, lingers=False)

    async def report(self, reclaimed: Reclaimed) -> None:
        self.reports.append(reclaimed)
        self.reported.set()


@pytest.fixture
async def world(nursery: trio.Nursery) -> AsyncIterator[World]:
    world = World()
    trim = IdleTrim(world.compactor, world.reactor, lambda: world.settings, lambda: 0, world.report)
    nursery.start_soon(world.pump)
    nursery.start_soon(trim.run)
    yield world
    nursery.cancel_scope.cancel()


async def observed_peak(world: World) -> None:
    world.owner.spike()
    await trio.sleep(IDLE_SECONDS)  # it looks several times in that


async def test_a_passed_peak_is_given_back_without_any_pressure(world: World) -> None:
    await observed_peak(world)
    world.owner.drain()

    with trio.fail_after(5):
        await world.reported.wait()

    (report,) = world.reports
    assert report.trigger == "idle"
    assert report.freed_bytes_by_kind["dict"] > 5 * MIB
    assert len(world.owner.held) == 10


async def test_nothing_is_looked_at_while_no_peak_has_passed(world: World) -> None:
    world.owner.spike()

    await trio.sleep(4 * IDLE_SECONDS)

    assert world.owner.looks == 0


async def test_what_was_given_back_once_is_not_looked_at_again(world: World) -> None:
    await observed_peak(world)
    world.owner.drain()
    with trio.fail_after(5):
        await world.reported.wait()

    await trio.sleep(4 * IDLE_SECONDS)

    assert world.owner.looks == 1


async def test_a_shard_that_is_always_busy_gives_back_all_the_same(world: World) -> None:
    world.is_busy = True
    await observed_peak(world)
    world.owner.drain()

    with trio.fail_after(10):
        await world.reported.wait()


async def test_zero_seconds_turn_it_off(world: World) -> None:
    world.settings = CompactionSettings(idle_trim_seconds=0.0)
    await observed_peak(world)
    world.owner.drain()

    await trio.sleep(4 * IDLE_SECONDS)

    assert world.owner.looks == 0
