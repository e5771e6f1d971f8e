"""Deliveries are settled once: for good, or back into their queue, in their old place and marked redelivered."""

import pytest
from pamqp import commands

from ipc.limits import LARGE_BODY_BYTES
from ipc.settings import ConnectionSettings
from tests.protocols.conversation import Client, World


@pytest.fixture
def client(world: World) -> Client:
    """Has been given the messages 0 to 4 of the queue `jobs`, with the tags 1 to 5."""
    client = world.client().open()
    client.declare("jobs", durable=True)
    client.consume("jobs", tag="me", acks=True)
    for number in range(5):
        client.publish("", "jobs", b"%d" % number)
    assert [message.method.delivery_tag for message in client.deliveries()] == [1, 2, 3, 4, 5]
    client.ask(commands.Basic.Cancel(consumer_tag="me"))
    return client


@pytest.fixture
def left(world: World, client: Client) -> Client:
    """Another client, to look what is in the queue."""
    return world.client().open()


def what_is_left(client: Client, left: Client) -> list[bytes]:
    """In the queue once `client` has gone."""
    client.disconnect()
    return left.drain("jobs")


def test_an_acknowledged_message_is_gone(client: Client, left: Client) -> None:
    client.ack(2)
    client.ack(4)

    assert what_is_left(client, left) == [b"0", b"2", b"4"]


def test_multiple_acknowledges_up_to_a_tag(client: Client, left: Client) -> None:
    client.ack(3, multiple=True)

    assert what_is_left(client, left) == [b"3", b"4"]


def test_tag_zero_acknowledges_everything(client: Client, left: Client) -> None:
    client.ack(0, multiple=True)

    assert what_is_left(client, left) == []


def test_tag_zero_of_a_channel_with_nothing_outstanding_is_fine(client: Client) -> None:
    client.ack(0, multiple=True)
    client.ack(0, multiple=True)

    assert client.replies() == []


@pytest.mark.parametrize(
    "settle",
    [
        commands.Basic.Ack(delivery_tag=6),
        commands.Basic.Ack(delivery_tag=6, multiple=True),
        commands.Basic.Ack(delivery_tag=0),
        commands.Basic.Ack(delivery_tag=2**63 - 1),
        commands.Basic.Nack(delivery_tag=6),
        commands.Basic.Reject(delivery_tag=6),
        commands.Basic.Reject(delivery_tag=0),
    ],
    ids=lambda method: f"{method.name} {method.delivery_tag}",
)
def test_an_unknown_tag_is_refused_and_settles_nothing(
    client: Client, left: Client, settle: commands.Basic.Ack
) -> None:
    client.say(settle)

    assert client.refusal() == ("channel", 406)
    assert left.drain("jobs") == [b"0", b"1", b"2", b"3", b"4"]


def test_a_tag_is_settled_once(client: Client) -> None:
    client.ack(2)
    client.ack(2)

    assert client.refusal() == ("channel", 406)


def test_a_tag_belongs_to_its_channel(client: Client) -> None:
    client.open(2).ack(1, channel=2)

    assert client.refusal() == ("channel", 406)


def test_a_rejected_message_comes_back_or_not(client: Client, left: Client) -> None:
    client.say(commands.Basic.Reject(delivery_tag=1, requeue=True))
    client.say(commands.Basic.Reject(delivery_tag=2, requeue=False))

    assert left.drain("jobs") == [b"0"]


def test_nack_takes_many_back_in_their_place(client: Client, left: Client) -> None:
    left.publish("", "jobs", b"younger")
    client.nack(4)
    client.nack(2, multiple=True)

    assert left.drain("jobs") == [b"0", b"1", b"3", b"younger"]


def test_nack_without_requeue_drops(client: Client, left: Client) -> None:
    client.nack(3, multiple=True, requeue=False)

    assert what_is_left(client, left) == [b"3", b"4"]


def test_recover_takes_everything_back(client: Client, left: Client) -> None:
    client.ack(1)

    assert isinstance(client.ask(commands.Basic.Recover(requeue=True)), commands.Basic.RecoverOk)

    assert left.drain("jobs") == [b"1", b"2", b"3", b"4"]


@pytest.mark.parametrize("size_bytes", [1, LARGE_BODY_BYTES])
def test_recover_without_requeue_delivers_again_to_the_same_consumers(world: World, size_bytes: int) -> None:
    client, other = world.client().open(), world.client().open()
    client.declare("jobs")
    for consumer, tag in ((client, "one"), (client, "two"), (other, "three")):
        consumer.consume("jobs", tag=tag, acks=True)
    for number in range(6):
        client.publish("", "jobs", bytes((number,)) * size_bytes)
    before = [(message.method.consumer_tag, message.body) for message in client.deliveries()]
    assert len(other.bodies()) == 2

    client.say(commands.Basic.Recover(requeue=False))

    again = client.deliveries()
    assert sorted((message.method.consumer_tag, message.body) for message in again) == sorted(before)
    assert [(message.method.delivery_tag, message.method.redelivered) for message in again] == [
        (tag, True) for tag in range(len(before) + 1, 2 * len(before) + 1)
    ]
    assert other.replies() == []
    client.ack(0, multiple=True)
    assert world.vhost.queue("jobs").unacknowledged_count == 2


def test_recover_without_requeue_gives_back_what_belongs_to_no_consumer_any_more(client: Client, left: Client) -> None:
    assert isinstance(client.ask(commands.Basic.Recover(requeue=False)), commands.Basic.RecoverOk)

    assert left.drain("jobs") == [b"0", b"1", b"2", b"3", b"4"]


def test_recover_without_requeue_sends_at_once_what_a_client_may_have_unread_and_the_rest_later(world: World) -> None:
    world.settings = ConnectionSettings(outbox_bytes_high=1000, outbox_bytes_low=0)
    slow = world.client().open()
    slow.declare("jobs")
    slow.consume("jobs", acks=True)
    for number in range(20):
        slow.publish("", "jobs", bytes((number,)) * 500)
    assert len(slow.bodies()) == 20
    slow.reads = False

    slow.say(commands.Basic.Recover(requeue=False))

    assert len(slow.connection.outbox.buffer) < 2000
    slow.reads = True
    world.finish_turn()
    assert [body[0] for body in slow.bodies()] == list(range(20))
    assert len(slow.connection.channels[1].ledger) == 20


@pytest.mark.filterwarnings("ignore:This command is deprecated")
def test_recover_async_does_the_same_without_a_word(client: Client, left: Client) -> None:
    client.say(commands.Basic.RecoverAsync(requeue=True))

    assert client.replies() == []
    assert len(left.drain("jobs")) == 5


def test_a_recovered_message_is_delivered_again_with_a_new_tag(client: Client) -> None:
    client.consume("jobs", acks=True)
    client.say(commands.Basic.Recover(requeue=True))

    _recover_ok, *messages = client.replies()

    assert [(message.method.delivery_tag, message.method.redelivered) for message in messages] == [
        (tag, True) for tag in (6, 7, 8, 9, 10)
    ]


@pytest.mark.parametrize("end", ["channel closed", "connection closed", "connection lost", "channel refused"])
def test_what_was_not_settled_goes_back_in_order_and_redelivered(client: Client, left: Client, end: str) -> None:
    client.ack(3)
    left.publish("", "jobs", b"younger")
    if end == "channel closed":
        client.ask(commands.Channel.Close(reply_code=200, reply_text="", class_id=0, method_id=0))
    elif end == "connection closed":
        client.ask(commands.Connection.Close(reply_code=200, reply_text="", class_id=0, method_id=0), 0)
    elif end == "connection lost":
        client.disconnect()
    else:
        client.ack(99)

    messages = [left.get("jobs") for _ in range(5)]

    assert [(message.body, message.method.redelivered) for message in messages if message] == [
        (b"0", True),
        (b"1", True),
        (b"3", True),
        (b"4", True),
        (b"younger", False),
    ]


def test_messages_of_several_queues_go_back_each_to_its_own(client: Client, left: Client) -> None:
    left.declare("more")
    left.publish("", "more", b"other")
    assert client.get("more", acks=True) is not None

    client.disconnect()

    assert left.drain("more") == [b"other"]
    assert len(left.drain("jobs")) == 5


def test_settling_what_came_from_a_deleted_queue_is_fine(client: Client, left: Client) -> None:
    left.ask(commands.Queue.Delete(queue="jobs"))
    client.ack(1)
    client.nack(2)
    client.ask(commands.Basic.Recover(requeue=True))

    assert left.declare("jobs", durable=True).message_count == 0


def test_an_auto_delete_queue_gives_its_messages_to_others_before_it_goes(world: World) -> None:
    first, second = world.client().open(), world.client().open()
    first.declare("jobs", auto_delete=True)
    first.prefetch(2)
    first.consume("jobs", acks=True)
    first.publish("", "jobs", b"0")
    first.publish("", "jobs", b"1")
    second.consume("jobs")

    first.disconnect()

    assert second.bodies() == [b"0", b"1"]


def test_what_was_acknowledged_stays_gone_after_a_restart(world: World, client: Client) -> None:
    client.ack(2)
    client.nack(4, requeue=False)

    after = world.restart()
    found = after.client().open().drain("jobs")
    after.close()

    assert found == [b"0", b"2", b"4"]
