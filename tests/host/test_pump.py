"""The pump between real sockets: nobody starves, nobody is slowed down without need."""

import gc
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio
from pamqp import commands

from ipc.limits import DRAINING_MS_MAX
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
