"""Waiting beside the loop: events come at once, other tasks get their turn, spinning stops when it is in vain."""

import os
from collections.abc import Iterator

import pytest
import trio
import trio.testing

from ipc.limits import SPINS_SKIPPED_MAX
from ipc.reactor import READABLE, Reactor, Spin


@pytest.fixture
def reactor() -> Iterator[Reactor]:
    reactor = Reactor()
    yield reactor
    reactor.close()


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    read, write = os.pipe()
    yield read, write
    os.close(read)
    os.close(write)


async def test_what_is_readable_is_ready(reactor: Reactor, pipe: tuple[int, int]) -> None:
    read, write = pipe
    reactor.add(read, READABLE)
    os.write(write, b"!")

    await reactor.wait(has_work=False, lingers=False)
    reactor.poll()

    assert reactor.ready == {read: READABLE}


async def test_what_comes_while_it_lingers_is_ready(reactor: Reactor, pipe: tuple[int, int]) -> None:
    read, write = pipe
    reactor.add(read, READABLE)
    os.write(write, b"!")

    await reactor.wait(has_work=False, lingers=True)

    assert reactor.ready == {read: READABLE}


async def test_who_must_return_comes_back_with_nothing(reactor: Reactor, pipe: tuple[int, int]) -> None:
    read, _write = pipe
    reactor.add(read, READABLE)

    with trio.fail_after(10):
        await reactor.wait(has_work=False, lingers=False, must_return=True)

    assert reactor.ready == {}


async def test_it_sleeps_in_the_loop_until_something_comes(reactor: Reactor, pipe: tuple[int, int]) -> None:
    read, write = pipe
    reactor.add(read, READABLE)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(lambda: reactor.wait(has_work=False, lingers=False))
        await trio.testing.wait_all_tasks_blocked()
        assert reactor.is_asleep
        os.write(write, b"!")

    assert not reactor.is_asleep


async def test_a_heeded_descriptor_makes_it_yield_and_is_not_served(reactor: Reactor, pipe: tuple[int, int]) -> None:
    read, write = pipe
    reactor.heed(read)
    os.write(write, b"!")
    others: list[str] = []

    async def other() -> None:
        others.append("ran")

    async with trio.open_nursery() as nursery:
        await reactor.wait(has_work=True, lingers=False)
        nursery.start_soon(other)
        # Within one pass of the loop tasks run in any order; after the second yield the first pass is over.
        for _ in range(2):
            reactor.poll()
            await reactor.wait(has_work=True, lingers=False)
        assert others == ["ran"]

    assert reactor.ready == {}


async def test_what_was_removed_is_not_ready_any_more(reactor: Reactor, pipe: tuple[int, int]) -> None:
    read, write = pipe
    reactor.add(read, READABLE)
    os.write(write, b"!")
    reactor.poll()

    reactor.remove(read)

    assert reactor.ready == {}


def test_no_spin_where_none_is_set() -> None:
    assert not Spin(0.0).until(lambda: pytest.fail("asked"))


def test_a_spin_ends_with_the_first_event() -> None:
    answers = iter((False, False, True))

    assert Spin(10.0).until(lambda: next(answers))


def test_spins_in_vain_become_rare_and_one_that_finds_something_brings_them_back() -> None:
    spin = Spin(1e-6)
    spins: set[int] = set()

    for attempt in range(4 * SPINS_SKIPPED_MAX):

        def find_nothing(attempt: int = attempt) -> bool:
            spins.add(attempt)
            return False

        spin.until(find_nothing)

    assert len(spins) < 16
    while not spin.until(lambda: True):
        pass
    assert spin.until(lambda: True)
