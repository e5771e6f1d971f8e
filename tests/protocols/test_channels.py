"""Channels open and close from both sides, and one that is refused leaves its siblings alone."""

import pytest
from pamqp import commands

from ipc.wire.amqp.methods import Method
from tests.protocols.conversation import Client, World, content


@pytest.fixture
def client(world: World) -> Client:
    return world.client().open()


def channel_close() -> commands.Channel.Close:
    return commands.Channel.Close(reply_code=200, reply_text="bye", class_id=0, method_id=0)


def refuse(client: Client, channel: int = 1) -> None:
    """Have the broker close a channel, and do not answer yet."""
    client.say(commands.Queue.Declare(queue="nowhere", passive=True), channel)
    assert client.refusal() == ("channel", 404)


def test_a_channel_opens_and_closes_and_opens_again(client: Client) -> None:
    assert isinstance(client.ask(channel_close()), commands.Channel.CloseOk)
    assert isinstance(client.ask(commands.Channel.Open()), commands.Channel.OpenOk)


def test_one_channel_more_than_was_negotiated_is_refused(world: World) -> None:
    client = world.client(channel_max=2).open(1).open(2)

    reply = client.ask(commands.Channel.Open(), 3)

    assert isinstance(reply, commands.Connection.Close)
    assert reply.reply_code == 530
    assert reply.reply_text == "NOT_ALLOWED - number of channels opened (2) has reached the negotiated channel_max (2)"


def test_a_channel_that_was_closed_makes_room_for_another(world: World) -> None:
    client = world.client(channel_max=2).open(1).open(2)
    client.ask(channel_close(), 1)

    assert isinstance(client.ask(commands.Channel.Open(), 3), commands.Channel.OpenOk)


@pytest.mark.parametrize("method", [commands.Channel.Open(), channel_close(), commands.Basic.Qos()])
def test_channel_0_is_the_connections_own(client: Client, method: Method) -> None:
    client.say(method, 0)

    assert client.refusal() == ("connection", 504)


@pytest.mark.parametrize("method", [commands.Connection.Close(200, "", 0, 0), commands.Connection.CloseOk()])
def test_what_is_the_connections_own_is_refused_on_a_channel(client: Client, method: Method) -> None:
    client.say(method, 1)

    assert client.refusal() == ("connection", 503)


@pytest.mark.parametrize("number", [2047, 2048, 65535])
def test_a_channel_may_have_any_number(client: Client, number: int) -> None:
    """RabbitMQ counts channels instead of looking at their numbers, and the suite of aiormq asks for the last."""
    assert isinstance(client.ask(commands.Channel.Open(), number), commands.Channel.OpenOk)


def test_a_channel_cannot_be_opened_twice(client: Client) -> None:
    client.say(commands.Channel.Open())

    assert client.refusal() == ("connection", 504)


def test_a_refusal_names_the_method_that_was_refused(client: Client) -> None:
    reply = client.ask(commands.Queue.Declare(queue="nowhere", passive=True))

    assert (reply.class_id, reply.method_id) == (50, 10)
    assert reply.reply_text == "NOT_FOUND - no queue 'nowhere' in vhost '/'"


def test_a_refused_channel_leaves_its_siblings_alone(client: Client) -> None:
    client.open(2)
    refuse(client)

    assert client.declare("jobs", channel=2).queue == "jobs"


def test_everything_on_a_refused_channel_is_ignored_until_the_client_knows(client: Client) -> None:
    client.declare("jobs")
    refuse(client)

    client.publish("", "jobs", b"lost")
    client.say(commands.Basic.Get(queue="jobs"))
    client.say(commands.Basic.Ack(delivery_tag=1))
    assert client.replies() == []

    client.say(commands.Channel.CloseOk())
    assert client.replies() == []
    client.open()
    assert client.get("jobs") is None


def test_content_of_a_refused_publish_is_ignored(client: Client) -> None:
    client.send(content("nowhere", "", b"x" * 10_000))
    assert client.refusal() == ("channel", 404)

    client.say(commands.Channel.CloseOk())
    client.open()
    assert client.declare("jobs").queue == "jobs"


def test_both_sides_may_close_a_channel_at_once(client: Client) -> None:
    refuse(client)

    assert isinstance(client.ask(channel_close()), commands.Channel.CloseOk)
    client.say(commands.Channel.CloseOk())
    assert client.replies() == []
    client.open()


def test_a_channel_number_is_taken_until_the_client_has_answered(client: Client) -> None:
    refuse(client)
    client.say(commands.Channel.Open())

    assert client.refusal() == ("connection", 504)


def test_a_channel_closed_in_the_middle_of_a_message_forgets_it(client: Client) -> None:
    client.declare("jobs")
    client.send(content("", "jobs", b"dig")[:-11])  # all but its body frame

    assert isinstance(client.ask(channel_close()), commands.Channel.CloseOk)
    client.open()
    client.publish("", "jobs", b"whole")
    assert client.drain("jobs") == [b"whole"]


def test_closing_a_channel_ends_its_consumers(world: World, client: Client) -> None:
    queue = world.client().open().declare("jobs").queue
    client.consume(queue)
    client.ask(channel_close())

    client.open().publish("", queue, b"dig")

    assert client.replies() == []
    assert client.drain(queue) == [b"dig"]


def test_messages_of_many_channels_may_interleave(client: Client) -> None:
    client.open(2).declare("jobs")
    one, two = content("", "jobs", b"one", channel=1), content("", "jobs", b"two", channel=2)

    client.send(_interleaved(one, two))

    assert sorted(client.drain("jobs")) == [b"one", b"two"]


def _interleaved(one: bytes, two: bytes) -> bytes:
    cut = one.index(b"\xce\x02") + 1
    assert two.index(b"\xce\x02") + 1 == cut
    return one[:cut] + two[:cut] + two[cut:] + one[cut:]


def test_flow_stops_deliveries_of_one_channel(client: Client) -> None:
    client.open(2).declare("jobs")
    client.consume("jobs")
    assert client.ask(commands.Channel.Flow(active=False)).active is False

    client.publish("", "jobs", b"dig", channel=2)
    assert client.replies() == []

    client.say(commands.Channel.Flow(active=True))
    reply, message = client.replies()
    assert reply.active is True
    assert message.body == b"dig"


def test_an_answer_to_a_flow_nobody_sent_is_harmless(client: Client) -> None:
    client.say(commands.Channel.FlowOk(active=True))

    assert client.replies() == []
