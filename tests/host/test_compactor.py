"""Passes leave the loop to others, never run two at once, and report what they did."""

import gc
from collections.abc import Callable, Iterable, Iterator
from itertools import pairwise
from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from ipc.limits import (
    FAILURES_LOGGED_MAX,
    GARBAGE_SECONDS_MIN,
    SLICE_SECONDS_MAX,
    STEPS_PER_CLOCK_CHECK,
    VHOSTS_REPORTED_MAX,
)
from ipc.messages.commands import AskReclaimable, Compact, Level
from ipc.messages.reports import Reclaimed
from ipc.settings import CompactionSettings
from shards.compaction.compactable import Compactable, Failed, Freed, Offload, ShrinkPolicy, Step
from shards.host.compactor import Compactor

SETTINGS = CompactionSettings(segment_cold_seconds=10.0)


class Clock:
    """Stands still until told."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Scripted(Compactable):
    """An owner that yields given steps, each after a given time or action."""

    def __init__(
        self, *steps: Step, clock: Clock | None = None, seconds: float = 0.0, before: Callable[[], object] | None = None
    ) -> None:
        self._steps = steps
        self._clock = clock
        self._seconds = seconds
        self._before = before
        self.policies: list[tuple[Level, ShrinkPolicy]] = []

    def shrink(self, level: Level, policy: ShrinkPolicy) -> Iterator[Step]:
        self.policies.append((level, policy))
        for step in self._steps:
            if self._clock is not None:
                self._clock.now += self._seconds
            if self._before is not None:
                self._before()
            yield step


class Root(Compactable):
    def __init__(self, *owners: Compactable) -> None:
        self.owners = owners

    def children(self) -> Iterable[Compactable]:
        return self.owners


class VHost(Root):
    def __init__(self, name: str, *owners: Compactable) -> None:
        super().__init__(*owners)
        self.name = name

    @property
    def compaction_label(self) -> str:
        return self.name


class Gate(Compactable):
    """A pass stops here, in its thread, until `open` is called; counts the passes that came by."""

    def __init__(self) -> None:
        self.levels: list[Level] = []
        self._opened = trio.Event()

    def open(self) -> None:
        self._opened.set()

    def shrink(self, level: Level, policy: ShrinkPolicy) -> Iterator[Step]:
        self.levels.append(level)
        yield Offload(lambda: trio.from_thread.run(self._opened.wait))


def compact(level: Level = Level.TRIM, number: int = 1, trigger: str = "SIGUSR1") -> Compact:
    return Compact(number, level, trigger)


async def run(root: Compactable, level: Level = Level.TRIM, clock: Clock | None = None) -> Reclaimed:
    compactor = Compactor(root, shard=3, clock=clock or Clock())
    return await compactor.run_pass(compact(level), SETTINGS, now=60_000)


# the report -----------------------------------------------------------------------------------------------------------


async def test_the_report_adds_up_by_kind_and_by_vhost() -> None:
    root = Root(
        VHost("/", Scripted(Freed("dict", 100), Freed("set", 20)), Scripted(Freed("dict", 3))),
        VHost("orders", Scripted(Freed("dict", 4000))),
        Scripted(Freed("array", 50000)),
    )

    reclaimed = await run(root)

    assert reclaimed.freed_bytes_by_kind == {"dict": 4103, "set": 20, "array": 50000}
    assert reclaimed.freed_bytes_by_vhost == {"/": 123, "orders": 4000}
    assert reclaimed.failures == 0
    assert (reclaimed.shard, reclaimed.pass_number, reclaimed.level, reclaimed.trigger) == (3, 1, Level.TRIM, "SIGUSR1")
    assert reclaimed.before.rss > 0
    assert reclaimed.after.rss > 0


async def test_a_real_collection_gives_its_bytes_back() -> None:
    class Owner(Compactable):
        COLLECTIONS = ("held",)

        def __init__(self) -> None:
            self.held = dict.fromkeys(range(100_000))
            while len(self.held) > 10:
                self.held.popitem()

    reclaimed = await run(Root(VHost("/", Owner())), Level.RELEASE)

    assert reclaimed.freed_bytes_by_kind["dict"] > 1_000_000
    assert reclaimed.freed_bytes_by_vhost == {"/": reclaimed.freed_bytes_by_kind["dict"]}


async def test_owners_hear_level_settings_and_since_when_something_is_cold() -> None:
    owner = Scripted()

    await run(owner, Level.CRITICAL)

    ((level, policy),) = owner.policies
    assert level is Level.CRITICAL
    assert policy.cold_before == 50_000
    assert policy.release_bytes_max == SETTINGS.release_bytes_max


async def test_failures_are_counted_and_the_pass_goes_on() -> None:
    failures = [Failed("dict", "MemoryError")] * (FAILURES_LOGGED_MAX + 5)

    reclaimed = await run(Root(Scripted(*failures), Scripted(Freed("set", 1))))

    assert reclaimed.failures == len(failures)
    assert reclaimed.freed_bytes_by_kind == {"set": 1}


async def test_no_memory_between_two_steps_is_counted_and_the_pass_goes_on() -> None:
    clock = Clock()
    asked = 0

    def poor() -> float:
        nonlocal asked
        asked += 1
        if asked in (3, 5):
            raise MemoryError
        return clock()

    owner = Scripted(*(Freed("dict", 1) for _ in range(10)), clock=clock, seconds=SLICE_SECONDS_MAX)

    reclaimed = await Compactor(Root(owner), shard=0, clock=poor).run_pass(
        Compact(1, Level.TRIM, "test"), SETTINGS, now=0
    )

    assert reclaimed.freed_bytes_by_kind == {"dict": 10}
    assert reclaimed.failures == 2


async def test_a_defect_ends_the_pass_but_not_the_shard() -> None:
    def defect() -> None:
        raise KeyError("defect")

    root = Root(Scripted(Freed("dict", 1)), Scripted(Freed("dict", 2), before=defect), Scripted(Freed("dict", 4)))
    compactor = Compactor(root, shard=0)

    reclaimed = await compactor.run_pass(compact(), SETTINGS, now=0)

    assert reclaimed.failures == 1
    assert reclaimed.freed_bytes_by_kind == {"dict": 1}
    assert (await compactor.run_pass(compact(number=2), SETTINGS, now=0)).pass_number == 2


# slices ---------------------------------------------------------------------------------------------------------------


async def test_others_run_whenever_a_slice_is_over() -> None:
    clock = Clock()
    turns: list[float] = []
    owners = [Scripted(Freed("dict", 1), clock=clock, seconds=SLICE_SECONDS_MAX * 0.4) for _ in range(30)]

    async def others() -> None:
        while True:
            turns.append(clock.now)
            await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(others)
        reclaimed = await run(Root(*owners), clock=clock)
        nursery.cancel_scope.cancel()

    # Two, because trio shuffles the tasks of one tick.
    assert max(later - earlier for earlier, later in pairwise(turns)) < 2 * SLICE_SECONDS_MAX * 1.5
    assert SLICE_SECONDS_MAX <= reclaimed.slice_seconds_longest < SLICE_SECONDS_MAX * 1.5


async def test_mere_looking_asks_the_clock_once_in_many_steps() -> None:
    asked = 0

    def clock() -> float:
        nonlocal asked
        asked += 1
        return 0.0

    owners = 64 * STEPS_PER_CLOCK_CHECK
    compactor = Compactor(Root(*(Scripted() for _ in range(owners))), shard=0, clock=clock)

    reclaimed = await compactor.run_pass(compact(), SETTINGS, now=0)

    assert reclaimed.steps == owners + 1
    assert asked < owners / STEPS_PER_CLOCK_CHECK + 10


async def test_a_pass_that_is_cancelled_leaves_the_next_one_free_to_run() -> None:
    clock = Clock()
    endless = Scripted(*[Freed("dict", 1)] * 100, clock=clock, seconds=SLICE_SECONDS_MAX)
    compactor = Compactor(endless, shard=0, clock=clock)

    with trio.CancelScope() as scope:
        scope.cancel()
        await compactor.run_pass(compact(), SETTINGS, now=0)

    assert (await compactor.run_pass(compact(number=2), SETTINGS, now=0)).freed_bytes_by_kind == {"dict": 100}


# threads --------------------------------------------------------------------------------------------------------------


async def test_blocking_work_runs_in_a_thread_before_its_owner_goes_on() -> None:
    gate = Gate()
    compactor = Compactor(Root(gate, Scripted(Freed("dict", 1))), shard=0)
    reports: list[Reclaimed] = []

    async def one_pass() -> None:
        reports.append(await compactor.run_pass(compact(), SETTINGS, now=0))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(one_pass)
        while not gate.levels:
            await trio.lowlevel.checkpoint()
        assert reports == []
        gate.open()

    assert reports[0].freed_bytes_by_kind == {"dict": 1}


async def test_blocking_work_that_fails_is_counted_and_the_pass_goes_on() -> None:
    def full() -> None:
        raise OSError(28, "No space left on device")

    reclaimed = await run(Scripted(Offload(full), Freed("segment pages", 7)))

    assert reclaimed.failures == 1
    assert reclaimed.freed_bytes_by_kind == {"segment pages": 7}


# one at a time --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("running", "asked", "runs"),
    [
        (Level.RELEASE, [Level.RELEASE], [Level.RELEASE]),
        (Level.RELEASE, [Level.TRIM, Level.TRIM], [Level.RELEASE]),
        (Level.TRIM, [Level.RELEASE], [Level.TRIM, Level.RELEASE]),
        (Level.TRIM, [Level.CRITICAL, Level.CRITICAL], [Level.TRIM, Level.CRITICAL]),
    ],
)
async def test_a_request_joins_the_running_pass_unless_it_asks_for_more(
    running: Level, asked: list[Level], runs: list[Level]
) -> None:
    gate = Gate()
    compactor = Compactor(gate, shard=0)
    answered: dict[int, Level] = {}

    async def ask(level: Level, number: int) -> None:
        answered[number] = (await compactor.run_pass(compact(level, number), SETTINGS, now=0)).level

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask, running, 0)
        while not gate.levels:
            await trio.lowlevel.checkpoint()
        for number, level in enumerate(asked, 1):
            nursery.start_soon(ask, level, number)
        await wait_all_tasks_blocked()
        gate.open()

    assert gate.levels == runs
    assert answered == {0: running} | dict.fromkeys(range(1, len(asked) + 1), runs[-1])


async def test_every_request_is_answered_under_its_own_number() -> None:
    gate = Gate()
    compactor = Compactor(gate, shard=0)
    numbers: list[int] = []

    async def ask(number: int) -> None:
        numbers.append((await compactor.run_pass(compact(number=number), SETTINGS, now=0)).pass_number)

    async with trio.open_nursery() as nursery:
        for number in range(5):
            nursery.start_soon(ask, number)
        await wait_all_tasks_blocked()
        gate.open()

    assert sorted(numbers) == [0, 1, 2, 3, 4]
    assert len(gate.levels) == 1


# cycles ---------------------------------------------------------------------------------------------------------------


async def test_cycles_are_collected_where_pages_are_released_and_not_again_for_a_while() -> None:
    clock = Clock()
    compactor = Compactor(Root(), shard=0, clock=clock)
    collections: list[dict[str, Any]] = []

    def heard(phase: str, info: dict[str, Any]) -> None:
        if phase == "start" and info["generation"] == 2:
            collections.append(info)

    async def after(level: Level, seconds: float) -> int:
        clock.now += seconds
        await compactor.run_pass(compact(level), SETTINGS, now=0)
        return len(collections)

    gc.disable()
    gc.callbacks.append(heard)
    try:
        assert await after(Level.TRIM, 0) == 0
        assert await after(Level.RELEASE, 0) == 1
        assert await after(Level.RELEASE, GARBAGE_SECONDS_MIN / 2) == 1
        assert await after(Level.RELEASE, GARBAGE_SECONDS_MIN) == 2
    finally:
        gc.callbacks.remove(heard)
        gc.enable()


# dry runs -------------------------------------------------------------------------------------------------------------


async def test_an_estimate_adds_up_like_a_report_and_leaves_everything_in_place() -> None:
    class Owner(Compactable):
        COLLECTIONS = ("held",)

        def __init__(self) -> None:
            self.held = dict.fromkeys(range(10_000))
            while len(self.held) > 10:
                self.held.popitem()

    owner = Owner()
    held = owner.held
    compactor = Compactor(Root(VHost("/", owner)), shard=3)

    foretold = await compactor.estimate(AskReclaimable(7, Level.TRIM), SETTINGS, now=0)

    assert (foretold.number, foretold.shard, foretold.level, foretold.is_last) == (7, 3, Level.TRIM, True)
    assert owner.held is held
    reclaimed = await compactor.run_pass(compact(), SETTINGS, now=0)
    assert reclaimed.freed_bytes_by_kind == foretold.by_kind
    assert reclaimed.freed_bytes_by_vhost == foretold.by_vhost == {"/": foretold.by_kind["dict"]}


async def test_a_report_names_only_the_vhosts_that_most_was_freed_for() -> None:
    root = Root(*(VHost(f"v{number}", Scripted(Freed("dict", number + 1))) for number in range(300)))

    reclaimed = await run(root)

    assert len(reclaimed.freed_bytes_by_vhost) == VHOSTS_REPORTED_MAX
    assert reclaimed.freed_bytes_by_vhost["v299"] == 300
    assert sum(reclaimed.freed_bytes_by_kind.values()) == sum(range(301))
