"""Who owns a vhost: at once, after a wait, or nobody."""

import socket
from collections.abc import AsyncIterator

import pytest
import trio
import trio.testing

from ipc.link import Link, link_pair
from ipc.messages.reports import ShardReport
from runtime.roster import Roster, ShardLink, VHostDown


@pytest.fixture
async def link() -> AsyncIterator[ShardLink]:
    ours, theirs = link_pair()
    made: ShardLink = Link(ours, ShardReport)
    yield made
    made.close()
    theirs.close()


@pytest.fixture
def roster() -> Roster:
    made = Roster()
    made.place("/", 0)
    return made


async def test_an_open_vhost_has_its_owner_at_once(roster: Roster, link: ShardLink) -> None:
    roster.opened("/", link)

    assert await roster.owner_of("/", 0) is link


async def test_a_vhost_whose_shard_restarts_is_waited_for(
    roster: Roster, link: ShardLink, nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    roster.opened("/", link)
    roster.lost(link)

    async def come_back() -> None:
        await trio.sleep(3)
        roster.opened("/", link)

    nursery.start_soon(come_back)

    assert await roster.owner_of("/", 5) is link


async def test_patience_ends(roster: Roster, autojump_clock: trio.testing.MockClock) -> None:
    with pytest.raises(VHostDown):
        await roster.owner_of("/", 5)

    assert trio.current_time() == 5


async def test_a_vhost_that_cannot_be_opened_is_not_waited_for(
    roster: Roster, autojump_clock: trio.testing.MockClock
) -> None:
    roster.failed("/", "damaged")

    with pytest.raises(VHostDown):
        await roster.owner_of("/", 5)

    assert trio.current_time() == 0


async def test_a_vhost_that_moves_is_waited_for(
    roster: Roster, link: ShardLink, nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    roster.opened("/", link)
    roster.forget("/", is_moving=True)

    async def arrive() -> None:
        await trio.sleep(1)
        roster.place("/", 1)
        roster.opened("/", link)

    nursery.start_soon(arrive)

    assert await roster.owner_of("/", 5) is link
    assert trio.current_time() == 1


async def test_a_vhost_deleted_while_somebody_waits_ends_the_wait(
    roster: Roster, nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    async def delete() -> None:
        await trio.sleep(1)
        roster.forget("/")

    nursery.start_soon(delete)

    with pytest.raises(VHostDown):
        await roster.owner_of("/", 5)

    assert trio.current_time() == 1
    assert not roster.known("/")


async def test_all_vhosts_are_settled_when_each_is_open_or_failed(
    roster: Roster, link: ShardLink, autojump_clock: trio.testing.MockClock
) -> None:
    roster.place("other", 1)
    roster.opened("/", link)
    with trio.move_on_after(1) as patience:
        await roster.settled()
    assert patience.cancelled_caught

    roster.failed("other", "disk full")

    await roster.settled()


async def test_a_lost_shard_takes_only_its_own_vhosts_down(roster: Roster, link: ShardLink) -> None:
    other_end, far_end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with far_end:
        other: ShardLink = Link(other_end, ShardReport)
        roster.place("other", 1)
        roster.opened("/", link)
        roster.opened("other", other)

        roster.lost(link)

        assert roster.placed_on(0) == ["/"]
        assert not roster.is_open("/")
        assert roster.is_open("other")
        other.close()
