"""When the process behind the API may rest: what is under way counts, however long it takes."""

from typing import Any

import trio
from trio.testing import MockClock

from runtime.management.idleness import Idleness

HTTP: Any = {"type": "http"}
UNUSED: Any = None


async def ask(idleness: Idleness, seconds: float) -> None:
    async def app(_scope: object, _receive: object, _send: object) -> None:
        await trio.sleep(seconds)

    await idleness.watched(app)(HTTP, UNUSED, UNUSED)


async def test_it_ends_at_once_unless_a_request_is_under_way(autojump_clock: MockClock) -> None:
    idleness = Idleness(lambda: 600.0)
    ended_at = []

    async def await_end() -> None:
        await idleness.passed()
        ended_at.append(trio.current_time() - began)

    began = trio.current_time()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(await_end)
        nursery.start_soon(ask, idleness, 100.0)
        await trio.sleep(50.0)
        assert not idleness.end()
        await trio.sleep(51.0)
        assert idleness.end()

    assert ended_at == [101.0]


async def test_each_quiet_time_begins_once(autojump_clock: MockClock) -> None:
    idleness = Idleness(lambda: 600.0)
    found: list[float] = []

    async def note() -> None:
        while True:
            await idleness.begins(lambda: 60.0)
            found.append(trio.current_time() - began)

    began = trio.current_time()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(note)
        await ask(idleness, 100.0)
        await ask(idleness, 10.0)
        await trio.sleep(500.0)
        await ask(idleness, 40.0)
        await trio.sleep(500.0)
        nursery.cancel_scope.cancel()

    assert found == [170.0, 710.0]


async def test_who_is_never_to_be_idle_is_not(autojump_clock: MockClock) -> None:
    with trio.move_on_after(10_000.0) as patience:
        await Idleness(lambda: 0.0).passed()

    assert patience.cancelled_caught
