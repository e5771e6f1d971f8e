"""Direct reply-to: answers come straight to whoever asked, through a name that only the question carries."""

import pytest
from pamqp import commands

from ipc.limits import LARGE_BODY_BYTES
from ipc.settings import ConnectionSettings
from ipc.wire.amqp.properties import REPLY_QUEUES
from tests.protocols.conversation import Client, World

PSEUDO_QUEUE = REPLY_QUEUES[0]


@pytest.fixture
def asker(world: World) -> Client:
    asker = world.client().open()
    asker.declare("questions")
    return asker


@pytest.fixture
def answerer(world: World, asker: Client) -> Client:
    return world.client().open()


def ask(asker: Client, pseudo_queue: str = PSEUDO_QUEUE, *, body: bytes = b"why?", channel: int = 1) -> None:
    properties = commands.Basic.Properties(correlation_id="7", reply_to=pseudo_queue, app_id="tests")
    asker.publish("", "questions", body, properties=properties, channel=channel)


def reply_to(answerer: Client) -> str:
    """Where the next question wants to have its answer."""
    question = answerer.get("questions")
    assert question is not None
    properties = commands.Basic.Properties()
    properties.unmarshal(int.from_bytes(question.header[12:14], "big"), question.header[14:])
    assert (properties.correlation_id, properties.app_id) == ("7", "tests")
    return str(properties.reply_to)


@pytest.mark.parametrize("pseudo_queue", REPLY_QUEUES)
@pytest.mark.parametrize("size_bytes", [0, 10, LARGE_BODY_BYTES])
def test_an_answer_comes_to_whoever_asked(asker: Client, answerer: Client, pseudo_queue: str, size_bytes: int) -> None:
    assert asker.consume(pseudo_queue, tag="me") == "me"
    for _ in range(3):  # the second time by the fast way
        ask(asker, pseudo_queue)
        name = reply_to(answerer)
        answerer.publish("", name, bytes(size_bytes), mandatory=True)

        (answer,) = asker.deliveries()
        assert (answer.method.consumer_tag, answer.method.routing_key) == ("me", name)
        assert (answer.method.exchange, answer.method.redelivered) == ("", False)
        assert answer.body == bytes(size_bytes)
    assert answerer.replies() == []


def test_the_name_for_answers_begins_with_the_pseudo_queues(asker: Client, answerer: Client) -> None:
    asker.consume(PSEUDO_QUEUE)
    ask(asker)

    name = reply_to(answerer)

    assert name.startswith(f"{PSEUDO_QUEUE}.")
    assert len(name.encode()) <= 255


def test_each_channel_has_its_own_answers(asker: Client, answerer: Client) -> None:
    asker.open(2)
    for channel, tag in ((1, "one"), (2, "two")):
        asker.consume(PSEUDO_QUEUE, tag=tag, channel=channel)
        ask(asker, channel=channel)
    for answer in (b"first", b"second"):
        answerer.publish("", reply_to(answerer), answer)

    answers = [(channel, message.method.consumer_tag, message.body) for channel, message in asker.heard()]

    assert answers == [(1, "one", b"first"), (2, "two", b"second")]


def test_who_asks_must_listen_first(asker: Client) -> None:
    ask(asker)

    (close,) = asker.replies()
    assert close.reply_code == 406
    assert close.reply_text == "PRECONDITION_FAILED - fast reply consumer does not exist"


def test_who_has_stopped_listening_may_not_ask(asker: Client) -> None:
    asker.consume(PSEUDO_QUEUE, tag="me")
    asker.ask(commands.Basic.Cancel(consumer_tag="me"))
    ask(asker)

    assert asker.refusal() == ("channel", 406)


def test_answers_cannot_be_acknowledged(asker: Client) -> None:
    reply = asker.ask(commands.Basic.Consume(queue=PSEUDO_QUEUE, no_ack=False))

    assert reply.reply_text == "PRECONDITION_FAILED - reply consumer cannot acknowledge"


def test_a_channel_listens_for_answers_once(asker: Client) -> None:
    asker.consume(PSEUDO_QUEUE)
    reply = asker.ask(commands.Basic.Consume(queue=REPLY_QUEUES[1], no_ack=True))

    assert reply.reply_text == "PRECONDITION_FAILED - reply consumer already set"


def test_a_consumer_tag_is_used_once_for_answers_too(asker: Client) -> None:
    asker.consume("questions", tag="me")
    asker.say(commands.Basic.Consume(queue=PSEUDO_QUEUE, consumer_tag="me", no_ack=True))

    assert asker.refusal() == ("connection", 530)


def test_a_channel_may_listen_again_and_old_names_lead_nowhere(asker: Client, answerer: Client) -> None:
    asker.consume(PSEUDO_QUEUE, tag="me")
    ask(asker)
    old = reply_to(answerer)
    answerer.publish("", old, b"because")
    assert asker.bodies() == [b"because"]
    asker.ask(commands.Basic.Cancel(consumer_tag="me"))
    asker.consume(PSEUDO_QUEUE, tag="me")
    ask(asker)

    answerer.publish("", old, b"too late")
    answerer.publish("", reply_to(answerer), b"in time")

    assert asker.bodies() == [b"in time"]


@pytest.mark.parametrize("end", ["cancelled", "channel closed", "connection lost"])
def test_an_answer_nobody_waits_for_is_dropped_or_returned(
    world: World, asker: Client, answerer: Client, end: str
) -> None:
    asker.consume(PSEUDO_QUEUE, tag="me")
    ask(asker)
    name = reply_to(answerer)
    answerer.publish("", name, b"in time", mandatory=True)
    assert asker.bodies() == [b"in time"]
    if end == "cancelled":
        asker.ask(commands.Basic.Cancel(consumer_tag="me"))
    elif end == "channel closed":
        asker.say(commands.Channel.Close(200, "", 0, 0))
    else:
        asker.disconnect()

    answerer.publish("", name, b"too late")
    answerer.publish("", name, b"too late", mandatory=True)

    (returned,) = answerer.replies()
    assert (returned.method.reply_code, returned.method.routing_key) == (312, name)
    assert [queue.name for queue in world.vhost.queues()] == ["questions"]
    assert not world.vhost.has_replies(name)


def test_declaring_a_name_tells_whether_somebody_waits_under_it(asker: Client, answerer: Client) -> None:
    asker.consume(PSEUDO_QUEUE, tag="me")
    ask(asker)
    name = reply_to(answerer)

    for declared in (PSEUDO_QUEUE, name):
        for passive in (True, False):
            reply = answerer.declare(declared, passive=passive)
            assert (reply.queue, reply.message_count, reply.consumer_count) == (declared, 0, 1)
    asker.disconnect()
    answerer.say(commands.Queue.Declare(queue=name, passive=True))
    (close,) = answerer.replies()
    assert close.reply_text == f"NOT_FOUND - no queue '{name}' in vhost '/'"


def test_nobody_else_can_take_answers_or_bind_their_queue(asker: Client, answerer: Client) -> None:
    asker.consume(PSEUDO_QUEUE)
    ask(asker)
    name = reply_to(answerer)
    bind = commands.Queue.Bind(queue=name, exchange="amq.fanout")
    get = commands.Basic.Get(queue=name)

    for channel, method in enumerate((get, commands.Basic.Consume(queue=name), bind), 2):
        answerer.open(channel).say(method, channel)
        assert answerer.refusal() == ("channel", 404)
    assert answerer.ask(commands.Queue.Delete(queue=name)).message_count == 0
    answerer.publish("", name, b"because")
    assert asker.bodies() == [b"because"]


def test_the_pseudo_queue_itself_leads_nowhere(asker: Client) -> None:
    asker.consume(PSEUDO_QUEUE)
    asker.publish("", PSEUDO_QUEUE, b"hello?", mandatory=True)

    (returned,) = asker.replies()
    assert returned.method.reply_code == 312


def test_answers_wait_for_a_client_that_does_not_read_without_filling_memory(world: World, answerer: Client) -> None:
    world.settings = ConnectionSettings(outbox_bytes_high=1000, outbox_bytes_low=100)
    slow = world.client().open()
    slow.consume(PSEUDO_QUEUE)
    ask(slow)
    name = reply_to(answerer)
    slow.reads = False

    for number in range(50):
        answerer.publish("", name, bytes((number,)) * 500)

    assert len(slow.connection.outbox.buffer) < 2000
    slow.reads = True
    world.finish_turn()
    assert [body[0] for body in slow.bodies()] == list(range(50))


def test_answers_may_be_confirmed(asker: Client, answerer: Client) -> None:
    asker.consume(PSEUDO_QUEUE)
    ask(asker)
    name = reply_to(answerer)
    answerer.ask(commands.Confirm.Select())

    answerer.publish("", name, b"because", persistent=True)

    (ack,) = answerer.replies()
    assert ack.delivery_tag == 1
    assert asker.bodies() == [b"because"]
