"""The last lines of all processes: bounded, numbered, read page by page, let go when memory is short."""

from collections.abc import Iterator

import msgspec
import pytest
import trio
import trio.testing

from ipc.limits import LOG_KEPT_BYTES_MAX, LOG_KEPT_CRITICAL_BYTES, LOG_KEPT_RELEASE_BYTES, LOG_PAGE_BYTES
from ipc.messages.commands import Level
from ipc.messages.log_lines import LogLine
from runtime.owner import Rebuilding, rebuild
from runtime.supervisor.log_ring import Extract, LogRing


@pytest.fixture
def ring() -> Iterator[LogRing]:
    ring = LogRing()
    yield ring
    ring.close()


def encoded(text: str) -> bytes:
    return msgspec.msgpack.encode(LogLine("2024-05-01T12:00:00.000000Z", "info", "test", text))


def texts(found: Extract) -> list[str]:
    return [line.text for line in found.lines]


def fill(ring: LogRing) -> None:
    for number in range(2 * LOG_KEPT_BYTES_MAX // 1000):
        ring.add(encoded(f"{number} " + "x" * 1000))


async def test_a_reader_goes_on_after_the_last_line_it_has_seen(ring: LogRing) -> None:
    ring.add(encoded("one"))
    first = await ring.after(0, seconds=0)
    ring.add(encoded("two"))
    second = await ring.after(first.last, seconds=0)

    assert (texts(first), texts(second)) == (["one"], ["two"])
    assert second.lost == 0


async def test_a_reader_waits_for_the_next_line(ring: LogRing, autojump_clock: trio.testing.MockClock) -> None:
    async def log() -> None:
        await trio.sleep(3)
        ring.add(encoded("late"))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(log)
        found = await ring.after(ring.newest, seconds=10)

    assert texts(found) == ["late"]
    assert trio.current_time() == pytest.approx(3)


async def test_a_reader_that_waits_in_vain_is_told_so(ring: LogRing, autojump_clock: trio.testing.MockClock) -> None:
    ring.add(encoded("old"))

    found = await ring.after(ring.newest, seconds=10)

    assert (texts(found), found.last, found.lost) == ([], ring.newest, 0)


async def test_a_slow_reader_is_told_how_many_lines_are_lost(ring: LogRing) -> None:
    ring.add(encoded("seen"))
    seen = ring.newest
    fill(ring)

    found = await ring.after(seen, seconds=0)

    assert found.lost == found.first - seen - 1 > 0
    assert texts(found)[0].split()[0] == str(found.lost)


@pytest.mark.parametrize("number", [0, 1, 10**14])
async def test_a_number_of_another_life_reads_from_the_oldest_line_on(ring: LogRing, number: int) -> None:
    ring.add(encoded("oldest"))

    found = await ring.after(number, seconds=0)

    assert (texts(found), found.lost) == (["oldest"], 0)


async def test_numbers_of_a_later_life_are_larger(ring: LogRing) -> None:
    ring.add(encoded("before"))
    await trio.sleep(0.01)
    later = LogRing()
    later.close()

    assert later.newest > ring.newest


async def test_long_answers_come_in_pages(ring: LogRing) -> None:
    fill(ring)
    after, seen = 0, 0
    while (found := await ring.after(after, seconds=0)).lines:
        assert sum(len(line.text) for line in found.lines) <= LOG_PAGE_BYTES
        after, seen = found.last, seen + len(found.lines)

    assert (seen, after) == (len(ring), ring.newest)


def test_what_is_kept_is_bounded_in_bytes(ring: LogRing) -> None:
    fill(ring)

    assert 0.9 * LOG_KEPT_BYTES_MAX < ring.size_bytes < LOG_KEPT_BYTES_MAX + 16 * 1024


@pytest.mark.parametrize(
    ("level", "size_bytes"),
    [
        (Level.TRIM, LOG_KEPT_BYTES_MAX),
        (Level.RELEASE, LOG_KEPT_RELEASE_BYTES),
        (Level.CRITICAL, LOG_KEPT_CRITICAL_BYTES),
    ],
)
async def test_a_pass_lets_the_oldest_lines_go(ring: LogRing, level: Level, size_bytes: int) -> None:
    fill(ring)
    newest, before = ring.newest, ring.size_bytes

    steps = list(rebuild(ring, Rebuilding(level=level)))

    assert ring.size_bytes < size_bytes + 16 * 1024
    assert ring.newest == newest
    shed = sum(step.size_bytes for step in steps if step.kind == "LogRing")
    assert shed == pytest.approx(before - ring.size_bytes, abs=8192)
    assert texts(await ring.after(newest - 1, seconds=0)) != []


async def test_lines_of_processes_are_taken_in(ring: LogRing) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ring.run)
        ring.outlet.send(encoded("one"))
        found = await ring.after(ring.newest, seconds=5)
        nursery.cancel_scope.cancel()

    assert texts(found) == ["one"]
