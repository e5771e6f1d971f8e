"""A link whose other end, or own end, is gone says so in one way only."""

import os
import socket

import msgspec
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


@pytest.mark.parametrize(
    "packet",
    [b"\x91\xa2\xff\xfe", b"\xc1", b"\x91" * 100_000, b"\x92\xa5Hello" + b"\x91" * 100_000],
    ids=["text that is none", "no message", "depth", "depth inside"],
)
async def test_a_packet_that_is_no_message_is_told_in_one_way_and_its_descriptors_are_closed(packet: bytes) -> None:
    ours, theirs = link_pair()
    link: Link[ShardReport] = Link(ours, ShardReport)
    reading, writing = os.pipe()
    with theirs:
        socket.send_fds(theirs, [packet], [writing])
        os.close(writing)

        with pytest.raises(msgspec.DecodeError):
            await link.receive()

        assert os.read(reading, 1) == b""  # nobody has the other end open any more
    os.close(reading)
    link.close()
