"""While something is short publishers wait and are told, everybody else goes on, and in the end nothing is missing."""

import pytest
from pamqp import commands

from ipc.errors import ConnectionRefusal, ReplyCode
from ipc.wire.amqp import frames
from shards.model.turn import Shortage
from shards.protocols.amqp.connection import ConnectionState
from tests.protocols.conversation import Client, World, content

MEMORY, DISK, WRITES = Shortage.MEMORY, Shortage.DISK, Shortage.WRITES

HEARTBEAT_SECONDS = 10


def block(world: World, *shortages: Shortage) -> None:
    for shortage in shortages:
        world.turn.block(shortage)


def unblock(world: World, *shortages: Shortage) -> None:
    for shortage in shortages:
        world.turn.unblock(shortage)
    world.finish_turn()


def names(client: Client) -> list[str]:
    return [reply.name for reply in client.replies()]


@pytest.fixture
def publisher(world: World) -> Client:
    """Has published already, and so its route is known and its messages take the fast way in."""
    client = world.client(capabilities=frozenset({"connection.blocked"}), heartbeat=HEARTBEAT_SECONDS).open()
    client.declare("jobs")
    client.ask(commands.Confirm.Select())
    client.publish("", "jobs", b"0")
    assert names(client) == ["Basic.Ack"]
    return client


@pytest.mark.parametrize(
    ("shortages", "reason"),
    [
        ([MEMORY], "low on memory"),
        ([DISK], "low on disk"),
        ([WRITES], "low on disk"),
        ([DISK, WRITES], "low on disk"),
        ([DISK, MEMORY], "low on memory & disk"),
        ([MEMORY, WRITES], "low on memory & disk"),
        ([MEMORY, DISK, WRITES], "low on memory & disk"),
    ],
)
def test_the_reason_says_what_is_short(world: World, publisher: Client, shortages: list[Shortage], reason: str) -> None:
    block(world, *shortages)

    publisher.publish("", "jobs", b"1")

    (blocked,) = publisher.replies()
    assert isinstance(blocked, commands.Connection.Blocked)
    assert blocked.reason == reason


def test_what_was_published_meanwhile_is_taken_in_afterwards_in_order(world: World, publisher: Client) -> None:
    block(world, MEMORY)
    publisher.send(b"".join(content("", "jobs", b"%d" % number) for number in range(1, 50)))
    assert names(publisher) == ["Connection.Blocked"]
    assert world.vhost.queue("jobs").ready_count == 1

    unblock(world, MEMORY)

    unblocked, *confirms = publisher.replies()
    assert isinstance(unblocked, commands.Connection.Unblocked)
    assert max(confirm.delivery_tag for confirm in confirms) == 50
    assert publisher.drain("jobs") == [b"%d" % number for number in range(50)]


def test_publishers_go_on_only_when_nothing_is_short_any_more(world: World, publisher: Client) -> None:
    block(world, MEMORY)
    publisher.publish("", "jobs", b"1")
    block(world, DISK, WRITES)
    heard = [names(publisher)]
    for shortage in (MEMORY, WRITES, DISK):
        unblock(world, shortage)
        heard.append(names(publisher))

    assert heard == [["Connection.Blocked"], [], [], ["Connection.Unblocked", "Basic.Ack"]]


def test_an_alarm_that_comes_back_at_once_is_not_told_twice(world: World, publisher: Client) -> None:
    block(world, MEMORY)
    publisher.publish("", "jobs", b"1")
    world.turn.unblock(MEMORY)
    world.turn.block(DISK)
    world.finish_turn()
    heard = [names(publisher)]
    unblock(world, DISK)
    heard.append(names(publisher))

    assert heard == [["Connection.Blocked"], ["Connection.Unblocked", "Basic.Ack"]]


def test_an_alarm_that_comes_back_later_is_told_again(world: World, publisher: Client) -> None:
    heard = []
    for number in range(3):
        block(world, MEMORY)
        publisher.publish("", "jobs", b"%d" % number)
        unblock(world, MEMORY)
        heard += names(publisher)

    assert heard == ["Connection.Blocked", "Connection.Unblocked", "Basic.Ack"] * 3


def test_an_end_that_was_no_alarm_changes_nothing(world: World, publisher: Client) -> None:
    unblock(world, MEMORY, DISK, WRITES)
    publisher.publish("", "jobs", b"1")

    assert names(publisher) == ["Basic.Ack"]


def test_who_has_not_published_is_not_bothered_and_may_do_everything_else(world: World, publisher: Client) -> None:
    block(world, MEMORY)
    other = world.client(capabilities=frozenset({"connection.blocked"})).open()

    other.declare("more")
    other.bind("amq.fanout", "more")
    other.consume("jobs", acks=True)
    assert other.bodies() == [b"0"]
    other.ack(1)
    assert other.get("more") is None

    assert world.vhost.queue("jobs").unacknowledged_count == 0
    unblock(world, MEMORY)
    assert other.replies() == []


def test_acknowledgements_before_a_publish_are_taken_in_while_it_waits(world: World, publisher: Client) -> None:
    publisher.consume("jobs", acks=True)
    assert publisher.bodies() == [b"0"]
    block(world, MEMORY)

    publisher.send(ack(1) + content("", "jobs", b"1"))

    assert world.vhost.queue("jobs").unacknowledged_count == 0
    assert names(publisher) == ["Connection.Blocked"]


def ack(tag: int) -> bytes:
    return frames.pack(frames.METHOD, 1, b"\x00\x3c\x00\x50" + tag.to_bytes(8, "big") + b"\0")


def test_a_client_that_cannot_hear_of_it_just_waits(world: World, publisher: Client) -> None:
    silent = world.client().open()
    block(world, MEMORY)

    silent.publish("", "jobs", b"1")
    reads = [silent.connection.wants_input]
    unblock(world, MEMORY)
    reads.append(silent.connection.wants_input)

    assert reads == [False, True]
    assert silent.replies() == []
    assert publisher.drain("jobs") == [b"0", b"1"]


def test_a_commit_of_messages_waits(world: World, publisher: Client) -> None:
    client = world.client(capabilities=frozenset({"connection.blocked"})).open()
    client.ask(commands.Tx.Select())
    client.publish("", "jobs", b"1")
    block(world, MEMORY)

    client.say(commands.Tx.Commit())
    assert names(client) == ["Connection.Blocked"]
    unblock(world, MEMORY)

    assert names(client) == ["Connection.Unblocked", "Tx.CommitOk"]
    assert publisher.drain("jobs") == [b"0", b"1"]


@pytest.mark.parametrize("ending", [commands.Tx.Commit, commands.Tx.Rollback])
def test_a_transaction_that_brings_nothing_in_does_not_wait(
    world: World, publisher: Client, ending: type[commands.Tx.Commit | commands.Tx.Rollback]
) -> None:
    consumer = world.client(capabilities=frozenset({"connection.blocked"})).open()
    consumer.ask(commands.Tx.Select())
    consumer.consume("jobs", acks=True)
    assert consumer.bodies() == [b"0"]
    block(world, MEMORY)

    consumer.ack(1)
    consumer.say(ending())

    assert names(consumer) == [f"{ending.name}Ok"]


def test_a_message_that_was_taken_in_by_half_is_completed(world: World, publisher: Client) -> None:
    """Its method has been taken, as it is where no route is known yet; waiting would keep its memory."""
    client = world.client(capabilities=frozenset({"connection.blocked"})).open()
    whole = content("", "jobs", b"x" * 1000)
    client.send(whole[:-500])
    block(world, MEMORY)

    client.send(whole[-500:])

    assert names(client) == []
    assert client.drain("jobs") == [b"0", b"x" * 1000]


def test_a_message_that_has_come_by_half_waits_as_a_whole(world: World, publisher: Client) -> None:
    """Of a known route nothing is taken before all is there."""
    whole = content("", "jobs", b"x" * 1000)
    publisher.send(whole[:-500])
    block(world, MEMORY)

    publisher.send(whole[-500:])
    heard = [names(publisher)]
    unblock(world, MEMORY)
    heard.append(names(publisher))

    assert heard == [["Connection.Blocked"], ["Connection.Unblocked", "Basic.Ack"]]
    assert publisher.drain("jobs") == [b"0", b"x" * 1000]


def test_who_leaves_while_it_waits_is_forgotten(world: World, publisher: Client) -> None:
    block(world, MEMORY)
    publisher.publish("", "jobs", b"1")

    publisher.disconnect()

    assert not world.turn.blocked
    unblock(world, MEMORY)
    assert world.client().open().drain("jobs") == [b"0"]


def test_who_leaves_after_it_may_go_on_is_forgotten_too(world: World, publisher: Client) -> None:
    block(world, MEMORY)
    publisher.publish("", "jobs", b"1")
    world.turn.unblock(MEMORY)

    publisher.disconnect()

    assert publisher.connection.state is ConnectionState.CLOSED
    assert world.client().open().drain("jobs") == [b"0"]


def test_a_blocked_client_hears_a_close_and_its_answer_is_heard(world: World, publisher: Client) -> None:
    block(world, MEMORY)
    publisher.publish("", "jobs", b"1")

    publisher.connection.close(ConnectionRefusal(ReplyCode.CONNECTION_FORCED, "broker is shutting down"), world.now)
    assert names(publisher) == ["Connection.Blocked", "Connection.Close"]
    assert publisher.connection.wants_input
    publisher.send(frames.pack(frames.METHOD, 0, b"\x00\x0a\x00\x33"))

    assert publisher.connection.state is ConnectionState.CLOSED


def test_a_blocked_client_is_not_called_silent_and_still_gets_heartbeats(world: World, publisher: Client) -> None:
    block(world, MEMORY)
    publisher.publish("", "jobs", b"1")
    assert names(publisher) == ["Connection.Blocked"]

    for _ in range(10):
        world.advance(HEARTBEAT_SECONDS * 1000 // 2)
    assert publisher.replies() == ["heartbeat"] * 10
    unblock(world, MEMORY)
    world.advance(1)

    assert publisher.connection.state is ConnectionState.OPEN
