"""The pump between real sockets: nobody starves, nobody is slowed down without need."""

import gc
from array import array
from collections.abc import Iterator
from fcntl import ioctl
from pathlib import Path
from termios import FIONREAD

import pytest
import trio
from pamqp import commands

from ipc.limits import DRAINING_MS_MAX, EFFORT_PER_TURN, EFFORT_WORTH_BYTES, RECEIVE_BYTES_OF_TURN
from ipc.wire.amqp import frames
from tests.host.harbour import Harbour
from tests.protocols.conversation import content

MESSAGE = content("", "queue", b"x" * 16)
DELIVER = b"\x00\x3c\x00\x3c"


@pytest.fixture
def harbour(tmp_path: Path) -> Iterator[Harbour]:
    harbour = Harbour(tmp_path / "vhost")
    yield harbour
    harbour.close()


def test_fast_publishers_do_not_starve_a_consumer(harbour: Harbour) -> None:
    consumer = harbour.connect()
    consumer.say(commands.Queue.Declare(queue="queue"))
    consumer.say(commands.Basic.Consume(queue="queue", consumer_tag="c", no_ack=True))
    publishers = [harbour.connect() for _ in range(8)]
    queue = harbour.vhost.queue("queue")
    delivered = 0

    for _ in range(400):
        for publisher in publishers:
            publisher.fill(MESSAGE * 50)
        harbour.pump.turn()
        delivered += consumer.receive().count(DELIVER)

    published = delivered + queue.ready_count
    assert delivered > 50_000
    assert delivered >= 0.8 * published


def test_publishers_do_not_wait_for_a_consumer_that_does_not_read(harbour: Harbour) -> None:
    consumer = harbour.connect()
    consumer.say(commands.Queue.Declare(queue="queue"))
    consumer.say(commands.Basic.Consume(queue="queue", consumer_tag="c", no_ack=True))
    publisher = harbour.connect()
    queue = harbour.vhost.queue("queue")

    for _ in range(200):
        publisher.fill(MESSAGE * 50)
        harbour.now += DRAINING_MS_MAX + 1
        harbour.pump.turn()

    brought_bytes = 200 * 200_000  # the socket's buffer, each time
    assert queue.ready_count * len(MESSAGE) > brought_bytes * 0.5


def test_held_publishers_go_on_when_consumers_are_done(harbour: Harbour) -> None:
    consumer = harbour.connect()
    consumer.say(commands.Queue.Declare(queue="queue"))
    consumer.say(commands.Basic.Consume(queue="queue", consumer_tag="c", no_ack=True))
    publishers = [harbour.connect() for _ in range(4)]
    sent = 0
    for publisher in publishers:
        publisher.socket.send(MESSAGE * 1000)
        sent += 1000

    delivered = turns = 0
    while delivered < sent and turns < 10_000:
        harbour.pump.turn()
        delivered += consumer.receive().count(DELIVER)
        turns += 1

    assert delivered == sent


async def test_held_publishers_go_on_when_nothing_else_happens(harbour: Harbour) -> None:
    consumer = harbour.connect()
    consumer.say(commands.Queue.Declare(queue="queue"))
    consumer.say(commands.Basic.Consume(queue="queue", consumer_tag="c", no_ack=True))
    publishers = [harbour.connect() for _ in range(4)]
    queue = harbour.vhost.queue("queue")
    for _ in range(20):
        for publisher in publishers:
            publisher.fill(MESSAGE * 50)
        harbour.pump.turn()
    assert harbour.pump.held_count

    async with trio.open_nursery() as nursery:
        nursery.start_soon(harbour.pump.run)
        with trio.fail_after(10):
            while harbour.pump.held_count or queue.ready_count:
                consumer.receive()
                await trio.sleep(0.01)
        nursery.cancel_scope.cancel()


def test_a_client_that_leaves_in_the_middle_is_forgotten(harbour: Harbour) -> None:
    staying, leaving = harbour.connect(), harbour.connect()
    staying.say(commands.Queue.Declare(queue="queue"))
    leaving.socket.send(MESSAGE[:20])
    leaving.socket.close()

    harbour.pump.turn()
    harbour.pump.turn()

    assert len(harbour.pump.connections) == 1
    assert staying.say(commands.Queue.Declare(queue="queue", passive=True))


def test_a_client_that_has_gone_leaves_nothing_for_a_collection_of_cycles(harbour: Harbour) -> None:
    """Its buffers go with it, whenever cycles are collected next."""
    gc.collect()
    gc.disable()
    try:
        for number in range(10):
            ship = harbour.connect()
            ship.say(commands.Queue.Declare(queue=f"queue{number}", exclusive=True))
            ship.say(commands.Basic.Consume(queue=f"queue{number}"))
            ship.say(commands.Confirm.Select())
            ship.socket.close()
        harbour.pump.turn()
        harbour.pump.turn()

        assert gc.collect() < 10
    finally:
        gc.enable()


def test_floods_of_small_frames_share_a_turn(harbour: Harbour) -> None:
    """64 clients together bring what would be seconds of work, and of each turn they get a bounded part."""
    floods = [harbour.connect() for _ in range(64)]
    for flood in floods:
        flood.socket.send(frames.HEARTBEAT_FRAME * 8000)
    share = RECEIVE_BYTES_OF_TURN // EFFORT_WORTH_BYTES + EFFORT_PER_TURN

    turns = 0
    while left := frames_kept(harbour):
        harbour.pump.turn()
        turns += 1
        assert left - frames_kept(harbour) <= 2 * share  # of what is new, and of what was kept


def test_a_flood_of_small_frames_does_not_hold_up_the_others(harbour: Harbour) -> None:
    flood, other = harbour.connect(), harbour.connect()
    sent = flood.socket.send(frames.HEARTBEAT_FRAME * 20_000)

    for _ in range(3):
        assert other.say(commands.Basic.Qos())

    (connection,) = [one for one in harbour.pump.connections if one.partial]
    assert len(connection.partial) > sent - 10 * EFFORT_PER_TURN * len(frames.HEARTBEAT_FRAME)
    while connection.partial:
        harbour.pump.turn()
    assert flood.say(commands.Basic.Qos())


def frames_kept(harbour: Harbour) -> int:
    """In sockets and connections."""
    unread = [array("i", [0]) for _ in harbour.sockets]
    for one, count in zip(harbour.sockets, unread, strict=True):
        ioctl(one, FIONREAD, count)
    kept = sum(len(connection.partial) for connection in harbour.pump.connections)
    return (kept + sum(count[0] for count in unread)) // len(frames.HEARTBEAT_FRAME)
