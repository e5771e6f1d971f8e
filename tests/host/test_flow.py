"""Who is fast, slow or stuck costs nobody else anything, and a broker that is short of memory takes in nothing."""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from pamqp import commands

from ipc.limits import DRAINING_MS_MAX, FINISHING_MS_MAX, LARGE_BODY_BYTES, SHORT_BYTES_PER_TURN
from ipc.settings import ConnectionSettings
from shards.model.turn import Shortage
from tests.host.harbour import Harbour, Ship
from tests.protocols.conversation import content

MESSAGE = content("", "queue", b"x" * 16)
DELIVER = b"\x00\x3c\x00\x3c"
BLOCKED, UNBLOCKED = b"\x00\x0a\x00\x3c", b"\x00\x0a\x00\x3d"


@pytest.fixture
def harbour(tmp_path: Path) -> Iterator[Harbour]:
    harbour = Harbour(tmp_path / "vhost")
    yield harbour
    harbour.close()


def consumer_of(harbour: Harbour, queue: str) -> Ship:
    ship = harbour.connect()
    ship.say(commands.Queue.Declare(queue=queue))
    ship.say(commands.Basic.Consume(queue=queue, consumer_tag="c", no_ack=True))
    return ship


def turn_until_quiet(harbour: Harbour) -> None:
    while True:
        harbour.pump.turn()
        if not harbour.turn.has_work:
            return


# fairness -------------------------------------------------------------------------------------------------------------


def test_a_flood_into_one_queue_delays_another_queue_by_a_few_turns(harbour: Harbour) -> None:
    harbour.connect().say(commands.Queue.Declare(queue="queue"))
    flooding = [harbour.connect() for _ in range(8)]
    calm = harbour.connect()
    consumer = consumer_of(harbour, "calm")
    message = content("", "calm", b"tick")
    waits = []

    for _ in range(50):
        calm.socket.send(message)
        waits.append(0)
        while not consumer.receive().count(DELIVER):
            for publisher in flooding:
                publisher.fill(MESSAGE * 50)
            harbour.pump.turn()
            waits[-1] += 1
            assert waits[-1] < 20, "starved"

    assert harbour.vhost.queue("queue").ready_count > 50_000
    assert sum(waits) / len(waits) < 8


def test_a_flood_into_a_queue_that_is_consumed_delays_another_queue_by_a_few_turns(harbour: Harbour) -> None:
    busy = consumer_of(harbour, "queue")
    flooding = [harbour.connect() for _ in range(8)]
    calm = harbour.connect()
    consumer = consumer_of(harbour, "calm")
    message = content("", "calm", b"tick")
    delivered = 0

    for _ in range(50):
        calm.socket.send(message)
        turns = 0
        while not consumer.receive().count(DELIVER):
            for publisher in flooding:
                publisher.fill(MESSAGE * 50)
            harbour.pump.turn()
            delivered += busy.receive().count(DELIVER)
            turns += 1
            assert turns < 200, "starved"

    assert delivered > 10_000


def test_a_consumer_that_does_not_read_holds_back_nobody_else(harbour: Harbour) -> None:
    stuck, reading = consumer_of(harbour, "queue"), consumer_of(harbour, "queue")
    publisher = harbour.connect()
    queue = harbour.vhost.queue("queue")
    delivered = 0

    for _ in range(200):
        publisher.fill(MESSAGE * 50)
        harbour.now += DRAINING_MS_MAX + 1
        harbour.pump.turn()
        delivered += reading.receive().count(DELIVER)
    while queue.ready_count:
        harbour.pump.turn()
        delivered += reading.receive().count(DELIVER)

    assert len(stuck.connection.outbox.buffer) <= ConnectionSettings().outbox_bytes_high + LARGE_BODY_BYTES
    assert delivered > 100_000
    assert publisher.connection.wants_input


def test_a_consumer_that_reads_again_gets_the_rest(harbour: Harbour) -> None:
    consumer = consumer_of(harbour, "queue")
    publisher = harbour.connect()
    harbour.now += DRAINING_MS_MAX + 1
    sent = 0
    while consumer.connection.outbox.room_bytes > 0 or sent < 50_000:
        publisher.socket.send(MESSAGE * 1000)
        sent += 1000
        harbour.now += DRAINING_MS_MAX + 1
        turn_until_quiet(harbour)

    delivered = turns = 0
    while delivered < sent and turns < 10_000:
        delivered += consumer.receive().count(DELIVER)
        harbour.pump.turn()
        turns += 1

    assert delivered == sent


# shortage -------------------------------------------------------------------------------------------------------------


def test_who_is_blocked_keeps_little_and_the_rest_stays_in_the_socket(harbour: Harbour) -> None:
    harbour.connect().say(commands.Queue.Declare(queue="queue"))
    publishers = [harbour.connect() for _ in range(8)]
    harbour.turn.block(Shortage.MEMORY)
    for publisher in publishers:
        publisher.fill(MESSAGE * 50)

    for _ in range(20):
        harbour.pump.turn()

    assert harbour.vhost.queue("queue").ready_count == 0
    assert all(0 < len(publisher.connection.partial) <= SHORT_BYTES_PER_TURN for publisher in publishers)


def test_a_large_frame_that_has_begun_is_read_to_its_end(harbour: Harbour) -> None:
    """In pieces that grow, although there is a shortage."""
    harbour.connect().say(commands.Queue.Declare(queue="queue"))
    publisher = harbour.connect()
    whole = content("", "queue", b"x" * 120_000)
    publisher.socket.send(whole[:-100_000])
    harbour.pump.turn()
    harbour.turn.block(Shortage.MEMORY)
    publisher.socket.send(whole[-100_000:])

    for _ in range(10):
        harbour.pump.turn()

    assert harbour.vhost.queue("queue").ready_count == 1


def begin_messages(harbour: Harbour, count: int, *, heartbeat_seconds: int = 0) -> tuple[list[Ship], bytes]:
    """So many publishers have sent little of a message when memory becomes short; what is left for each to send."""
    harbour.connect().say(commands.Queue.Declare(queue="queue"))
    publishers = [harbour.connect(heartbeat_seconds=heartbeat_seconds) for _ in range(count)]
    whole = content("", "queue", b"x" * 500_000)
    for publisher in publishers:
        publisher.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2 * len(whole))
        publisher.socket.send(whole[: len(whole) - 450_000])
    turn_until_quiet(harbour)
    harbour.turn.block(Shortage.MEMORY)
    return publishers, whole[len(whole) - 450_000 :]


def incoming(publishers: list[Ship]) -> int:
    """Bytes of messages that have begun to come."""
    owners = [owner for each in publishers for owner in (each.connection, *each.connection.channels.values())]
    kinds = ("incoming messages", "partial input")
    return sum(size for owner in owners for kind, size in owner.holdings() if kind in kinds)


def test_messages_that_have_begun_are_finished_one_after_the_other_while_memory_is_short(harbour: Harbour) -> None:
    publishers, rest = begin_messages(harbour, 20)
    begun = incoming(publishers)
    for publisher in publishers:
        assert publisher.socket.send(rest) == len(rest)

    highest = turns = 0
    while harbour.vhost.queue("queue").ready_count < 20 and turns < 5000:
        harbour.pump.turn()
        highest = max(highest, incoming(publishers))
        turns += 1

    assert harbour.vhost.queue("queue").ready_count == 20
    assert highest < begun + 2 * len(rest)


def test_who_does_not_finish_holds_the_others_up_for_a_moment_only(harbour: Harbour) -> None:
    publishers, rest = begin_messages(harbour, 3)
    stuck, *others = publishers
    stuck.socket.send(rest[:10])
    harbour.pump.turn()
    for publisher in others:
        publisher.socket.send(rest)
    for _ in range(100):
        harbour.pump.turn()
    assert harbour.vhost.queue("queue").ready_count == 0

    harbour.now += FINISHING_MS_MAX
    for _ in range(100):
        harbour.pump.turn()

    assert harbour.vhost.queue("queue").ready_count == 2


def test_messages_in_line_go_on_together_once_memory_is_there(harbour: Harbour) -> None:
    publishers, rest = begin_messages(harbour, 3)
    for publisher in publishers[1:]:
        publisher.socket.send(rest)
    publishers[0].socket.send(rest[:10])
    harbour.pump.turn()

    harbour.turn.unblock(Shortage.MEMORY)
    for _ in range(20):
        harbour.pump.turn()

    assert harbour.vhost.queue("queue").ready_count == 2


def test_nobody_is_given_up_for_silence_while_it_waits_in_line(harbour: Harbour) -> None:
    publishers, rest = begin_messages(harbour, 3, heartbeat_seconds=1)
    for some in (publishers[:1], publishers[1:]):
        for publisher in some:
            publisher.socket.send(rest[:10])
        harbour.pump.turn()

    for _ in range(20):
        harbour.now += 500
        harbour.deadlines.tick_due(harbour.pump.tick, harbour.now)
    served = [publisher.connection in harbour.pump.connections for publisher in publishers]

    assert served == [False, True, True]  # the first was listened to, and said nothing


def test_who_leaves_while_it_finishes_makes_way(harbour: Harbour) -> None:
    publishers, rest = begin_messages(harbour, 3)
    leaving, *others = publishers
    leaving.socket.send(rest[:10])
    harbour.pump.turn()
    for publisher in others:
        publisher.socket.send(rest)
    harbour.pump.turn()

    leaving.socket.close()
    for _ in range(100):
        harbour.pump.turn()

    assert harbour.vhost.queue("queue").ready_count == 2


def test_consumers_empty_their_queues_while_publishers_wait(harbour: Harbour) -> None:
    publisher = harbour.connect()
    publisher.say(commands.Queue.Declare(queue="queue"))
    publisher.socket.send(MESSAGE * 2000)
    turn_until_quiet(harbour)
    harbour.turn.block(Shortage.MEMORY)
    publisher.fill(MESSAGE * 50)
    consumer = harbour.connect()
    first = consumer.say(commands.Basic.Consume(queue="queue", consumer_tag="c", no_ack=True))

    delivered, turns = first.count(DELIVER), 0
    while delivered < 2000 and turns < 1000:
        harbour.pump.turn()
        delivered += consumer.receive().count(DELIVER)
        turns += 1

    assert delivered == 2000
    assert harbour.vhost.queue("queue").ready_count == 0


def test_everything_published_meanwhile_arrives_afterwards(harbour: Harbour) -> None:
    consumer = consumer_of(harbour, "queue")
    publishers = [harbour.connect(frozenset({"connection.blocked"})) for _ in range(4)]
    heard = [b""] * 4
    delivered = 0
    for _ in range(3):
        harbour.turn.block(Shortage.MEMORY)
        for publisher in publishers:
            publisher.socket.send(MESSAGE * 1000)
        for _ in range(10):
            harbour.pump.turn()
            delivered += consumer.receive().count(DELIVER)
        before = delivered
        harbour.turn.unblock(Shortage.MEMORY)
        while delivered < before + 4000:
            harbour.pump.turn()
            delivered += consumer.receive().count(DELIVER)
        heard = [said + publisher.receive() for said, publisher in zip(heard, publishers, strict=True)]

    assert delivered == 12_000
    assert [(said.count(BLOCKED), said.count(UNBLOCKED)) for said in heard] == [(3, 3)] * 4


@pytest.mark.parametrize("how", [socket.SHUT_WR, socket.SHUT_RDWR])
def test_a_blocked_client_that_hangs_up_is_forgotten_at_once(harbour: Harbour, how: int) -> None:
    harbour.connect().say(commands.Queue.Declare(queue="queue"))
    leaving, staying = harbour.connect(), harbour.connect()
    harbour.turn.block(Shortage.MEMORY)
    for publisher in (leaving, staying):
        publisher.socket.send(MESSAGE)
    harbour.pump.turn()
    assert len(harbour.turn.blocked) == 2

    leaving.socket.shutdown(how)
    harbour.pump.turn()

    assert list(harbour.turn.blocked) == [staying.connection]
    assert leaving.connection not in harbour.pump.connections
    harbour.turn.unblock(Shortage.MEMORY)
    turn_until_quiet(harbour)
    assert harbour.vhost.queue("queue").ready_count == 1


def test_who_hangs_up_after_its_last_message_is_heard_out_when_nothing_is_short(harbour: Harbour) -> None:
    harbour.connect().say(commands.Queue.Declare(queue="queue"))
    publisher = harbour.connect()
    publisher.socket.send(MESSAGE * 1000)
    publisher.socket.shutdown(socket.SHUT_WR)

    for _ in range(10):
        harbour.pump.turn()

    assert harbour.vhost.queue("queue").ready_count == 1000
    assert publisher.connection not in harbour.pump.connections
