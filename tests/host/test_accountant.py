"""Accounts leave the loop to others, are never drawn up twice at once, and serve everybody who asks within a second."""

from collections.abc import Iterable

import trio

from ipc.limits import ACCOUNT_KEPT_SECONDS, ACCOUNT_SLICE_SECONDS_MAX
from shards.compaction.compactable import Compactable
from shards.host.accountant import Accountant


class Clock:
    """Stands still until told."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Owner(Compactable):
    """Being counted takes time, and is counted."""

    def __init__(self, *below: Compactable, clock: Clock | None = None, seconds: float = 0.0) -> None:
        self.below = below
        self.clock = clock
        self.seconds = seconds
        self.looks = 0

    def children(self) -> Iterable[Compactable]:
        self.looks += 1
        if self.clock is not None:
            self.clock.now += self.seconds
        return self.below


class VHost(Owner):
    SORT = "vhost"
    compaction_label = "/"
    name = "/"


async def test_everybody_who_asks_at_once_gets_the_same_account() -> None:
    root = VHost(*(Owner() for _ in range(100)))
    accountant = Accountant(root, clock=Clock())
    found = []

    async def ask() -> None:
        found.append((await accountant.account())[0])

    async with trio.open_nursery() as nursery:
        for _ in range(20):
            nursery.start_soon(ask)

    assert len(found) == 20
    assert len(set(map(id, found))) == 1
    assert root.looks == 1


async def test_an_account_serves_for_a_second_and_tells_its_age() -> None:
    root, clock = VHost(), Clock()
    accountant = Accountant(root, clock=clock)
    first, no_age = await accountant.account()
    clock.now += ACCOUNT_KEPT_SECONDS / 2
    second, half = await accountant.account()
    clock.now += ACCOUNT_KEPT_SECONDS
    third, none_again = await accountant.account()

    assert first is second
    assert third is not first
    assert (no_age, half, none_again) == (0.0, ACCOUNT_KEPT_SECONDS / 2, 0.0)
    assert root.looks == 2


async def test_another_vhost_is_another_account() -> None:
    root = VHost()
    accountant = Accountant(root, clock=Clock())

    everything, _age = await accountant.account()
    nothing, _age = await accountant.account("no such vhost")

    assert everything.account.counts["vhost"] == 1
    assert nothing.account.counts["vhost"] == 0


async def test_an_account_that_has_served_is_let_go() -> None:
    root, clock = VHost(), Clock()
    accountant = Accountant(root, clock=clock)
    await accountant.account()
    accountant.forget()
    await accountant.account()
    assert root.looks == 1
    clock.now += ACCOUNT_KEPT_SECONDS

    accountant.forget()
    await accountant.account()

    assert root.looks == 2


async def test_others_run_whenever_a_slice_is_over() -> None:
    clock = Clock()
    step = ACCOUNT_SLICE_SECONDS_MAX / 20
    root = VHost(*(Owner(clock=clock, seconds=step) for _ in range(1000)))
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(others)
        drawn, _age = await Accountant(root, clock=clock, cpu_clock=clock).account()
        nursery.cancel_scope.cancel()

    assert drawn.account.owners == 1001
    assert drawn.slice_seconds_longest < 2 * ACCOUNT_SLICE_SECONDS_MAX
    assert turns >= 25
    assert drawn.seconds_cpu >= 1000 * step * 0.99


async def test_one_who_no_longer_waits_does_not_keep_others_from_asking() -> None:
    root = VHost(*(Owner() for _ in range(10)))
    accountant = Accountant(root, clock=Clock())
    with trio.CancelScope() as scope:
        scope.cancel()
        await accountant.account()

    drawn, _age = await accountant.account()

    assert drawn.account.owners == 11
