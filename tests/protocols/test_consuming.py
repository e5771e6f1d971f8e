"""Consumers get what they have room for: prefetch, flow and the outbox's water marks; and `get` takes one at a time."""

import pytest
from pamqp import commands

from ipc.limits import LARGE_BODY_BYTES
from ipc.settings import ConnectionSettings
from ipc.wire.amqp import methods
from tests.protocols.conversation import Client, Content, World


@pytest.fixture
def client(world: World) -> Client:
    client = world.client().open()
    client.declare("jobs")
    return client


def publish(client: Client, first: int, end: int, queue: str = "jobs") -> None:
    for number in range(first, end):
        client.publish("", queue, b"%d" % number)


def numbers(first: int, end: int) -> list[bytes]:
    return [b"%d" % number for number in range(first, end)]


# subscribing ----------------------------------------------------------------------------------------------------------


def test_a_consumer_hears_its_tag_before_its_first_message(client: Client) -> None:
    publish(client, 0, 2)
    client.say(commands.Basic.Consume(queue="jobs", consumer_tag="me", no_ack=True))

    consume_ok, *messages = client.replies()

    assert consume_ok.consumer_tag == "me"
    assert [(message.method.consumer_tag, message.body) for message in messages] == [("me", b"0"), ("me", b"1")]


def test_the_broker_chooses_a_tag_where_there_is_none(client: Client) -> None:
    one, two = client.consume("jobs"), client.consume("jobs")

    assert one != two
    assert one.startswith("amq.ctag-")


def test_a_consumer_tag_is_used_once_on_a_channel(client: Client) -> None:
    client.open(2)
    client.consume("jobs", tag="me")
    client.consume("jobs", tag="me", channel=2)

    client.say(commands.Basic.Consume(queue="jobs", consumer_tag="me"))

    assert client.refusal() == ("connection", 530)


def test_a_cancelled_consumer_gets_nothing_more(client: Client) -> None:
    client.consume("jobs", tag="me")
    publish(client, 0, 1)
    assert client.bodies() == [b"0"]

    assert client.ask(commands.Basic.Cancel(consumer_tag="me")).consumer_tag == "me"
    publish(client, 1, 2)

    assert client.replies() == []
    assert client.drain("jobs") == [b"1"]


def test_what_a_cancelled_consumer_was_given_is_still_the_channels(client: Client) -> None:
    client.consume("jobs", tag="me", acks=True)
    publish(client, 0, 2)
    client.replies()
    client.ask(commands.Basic.Cancel(consumer_tag="me"))

    client.ack(1)
    client.nack(2)

    assert client.drain("jobs") == [b"1"]


def test_an_exclusive_consumer_is_alone(client: Client) -> None:
    client.consume("jobs", exclusive=True)
    client.open(2).say(commands.Basic.Consume(queue="jobs"), 2)

    assert client.refusal() == ("channel", 403)


def test_a_refused_consumer_leaves_nothing_behind(client: Client) -> None:
    client.consume("jobs")
    client.open(2).say(commands.Basic.Consume(queue="jobs", exclusive=True), 2)
    assert client.refusal() == ("channel", 403)

    assert client.connection.channels[2].sources == {}
    assert client.declare("jobs", passive=True).consumer_count == 1


def test_a_consumer_is_told_when_its_queue_is_deleted(world: World, client: Client) -> None:
    consumer = world.client().open()
    consumer.consume("jobs", tag="me")

    client.ask(commands.Queue.Delete(queue="jobs"))

    (cancel,) = consumer.replies()
    assert isinstance(cancel, commands.Basic.Cancel)
    assert (cancel.consumer_tag, cancel.nowait) == ("me", True)
    assert consumer.consume(consumer.declare("jobs").queue, tag="me") == "me"


@pytest.mark.parametrize("durable", [False, True])
def test_who_deletes_a_queue_hears_that_first_and_then_of_its_own_consumers(client: Client, durable: bool) -> None:
    """Also where the reply waits for the disk; RabbitMQ's order, which clients' test-suites count on."""
    client.declare("mine", durable=durable)
    client.consume("mine", tag="one")
    client.open(2).consume("mine", tag="two", channel=2)

    client.say(commands.Queue.Delete(queue="mine"))

    assert [(channel, reply.name) for channel, reply in client.heard()] == [
        (1, "Queue.DeleteOk"),
        (1, "Basic.Cancel"),
        (2, "Basic.Cancel"),
    ]


def test_who_wants_no_reply_to_a_deletion_hears_of_its_consumers_all_the_same(client: Client) -> None:
    client.consume("jobs", tag="me")

    assert client.ask(commands.Queue.Delete(queue="jobs", nowait=True)).consumer_tag == "me"


def test_a_client_that_cannot_hear_of_it_is_not_told(world: World, client: Client) -> None:
    consumer = world.client(capabilities=frozenset()).open()
    consumer.consume("jobs")

    client.ask(commands.Queue.Delete(queue="jobs"))

    assert consumer.replies() == []


# prefetch -------------------------------------------------------------------------------------------------------------


def test_prefetch_bounds_each_consumer_made_later(client: Client) -> None:
    client.prefetch(2)
    client.consume("jobs", tag="one", acks=True)
    client.consume("jobs", tag="two", acks=True)
    publish(client, 0, 10)

    tags = [message.method.consumer_tag for message in client.deliveries()]
    assert sorted(tags) == ["one", "one", "two", "two"]


def test_prefetch_does_not_change_consumers_there_are(client: Client) -> None:
    client.consume("jobs", acks=True)
    client.prefetch(1)
    publish(client, 0, 5)

    assert len(client.bodies()) == 5


def test_each_acknowledgement_makes_room_for_one_more(client: Client) -> None:
    client.prefetch(2)
    client.consume("jobs", acks=True)
    publish(client, 0, 5)
    assert client.bodies() == numbers(0, 2)

    client.ack(1)
    assert client.bodies() == [b"2"]
    client.ack(3, multiple=True)
    assert client.bodies() == numbers(3, 5)


def test_shared_prefetch_bounds_all_consumers_of_a_channel_together(client: Client) -> None:
    client.prefetch(3, shared=True)
    client.consume("jobs", acks=True)
    client.consume("jobs", acks=True)
    publish(client, 0, 10)
    assert client.bodies() == numbers(0, 3)

    client.ack(2, multiple=True)
    assert client.bodies() == numbers(3, 5)


def test_the_narrower_of_both_prefetches_counts(client: Client) -> None:
    client.prefetch(3, shared=True)
    client.prefetch(2)
    client.consume("jobs", tag="one", acks=True)
    client.consume("jobs", tag="two", acks=True)
    publish(client, 0, 10)

    assert len(client.bodies()) == 3


def test_lifting_the_shared_prefetch_lets_messages_go_on(client: Client) -> None:
    client.prefetch(1, shared=True)
    client.consume("jobs", acks=True)
    publish(client, 0, 5)
    assert client.bodies() == [b"0"]

    client.say(commands.Basic.Qos(prefetch_count=0, global_=True))

    assert client.bodies() == numbers(1, 5)


def test_prefetch_does_not_bound_who_never_acknowledges(client: Client) -> None:
    client.prefetch(1)
    client.prefetch(1, shared=True)
    client.consume("jobs")
    publish(client, 0, 5)

    assert client.bodies() == numbers(0, 5)


def test_a_prefetch_in_bytes_is_not_implemented(client: Client) -> None:
    client.say(commands.Basic.Qos(prefetch_size=1000))

    assert client.refusal() == ("connection", 540)


def test_a_consumer_whose_prefetch_is_used_up_leaves_messages_to_others(world: World, client: Client) -> None:
    client.prefetch(1)
    client.consume("jobs", acks=True)
    other = world.client().open()
    other.consume("jobs")
    publish(client, 0, 10)

    assert len(client.bodies()) == 1
    assert len(other.bodies()) == 9


# get ------------------------------------------------------------------------------------------------------------------


def test_get_takes_one_message_and_tells_how_many_are_left(client: Client) -> None:
    publish(client, 0, 3)

    first, second = client.get("jobs"), client.get("jobs", acks=True)

    assert first is not None
    assert second is not None
    assert (first.body, first.method.message_count) == (b"0", 2)
    assert (second.body, second.method.message_count) == (b"1", 1)
    client.nack(second.method.delivery_tag)
    third = client.get("jobs")
    assert third is not None
    assert (third.body, third.method.redelivered) == (b"1", True)


def test_get_finds_nothing_in_an_empty_queue(client: Client) -> None:
    assert isinstance(client.ask(commands.Basic.Get(queue="jobs")), commands.Basic.GetEmpty)


def test_tags_count_on_over_gets_and_deliveries_acknowledged_or_not(client: Client) -> None:
    client.declare("more")
    publish(client, 0, 4)
    publish(client, 0, 1, "more")
    tags = []
    for acks in (True, False, True):
        message = client.get("jobs", acks=acks)
        assert message is not None
        tags.append(message.method.delivery_tag)
    client.consume("more")
    tags += [message.method.delivery_tag for message in client.deliveries()]
    client.consume("jobs", acks=True)
    tags += [message.method.delivery_tag for message in client.deliveries()]

    assert tags == [1, 2, 3, 4, 5]
    client.ack(5, multiple=True)
    assert len(client.connection.channels[1].ledger) == 0


def test_a_channel_forgets_where_settled_messages_came_from(client: Client) -> None:
    publish(client, 0, 50)
    for _ in range(50):
        assert client.get("jobs", acks=True) is not None
    client.ack(0, multiple=True)

    assert client.connection.channels[1].sources == {}


def test_a_client_may_get_messages_for_years(client: Client) -> None:
    """Each message asked for has a source of its own, whose number must fit the ledger's 32 bits."""
    client.consume("jobs", acks=True, tag="first source")
    client.ask(commands.Channel.Flow(active=False))
    publish(client, 0, 4)
    channel = client.connection.channels[1]
    channel._source_next = 2**32 - 2

    for _ in range(4):
        assert client.get("jobs", acks=True) is not None

    assert sorted(channel.sources) == [1, 2, 3, 2**32 - 2, 2**32 - 1]
    client.ack(0, multiple=True)
    assert sorted(channel.sources) == [1]


# slow readers ---------------------------------------------------------------------------------------------------------


HIGH, LOW = 50_000, 10_000


@pytest.fixture
def slow(world: World, client: Client) -> Client:
    """A consumer that has stopped reading."""
    world.settings = ConnectionSettings(outbox_bytes_high=HIGH, outbox_bytes_low=LOW)
    slow = world.client().open()
    slow.reads = False
    return slow


def read(world: World, client: Client) -> list[Content]:
    client.reads = True
    world.finish_turn()
    return client.deliveries()


def test_delivery_to_a_client_that_does_not_read_stops_at_the_high_mark(client: Client, slow: Client) -> None:
    slow.say(commands.Basic.Consume(queue="jobs", no_ack=True))
    for _ in range(200):
        client.publish("", "jobs", b"x" * 1000)

    assert HIGH <= len(slow.connection.outbox.buffer) < HIGH + 2000
    assert client.declare("jobs", passive=True).message_count > 100


def test_it_goes_on_once_the_client_has_read_down_to_the_low_mark(world: World, client: Client, slow: Client) -> None:
    slow.say(commands.Basic.Consume(queue="jobs", no_ack=True))
    for _ in range(200):
        client.publish("", "jobs", b"x" * 1000)
    connection = slow.connection
    before = len(connection.outbox.buffer)

    connection.sent(before - LOW - 1, world.now)
    world.finish_turn()
    assert len(connection.outbox.buffer) == LOW + 1

    connection.sent(1, world.now)
    world.finish_turn()
    assert len(connection.outbox.buffer) >= HIGH


def test_a_slow_reader_misses_nothing(world: World, client: Client, slow: Client) -> None:
    slow.say(commands.Basic.Consume(queue="jobs", no_ack=True))
    for number in range(300):
        client.publish("", "jobs", b"%d" % number * 100)

    assert [message.body for message in read(world, slow)] == [b"%d" % number * 100 for number in range(300)]


def test_messages_a_slow_reader_has_no_room_for_go_to_others(world: World, client: Client, slow: Client) -> None:
    slow.say(commands.Basic.Consume(queue="jobs", no_ack=True))
    quick = world.client().open()
    quick.consume("jobs")
    for _ in range(500):
        client.publish("", "jobs", b"x" * 1000)

    assert client.declare("jobs", passive=True).message_count == 0
    assert len(quick.bodies()) > 400


@pytest.mark.parametrize("low", [0, HIGH, 10 * HIGH])
def test_a_slow_reader_goes_on_whatever_the_marks_are(world: World, client: Client, low: int) -> None:
    world.settings = ConnectionSettings(outbox_bytes_high=1000, outbox_bytes_low=low)
    slow = world.client().open()
    slow.reads = False
    slow.say(commands.Basic.Consume(queue="jobs", no_ack=True))
    for _ in range(20):
        client.publish("", "jobs", b"x" * 500)

    assert len(read(world, slow)) == 20


def test_of_large_bodies_for_a_slow_reader_little_is_in_memory(world: World, client: Client, slow: Client) -> None:
    bodies = [bytes((number,)) * 3_000_000 for number in range(3)]
    for body in bodies:
        client.publish("", "jobs", body)
    slow.say(commands.Basic.Consume(queue="jobs", no_ack=True))

    assert len(slow.connection.outbox.buffer) < 2 * LARGE_BODY_BYTES + HIGH
    client.ask(commands.Queue.Delete(queue="jobs"))
    assert [message.body for message in read(world, slow)] == bodies[:1]


def test_large_bodies_with_small_ones_among_them_arrive_in_order(world: World, client: Client, slow: Client) -> None:
    bodies = [b"a", b"b" * 700_000, b"c", b"d" * LARGE_BODY_BYTES, b"e" * 900_000, b"f"]
    for body in bodies:
        client.publish("", "jobs", body)
    slow.say(commands.Basic.Consume(queue="jobs", no_ack=True))

    assert [message.body for message in read(world, slow)] == bodies


def test_replies_wait_behind_a_large_body_under_way(world: World, client: Client, slow: Client) -> None:
    client.publish("", "jobs", b"x" * 700_000)
    slow.say(commands.Basic.Consume(queue="jobs", no_ack=True))
    slow.say(commands.Queue.Declare(queue="jobs", passive=True))

    slow.reads = True
    world.finish_turn()
    names = [thing.method.name if isinstance(thing, Content) else thing.name for thing in slow.replies()]

    assert names == ["Basic.ConsumeOk", "Basic.Deliver", "Queue.DeclareOk"]


def test_a_client_that_asks_and_does_not_read_is_no_longer_listened_to(world: World, slow: Client) -> None:
    """A reply may be much longer than its question, and nobody has to read it; so what is kept must have an end."""
    question = methods.frame(1, commands.Queue.Declare(queue="jobs", passive=True)) * 1000
    asked = 0
    while slow.connection.wants_input:
        slow.send(question)
        asked += 1000
        assert asked < 100_000

    assert len(slow.connection.outbox.buffer) < 3 * (HIGH + LARGE_BODY_BYTES)
    slow.reads = True
    world.finish_turn()
    assert len(slow.replies()) == asked
    assert slow.declare("jobs", passive=True).queue == "jobs"


def test_a_client_that_gets_and_does_not_read_is_no_longer_listened_to(
    world: World, client: Client, slow: Client
) -> None:
    for _ in range(10):
        client.publish("", "jobs", b"x" * 500_000)

    slow.send(methods.frame(1, commands.Basic.Get(queue="jobs", no_ack=True)) * 11)

    assert not slow.connection.wants_input
    assert len(slow.connection.outbox.buffer) < 2 * LARGE_BODY_BYTES
    assert client.declare("jobs", passive=True).message_count == 9
    slow.reads = True
    world.finish_turn()
    *messages, empty = slow.replies()
    assert [len(message.body) for message in messages] == [500_000] * 10
    assert isinstance(empty, commands.Basic.GetEmpty)


def test_a_consumer_of_higher_priority_gets_messages_first(world: World) -> None:
    low, high = world.client().open(), world.client().open()
    low.declare("jobs")
    low.consume("jobs", tag="low")
    high.ask(commands.Basic.Consume(queue="jobs", consumer_tag="high", no_ack=True, arguments={"x-priority": 10}))
    low.publish("", "jobs", b"a")

    assert (low.bodies(), high.bodies()) == ([], [b"a"])


def test_a_priority_that_is_no_number_is_refused(world: World) -> None:
    client = world.client().open()
    client.declare("jobs")
    client.say(commands.Basic.Consume(queue="jobs", arguments={"x-priority": "high"}))

    assert client.refusal() == ("channel", 406)
