"""When alarms are raised and over, and how soon somebody looks again."""

import pytest
from msgspec import structs

from ipc.messages.commands import Alarms
from ipc.settings import AlarmSettings
from runtime.decisions.alarms import Readings, decide, memory_limit, pause_seconds

MIB = 1024 * 1024
GIB = 1024 * MIB

SETTINGS = AlarmSettings(
    memory_share_max=0.4,
    memory_bytes_max=0,
    memory_clear_share=0.9,
    disk_free_bytes_min=100,
    disk_clear_ratio=1.5,
    look_seconds_min=0.1,
    look_seconds_max=5.0,
)
NONE, MEMORY, DISK, BOTH = Alarms(), Alarms(memory=True), Alarms(disk=True), Alarms(memory=True, disk=True)


def readings(memory_bytes: int = 0, disk_free_bytes: int | None = GIB * 1000, total: int = 1000) -> Readings:
    return Readings(memory_bytes, total, disk_free_bytes)


@pytest.mark.parametrize(
    ("share", "bytes_max", "limit"),
    [(0.4, 0, 400), (0.4, 300, 300), (0.4, 500, 400), (0.0, 500, 500), (0.0, 0, float("inf")), (1.0, 0, 1000)],
)
def test_the_lower_limit_holds_and_zero_is_none(share: float, bytes_max: int, limit: float) -> None:
    settings = structs.replace(SETTINGS, memory_share_max=share, memory_bytes_max=bytes_max)
    assert memory_limit(1000, settings) == limit


@pytest.mark.parametrize(
    ("before", "memory_bytes", "after"),
    [
        (NONE, 0, NONE),
        (NONE, 399, NONE),
        (NONE, 400, MEMORY),
        (NONE, 4000, MEMORY),
        (MEMORY, 399, MEMORY),
        (MEMORY, 360, MEMORY),
        (MEMORY, 359, NONE),
        (DISK, 400, MEMORY),
    ],
)
def test_memory_is_short_from_the_limit_on_until_it_is_well_below(
    before: Alarms, memory_bytes: int, after: Alarms
) -> None:
    assert decide(before, readings(memory_bytes), SETTINGS) == after


@pytest.mark.parametrize(
    ("before", "free", "after"),
    [
        (NONE, 100, NONE),
        (NONE, 99, DISK),
        (NONE, 0, DISK),
        (DISK, 100, DISK),
        (DISK, 149, DISK),
        (DISK, 150, NONE),
        (MEMORY, 99, DISK),
    ],
)
def test_disk_is_short_below_the_minimum_until_there_is_well_more(before: Alarms, free: int, after: Alarms) -> None:
    assert decide(before, readings(disk_free_bytes=free), SETTINGS) == after


def test_both_may_be_short_at_once() -> None:
    assert decide(NONE, readings(400, 99), SETTINGS) == BOTH
    assert decide(BOTH, readings(359, 99), SETTINGS) == DISK


@pytest.mark.parametrize("before", [NONE, DISK])
def test_a_file_system_that_does_not_say_changes_nothing(before: Alarms) -> None:
    assert decide(before, readings(disk_free_bytes=None), SETTINGS) == before


@pytest.mark.parametrize("before", [NONE, BOTH])
def test_without_limits_nothing_is_ever_short(before: Alarms) -> None:
    settings = AlarmSettings(memory_share_max=0.0, memory_bytes_max=0, disk_free_bytes_min=0)
    assert decide(before, readings(10**15, 0), settings) == NONE


def test_a_higher_limit_ends_an_alarm() -> None:
    assert decide(MEMORY, readings(400), structs.replace(SETTINGS, memory_share_max=0.8)) == NONE


@pytest.mark.parametrize(
    ("raised", "memory_bytes", "free", "seconds"),
    [
        (NONE, 0, 1000 * GIB, 4.0),  # 4 GiB to go
        (NONE, 3 * GIB, 1000 * GIB, 1.0),
        (NONE, 4 * GIB - MIB, 1000 * GIB, 0.1),
        (NONE, 0, GIB // 2 + 100, 0.5),  # disk is nearer
        (MEMORY, 5 * GIB, 1000 * GIB, 1.4),  # down to nine tenths of the limit
        (NONE, 0, None, 4.0),
    ],
)
def test_the_next_look_comes_before_a_border_can_be_far_behind(
    raised: Alarms, memory_bytes: int, free: int | None, seconds: float
) -> None:
    now = readings(memory_bytes, free, total=10 * GIB)
    assert pause_seconds(raised, now, SETTINGS, looking_seconds=0.0) == pytest.approx(seconds, rel=0.01)


def test_far_from_every_border_the_longest_pause_holds() -> None:
    assert pause_seconds(NONE, readings(total=1000 * GIB), SETTINGS, looking_seconds=0.0) == 5.0
    without = AlarmSettings(memory_share_max=0.0, disk_free_bytes_min=0)
    assert pause_seconds(NONE, readings(0, 0), without, looking_seconds=0.0) == without.look_seconds_max


def test_looking_never_takes_more_than_a_fifth_of_a_core() -> None:
    assert pause_seconds(NONE, readings(400), SETTINGS, looking_seconds=0.2) == pytest.approx(0.8)
