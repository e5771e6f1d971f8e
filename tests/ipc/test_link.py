"""A link whose other end, or own end, is gone says so in one way only."""

import pytest

from ipc.link import Link, LinkClosed, link_pair
from ipc.messages.commands import Drain
from ipc.messages.reports import ShardReport


async def test_a_link_that_was_closed_here_is_closed_for_senders_and_receivers() -> None:
    ours, theirs = link_pair()
    with theirs:
        link: Link[ShardReport] = Link(ours, ShardReport)
        link.close()

        with pytest.raises(LinkClosed):
            await link.send(Drain(1.0))
        with pytest.raises(LinkClosed):
            await link.receive()


async def test_a_link_whose_other_end_is_gone_is_closed() -> None:
    ours, theirs = link_pair()
    theirs.close()
    link: Link[ShardReport] = Link(ours, ShardReport)

    with pytest.raises(LinkClosed):
        await link.send(Drain(1.0))
    with pytest.raises(LinkClosed):
        await link.receive()
    link.close()
