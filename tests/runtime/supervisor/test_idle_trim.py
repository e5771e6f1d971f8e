"""What a peak has left in the supervisor comes back without any pressure."""

import pytest
import trio
from trio.testing import MockClock

from ipc.messages.commands import IDLE
from ipc.messages.reports import SUPERVISOR, Reclaimed
from ipc.settings import CompactionSettings, ShrinkSettings
from runtime.own_pass import OwnPass, remembering_functions
from runtime.owner import Owner
from runtime.supervisor.idle_trim import IdleTrim
from runtime.supervisor.reclaim import Reclaim

SETTINGS = CompactionSettings(idle_trim_seconds=10.0)


class Held(Owner):
    COLLECTIONS = ("held",)

    def __init__(self) -> None:
        self.held: dict[int, bytes] = {}

    def spike(self) -> None:
        self.held.update((number, bytes(2000)) for number in range(10_000))

    def drain(self) -> None:
        for number in range(10, 10_000):
            del self.held[number]


async def reports_after_a_peak(settings: CompactionSettings) -> list[Reclaimed]:
    held = Held()
    reclaim = Reclaim(list, OwnPass(held, lambda: settings, SUPERVISOR, remembering_functions))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(IdleTrim(lambda: settings, reclaim.trim_own).run)
        held.spike()
        await trio.sleep(20.0)
        held.drain()
        await trio.sleep(40.0)
        nursery.cancel_scope.cancel()
    assert list(held.held) == list(range(10))
    return [report for done in reclaim.passes for report in done.reports]


@pytest.fixture
def patient_clock(autojump_clock: MockClock) -> MockClock:
    """Does not jump while a thread works."""
    autojump_clock.autojump_threshold = 0.05
    return autojump_clock


async def test_a_passed_peak_is_given_back_once(patient_clock: MockClock) -> None:
    (report,) = await reports_after_a_peak(SETTINGS)

    assert (report.shard, report.trigger) == (SUPERVISOR, IDLE)
    assert report.freed_bytes_by_kind["dict"] > 100_000


async def test_a_kind_that_never_has_its_turn_is_passed_by(patient_clock: MockClock) -> None:
    kinds = {"dict": ShrinkSettings(idle_trim_seconds=0.0)}

    (report,) = await reports_after_a_peak(CompactionSettings(idle_trim_seconds=10.0, kinds=kinds))  # type: ignore[arg-type]

    assert "dict" not in report.freed_bytes_by_kind


async def test_zero_seconds_turn_it_off(patient_clock: MockClock) -> None:
    assert await reports_after_a_peak(CompactionSettings(idle_trim_seconds=0.0)) == []
