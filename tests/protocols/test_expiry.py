"""Messages and queues whose time is over, on virtual time."""

from pathlib import Path

import pytest
from pamqp import commands

from tests.protocols.conversation import Client, World


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


@pytest.fixture
def client(world: World) -> Client:
    return world.client().open()


def ready(client: Client, queue: str) -> int:
    return int(client.declare(queue, passive=True).message_count)


def expiring(milliseconds: int | str) -> commands.Basic.Properties:
    return commands.Basic.Properties(expiration=str(milliseconds))


def test_a_message_older_than_its_queues_ttl_is_gone(world: World, client: Client) -> None:
    client.declare("q", arguments={"x-message-ttl": 1000})
    client.publish("", "q", b"old")
    world.advance(600)
    client.publish("", "q", b"young")

    world.advance(600)

    assert client.drain("q") == [b"young"]


def test_a_message_that_is_not_yet_old_stays(world: World, client: Client) -> None:
    client.declare("q", arguments={"x-message-ttl": 1000})
    client.publish("", "q", b"a")

    world.advance(900)

    assert ready(client, "q") == 1


def test_a_message_expires_by_itself_when_its_time_has_come(world: World, client: Client) -> None:
    client.declare("q", arguments={"x-message-ttl": 1000})
    client.publish("", "q", b"a")

    world.advance(1100)

    assert ready(client, "q") == 0
    assert world.turn.agenda.next_due == 0


def test_a_message_may_bring_its_own_time(world: World, client: Client) -> None:
    client.declare("q")
    client.publish("", "q", b"a", properties=expiring(500))

    world.advance(400)
    assert ready(client, "q") == 1

    world.advance(300)
    assert ready(client, "q") == 0


def test_the_shorter_time_counts(world: World, client: Client) -> None:
    client.declare("q", arguments={"x-message-ttl": 300})
    client.declare("r", arguments={"x-message-ttl": 5000})
    client.publish("", "q", b"a", properties=expiring(5000))
    client.publish("", "r", b"a", properties=expiring(300))

    world.advance(500)

    assert (ready(client, "q"), ready(client, "r")) == (0, 0)


def test_messages_leave_at_the_head_only(world: World, client: Client) -> None:
    """RabbitMQ's rule, too: what expires behind one that does not waits for it."""
    client.declare("q")
    client.publish("", "q", b"stays")
    client.publish("", "q", b"expires", properties=expiring(100))

    world.advance(1000)
    assert ready(client, "q") == 2

    message = client.get("q")
    assert message is not None
    assert message.body == b"stays"
    assert ready(client, "q") == 0


def test_with_a_ttl_of_zero_only_who_waits_gets_it(world: World, client: Client) -> None:
    client.declare("q", arguments={"x-message-ttl": 0})
    client.publish("", "q", b"nobody waits")
    assert ready(client, "q") == 0

    client.consume("q")
    client.publish("", "q", b"somebody waits")

    assert client.bodies() == [b"somebody waits"]


def test_what_was_delivered_does_not_expire(world: World, client: Client) -> None:
    client.declare("q", arguments={"x-message-ttl": 100})
    client.consume("q", acks=True)
    client.publish("", "q", b"a")
    (message,) = client.deliveries()

    world.advance(1000)
    client.ack(message.method.delivery_tag)

    assert client.replies() == []


def test_what_comes_back_too_late_expires(world: World, client: Client) -> None:
    client.declare("q", arguments={"x-message-ttl": 100})
    client.publish("", "q", b"a")
    message = client.get("q", acks=True)
    assert message is not None

    world.advance(1000)
    client.nack(message.method.delivery_tag)
    world.advance(200)

    assert ready(client, "q") == 0


def test_messages_that_expired_while_the_broker_was_down_are_gone(tmp_path: Path) -> None:
    world = World(tmp_path)
    client = world.client().open()
    client.declare("q", durable=True, arguments={"x-message-ttl": 1000})
    client.publish("", "q", b"old", persistent=True)

    later = world.restart()
    later.advance(5000)

    assert ready(later.client().open(), "q") == 0


def test_what_somebody_asked_for_too_late_does_not_come_back_after_a_crash(tmp_path: Path) -> None:
    world = World(tmp_path)
    client = world.client().open()
    client.declare("q", durable=True, arguments={"x-message-ttl": 1000})
    world.advance(1)
    client.publish("", "q", b"old", persistent=True)
    world.now = world.turn.now = world.now + 1000  # and the appointment is some milliseconds later

    assert client.get("q") is None
    assert world.crash().vhost.queue("q").ready_count == 0


def test_an_unused_queue_expires(world: World, client: Client) -> None:
    client.declare("q", arguments={"x-expires": 1000})

    world.advance(900)
    assert world.vhost.find_queue("q") is not None

    world.advance(300)
    assert world.vhost.find_queue("q") is None


def test_a_queue_with_a_consumer_does_not_expire_and_begins_to_when_it_leaves(world: World, client: Client) -> None:
    client.declare("q", arguments={"x-expires": 1000})
    tag = client.consume("q")
    world.advance(5000)
    assert world.vhost.find_queue("q") is not None

    client.say(commands.Basic.Cancel(consumer_tag=tag))
    world.advance(900)
    assert world.vhost.find_queue("q") is not None

    world.advance(300)
    assert world.vhost.find_queue("q") is None


def test_a_queue_that_was_deleted_under_its_consumers_does_not_expire_as_well(world: World, client: Client) -> None:
    """Its last consumer leaves when the queue is gone already, and there is nothing left to expire."""
    client.declare("q", arguments={"x-expires": 1000})
    client.consume("q")
    client.say(commands.Queue.Delete(queue="q"))
    client.replies()

    world.advance(2000)

    assert client.declare("q").queue == "q"


def test_a_queue_that_goes_with_its_connection_does_not_expire_as_well(world: World, client: Client) -> None:
    other = world.client().open()
    other.declare("q", exclusive=True, arguments={"x-expires": 1000})
    other.consume("q")
    other.disconnect()

    world.advance(2000)

    assert client.declare("q").queue == "q"


def test_declaring_a_queue_again_or_getting_from_it_is_using_it(world: World, client: Client) -> None:
    client.declare("q", arguments={"x-expires": 1000})
    world.advance(900)
    client.declare("q", arguments={"x-expires": 1000})
    world.advance(900)
    client.get("q")
    world.advance(900)

    assert world.vhost.find_queue("q") is not None
